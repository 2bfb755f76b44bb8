"""Checks of tensors, numbers, names and flags, each with its sentence."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from typing import Any

import torch

from syncattn._typing import Tensor
from syncattn._validation.numbers import require_values

_LARGEST = 2**53
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def shape_of(tensor: Tensor) -> str:
    """Returns the shape of a tensor as a sentence shows it.

    Args:
        tensor: Any tensor.
    """
    return "(" + ", ".join(str(n) for n in tensor.shape) + ")"


def require_tensor(tensor: Any, name: str, axes: str) -> None:
    """Refuses what is not a floating tensor with the named axes.

    Args:
        tensor: The argument.
        name: Its name.
        axes: Its axes, separated by spaces.

    Raises:
        TypeError: If it is not a tensor, or not of a floating dtype.
        ValueError: If its rank differs.
    """
    require_floating(tensor, name)
    if tensor.dim() != len(axes.split()):
        raise ValueError(
            f"`{name}` must have the axes ({', '.join(axes.split())}); got shape "
            f"{shape_of(tensor)}. Reshape it to rank {len(axes.split())}."
        )


def require_floating(tensor: Any, name: str) -> None:
    """Refuses what is not a floating tensor, of whatever shape.

    Args:
        tensor: The argument.
        name: Its name.

    Raises:
        TypeError: If it is not a tensor, or not of a floating dtype.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(
            f"`{name}` must be a torch.Tensor; got {type(tensor).__name__}. "
            f"Convert it with torch.as_tensor first."
        )
    if tensor.dtype not in FLOATS:
        raise TypeError(
            f"`{name}` must be float64, float32, bfloat16 or float16; got {tensor.dtype}. "
            f"Call .float() on it."
        )


def require_counts(tensor: Any, name: str, remedy: str) -> None:
    """Refuses what is not a tensor of integers.

    Args:
        tensor: The argument.
        name: Its name.
        remedy: What to do, one sentence.

    Raises:
        TypeError: If it is not a tensor, or not of an integer dtype.
    """
    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in INTEGERS:
        raise TypeError(
            f"`{name}` must be a tensor of integers; got "
            f"{getattr(tensor, 'dtype', type(tensor).__name__)}. {remedy}"
        )


def require_coordinates(tensor: Tensor, name: str) -> None:
    """Refuses points of a space without dimensions.

    Args:
        tensor: The argument, its coordinates last.
        name: Its name.

    Raises:
        ValueError: If the last axis is empty.
    """
    if tensor.shape[-1] == 0:
        raise ValueError(
            f"`{name}` must have at least one coordinate; got shape {shape_of(tensor)}. Its last "
            f"axis counts them."
        )


def require_same(first: Tensor, first_name: str, second: Tensor, second_name: str, axis: int,
                 axis_name: str) -> None:  # fmt: skip
    """Refuses two tensors whose sizes differ along one axis.

    Args:
        first: The tensor that sets the size.
        first_name: Its name.
        second: The tensor that must follow.
        second_name: Its name.
        axis: The axis, counted alike in both.
        axis_name: What the axis is called.

    Raises:
        ValueError: If the sizes differ.
    """
    if first.shape[axis] != second.shape[axis]:
        raise ValueError(
            f"`{second_name}` must have as many {axis_name} as `{first_name}`; "
            f"got {second.shape[axis]} and {first.shape[axis]}. "
            f"Shapes were {shape_of(second)} and {shape_of(first)}."
        )


def require_together(tensors: dict[str, Tensor]) -> None:
    """Refuses tensors that lie on different devices.

    Args:
        tensors: The tensors by name.

    Raises:
        ValueError: If two devices differ.
    """
    devices = {name: tensor.device for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"`{name}` on {device}" for name, device in devices.items())
        raise ValueError(
            f"All tensors must be on one device; got {listed}. Move them with .to(device)."
        )


def require_fitting(tensors: dict[str, Any]) -> None:
    """Refuses what are not floating tensors with values that broadcast against each other.

    Args:
        tensors: The arguments by name.

    Raises:
        TypeError: If one is not a tensor, or not of a floating dtype.
        ValueError: If shapes or devices do not fit, or a tensor has no values at all.
    """
    for name, tensor in tensors.items():
        require_floating(tensor, name)
        require_values(tensor, name)
    require_together(tensors)
    try:
        torch.broadcast_shapes(*(tensor.shape for tensor in tensors.values()))
    except RuntimeError:
        listed = ", ".join(f"`{name}` {shape_of(x)}" for name, x in tensors.items())
        raise ValueError(
            f"The shapes must broadcast against each other; got {listed}. Add axes of size 1."
        ) from None


def require_choice(value: Any, name: str, choices: Collection[Any]) -> None:
    """Refuses a value that is not among the choices.

    Args:
        value: The argument.
        name: Its name.
        choices: What is allowed.

    Raises:
        ValueError: If it is none of them.
    """
    # What cannot be hashed, or compares element by element, is none of them.
    if (value is not None and not isinstance(value, str | int | float)) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {listed}; got {value!r}. Choose one of these.")


def require_integer(value: Any, name: str, *, minimum: int) -> None:
    """Refuses what is not an integer of at least `minimum`.

    Args:
        value: The argument.
        name: Its name.
        minimum: The smallest value allowed.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is too small, or larger than a float64 can count.
    """
    if isinstance(value, bool) or not isinstance(value, int | torch.SymInt):
        raise TypeError(
            f"`{name}` must be an integer; got {value!r} of type {type(value).__name__}. "
            f"Pass a whole number of at least {minimum}."
        )
    if value < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}; got {value}. Raise it.")
    if isinstance(value, int) and value > _LARGEST:
        raise ValueError(f"`{name}` must be at most {_LARGEST}; got {value}. Lower it.")


def require_number(
    value: Any,
    name: str,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    exclusive: bool = False,
) -> None:
    """Refuses what is not a finite number inside an interval.

    Args:
        value: The argument.
        name: Its name.
        minimum: Lower end.
        maximum: Upper end.
        exclusive: True when the ends themselves are refused.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it lies outside.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = type(value).__name__
        raise TypeError(f"`{name}` must be a number; got {value!r} of type {kind}. Pass a float.")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError(f"`{name}` must be at most {_LARGEST}; got {value}. Pass a float.")
    inside = minimum < value < maximum if exclusive else minimum <= value <= maximum
    if not inside or not math.isfinite(value):
        kind = "strictly between" if exclusive else "between"
        raise ValueError(
            f"`{name}` must be finite and {kind} {minimum:g} and {maximum:g}; got {value:g}. "
            f"Choose a value inside."
        )


def require_flag(value: Any, name: str) -> None:
    """Refuses what is not True or False.

    Args:
        value: The argument.
        name: Its name.

    Raises:
        TypeError: If it is something else.
    """
    if not isinstance(value, bool | torch.SymBool):
        raise TypeError(
            f"`{name}` must be True or False; got {value!r} of type {type(value).__name__}. "
            f"Convert it with bool()."
        )


def require_path(value: Any, name: str = "path") -> None:
    """Refuses what cannot name a file.

    Args:
        value: The argument.
        name: Its name.

    Raises:
        TypeError: If it is neither a text nor a path.
        ValueError: If it holds a null character, which no system allows.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(
            f"`{name}` must be a text or a path; got {type(value).__name__}. Name the file."
        )
    if "\0" in os.fsdecode(value):
        raise ValueError(f"`{name}` must be without null characters; got one. Check the name.")


def require_instance(value: Any, name: str, kind: type, remedy: str) -> None:
    """Refuses what is not of a class.

    Args:
        value: The argument.
        name: Its name.
        kind: The class.
        remedy: What to do, one sentence.

    Raises:
        TypeError: If it is of another class.
    """
    if not isinstance(value, kind):
        raise TypeError(
            f"`{name}` must be of {kind.__name__}; got {type(value).__name__}. {remedy}"
        )


def require_divisible(total: int, total_name: str, part: int, part_name: str) -> None:
    """Refuses a total that does not divide into equal parts.

    Args:
        total: What is divided.
        total_name: Its name.
        part: Number of parts.
        part_name: Its name.

    Raises:
        TypeError: If one is not an integer.
        ValueError: If one is smaller than 1, or a remainder is left.
    """
    require_integer(total, total_name, minimum=1)
    require_integer(part, part_name, minimum=1)
    if total % part:
        lower, upper = total - total % part, total + part - total % part
        raise ValueError(
            f"`{total_name}` must be a multiple of `{part_name}`; got {total} and {part}. "
            f"Use {lower or upper} or {upper}, or another number of parts."
        )
