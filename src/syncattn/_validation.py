"""Every argument check and its sentence, in one place."""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import pairwise
from typing import Any

import torch

from syncattn._masks import Visibility, segments
from syncattn._typing import Tensor

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def _shape(tensor: Tensor) -> str:
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
    if tensor.dim() != len(axes.split()):
        raise ValueError(
            f"`{name}` must have the axes ({', '.join(axes.split())}); got shape {_shape(tensor)}. "
            f"Reshape it to rank {len(axes.split())}."
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
            f"Shapes were {_shape(second)} and {_shape(first)}."
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


def require_finite(tensor: Tensor, name: str) -> None:
    """Refuses NaN and infinity where looking is free of a device synchronization.

    On an accelerator, and under torch.compile, nothing is looked at and a NaN spreads as NaN.

    Args:
        tensor: The argument, hidden positions already blanked.
        name: Its name.

    Raises:
        ValueError: If a value is NaN or infinite.
    """
    if torch.compiler.is_compiling() or tensor.device.type != "cpu":
        return
    # One reduction instead of a mask of the tensor's size: any NaN or infinity survives the sum
    # of zero multiples.
    if not math.isfinite((tensor.detach() * 0).sum(dtype=torch.float32).item()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise ValueError(
            f"`{name}` must be finite wherever it is visible; got {bad} NaN or infinite values of "
            f"{tensor.numel()}. Look for overflow upstream, or hide those positions with a mask."
        )


def require_choice(value: Any, name: str, choices: Collection[Any]) -> None:
    """Refuses a value that is not among the choices.

    Args:
        value: The argument.
        name: Its name.
        choices: What is allowed.

    Raises:
        ValueError: If it is none of them.
    """
    if value not in choices:
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
        ValueError: If it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int | torch.SymInt):
        raise TypeError(
            f"`{name}` must be an integer; got {value!r} of type {type(value).__name__}. "
            f"Pass a whole number of at least {minimum}."
        )
    if value < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}; got {value}. Raise it.")


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
        raise TypeError(
            f"`{name}` must be a number; got {value!r} of type {type(value).__name__}. "
            f"Pass a Python float."
        )
    inside = minimum < value < maximum if exclusive else minimum <= value <= maximum
    if not inside or not math.isfinite(value):
        kind = "strictly between" if exclusive else "between"
        raise ValueError(
            f"`{name}` must be finite and {kind} {minimum:g} and {maximum:g}; got {value:g}. "
            f"Choose a value inside."
        )


def require_divisible(total: int, total_name: str, part: int, part_name: str) -> None:
    """Refuses a total that does not divide into equal parts.

    Args:
        total: What is divided.
        total_name: Its name.
        part: Number of parts.
        part_name: Its name.

    Raises:
        ValueError: If a remainder is left.
    """
    if total % part:
        lower, upper = total - total % part, total + part - total % part
        raise ValueError(
            f"`{total_name}` must be a multiple of `{part_name}`; got {total} and {part}. "
            f"Use {lower or upper} or {upper}, or another number of parts."
        )


def require_positive(tensor: Tensor, name: str) -> None:
    """Refuses a tensor with a value that is not above 0, where looking is free.

    Args:
        tensor: The argument.
        name: Its name.

    Raises:
        ValueError: If a value is 0, negative or NaN.
    """
    if torch.compiler.is_compiling() or tensor.device.type != "cpu" or tensor.numel() == 0:
        return
    smallest = tensor.detach().min().item()
    if not smallest > 0:
        raise ValueError(
            f"`{name}` must be positive; got {smallest:g}. Pass a positive value, for example "
            f"through softplus."
        )


def require_visibility(
    query: Tensor,
    key: Tensor,
    *,
    attn_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    is_causal: bool = False,
    exclude_self: bool = False,
) -> Visibility:
    """Checks the masks of an operator and returns them as one value.

    Args:
        query: ``(batch, heads, queries, …)``.
        key: ``(batch, heads, keys, …)``.
        attn_mask: Boolean, broadcastable to ``(batch, heads, queries, keys)``.
        key_mask: Boolean ``(batch, keys)``, True where a key is real.
        cu_seqlens: Cumulative lengths of packed sequences, from 0 to the number of keys.
        is_causal: Whether the future is hidden.
        exclude_self: Whether a token is hidden from itself.

    Returns:
        Who sees whom.

    Raises:
        ValueError: If shapes do not fit, or two descriptions conflict.
        TypeError: If a mask is not boolean.
    """
    batch, heads, num_queries, num_keys = *query.shape[:3], key.shape[2]
    if is_causal and num_queries > num_keys:
        raise ValueError(
            f"`is_causal` needs at most as many queries as keys; got {num_queries} and {num_keys}. "
            f"Queries are the last tokens of the keys: pass all keys."
        )
    segment = None
    if cu_seqlens is not None:
        if attn_mask is not None or key_mask is not None:
            other = "attn_mask" if attn_mask is not None else "key_mask"
            raise ValueError(
                f"`cu_seqlens` must come without `{other}`; got both. Packed sequences have no "
                f"padding: drop the mask, or unpack the sequences."
            )
        segment = _require_segments(cu_seqlens, batch, num_queries, num_keys)
    if key_mask is not None:
        _require_boolean(key_mask, "key_mask")
        if key_mask.shape != (batch, num_keys):
            raise ValueError(
                f"`key_mask` must have shape ({batch}, {num_keys}), batch and keys; "
                f"got {_shape(key_mask)}. True marks a real key."
            )
    if attn_mask is not None:
        _require_boolean(attn_mask, "attn_mask")
        target = (batch, heads, num_queries, num_keys)
        try:
            fits = torch.broadcast_shapes(attn_mask.shape, target) == target
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"`attn_mask` must broadcast to {target}, batch, heads, queries and keys; "
                f"got {_shape(attn_mask)}. Add axes of size 1 where it is shared."
            )
        attn_mask = attn_mask.reshape((1,) * (4 - attn_mask.dim()) + attn_mask.shape)
    return Visibility(num_queries, num_keys, is_causal, key_mask, segment, attn_mask, exclude_self)


def _require_boolean(mask: Any, name: str) -> None:
    if not isinstance(mask, torch.Tensor) or mask.dtype is not torch.bool:
        got = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise TypeError(
            f"`{name}` must be a boolean tensor, True where attention is allowed; got {got}. "
            f"Weights are not logits: compare an additive mask with 0 first."
        )


def _require_segments(cu_seqlens: Tensor, batch: int, num_queries: int, num_keys: int) -> Tensor:
    if batch != 1 or num_queries != num_keys:
        raise ValueError(
            f"`cu_seqlens` needs one packed row with as many queries as keys; got batch {batch}, "
            f"{num_queries} queries and {num_keys} keys. Concatenate the sequences along the "
            f"length."
        )
    if cu_seqlens.dim() != 1 or cu_seqlens.dtype not in {torch.int32, torch.int64}:
        raise ValueError(
            f"`cu_seqlens` must be a one-dimensional int32 or int64 tensor; got shape "
            f"{_shape(cu_seqlens)} and {cu_seqlens.dtype}. Use torch.cumsum of the lengths."
        )
    if not torch.compiler.is_compiling():
        ends = cu_seqlens.tolist()
        rising = all(a <= b for a, b in pairwise(ends))
        if len(ends) < 2 or ends[0] != 0 or ends[-1] != num_keys or not rising:
            raise ValueError(
                f"`cu_seqlens` must rise from 0 to the number of keys, {num_keys}; got {ends}. "
                f"Prepend 0 to the cumulative lengths."
            )
    return segments(cu_seqlens, num_keys)
