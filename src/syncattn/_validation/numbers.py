"""Checks that look at the numbers inside a tensor, each with its sentence."""

from __future__ import annotations

import math

import torch

from syncattn._typing import Tensor

_SLACK = 0.02
"""What half precision may add to a sum of unit vectors."""


def require_values(tensor: Tensor, name: str) -> None:
    """Refuses a tensor on the meta device, of which nothing but the shape is known.

    Args:
        tensor: The argument.
        name: Its name.

    Raises:
        ValueError: If it has no values.
    """
    if tensor.device.type == "meta":
        raise ValueError(
            f"`{name}` must hold values; got a tensor on the meta device. Pass one on another."
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


class OverflowedError(ValueError):
    """Finite arguments gave a result that is not: in a training, it has diverged."""


def require_computed(out: Tensor, *names: str, of: Tensor | None = None) -> None:
    """Refuses a result that finite arguments made infinite, where looking is free.

    Args:
        out: What was computed.
        names: The arguments whose size decides.
        of: The argument, where hidden positions may hold anything; None where it is known finite.

    Raises:
        OverflowedError: If a value is NaN or infinite.
    """
    if torch.compiler.is_compiling() or out.device.type != "cpu":
        return
    # A sum may overflow where every term is finite, so it only says where to look closely.
    if math.isfinite(out.detach().sum().item()) or bool(out.isfinite().all()):
        return
    if of is None or bool(of.isfinite().all()):
        raise OverflowedError(
            f"{' and '.join(f'`{name}`' for name in names)} must be small enough for what is made "
            f"of them to fit {out.dtype}; got values that overflow. Scale them down."
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
    if not (smallest := tensor.detach().min().item()) > 0:
        raise ValueError(
            f"`{name}` must be positive; got {smallest:g}. Pass a positive value, for example "
            f"through softplus."
        )


def require_share(tensor: Tensor, name: str) -> None:
    """Refuses a tensor with a value outside of [0, 1], but for rounding, where looking is free.

    Args:
        tensor: The argument, known to be finite.
        name: Its name.

    Raises:
        ValueError: If a value is below 0 or above 1.
    """
    if torch.compiler.is_compiling() or tensor.device.type != "cpu" or tensor.numel() == 0:
        return
    smallest, largest = (value.item() for value in tensor.detach().aminmax())
    if smallest < -_SLACK or largest > 1 + _SLACK:
        raise ValueError(
            f"`{name}` must be between 0 and 1; got {smallest:g} to {largest:g}. Pass the modulus "
            f"of a mean of unit vectors."
        )
