"""What every system refuses: parameters, noise and states that cannot be meant."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from syncattn import _validation as check
from syncattn._typing import Tensor

__all__ = ["require_batch", "require_noise", "require_parameter", "require_state"]


def require_parameter(value: object, name: str, *, minimum: float = -math.inf) -> None:
    """Refuses a parameter that is neither a finite number nor a finite floating tensor.

    Args:
        value: The parameter.
        name: Its name.
        minimum: The smallest value allowed.

    Raises:
        ValueError: If a value is not finite or too small.
    """
    if not isinstance(value, Tensor):
        check.require_number(value, name, minimum=minimum)
        return
    check.require_tensor(value, name, " ".join(f"axis{i}" for i in range(value.dim())))
    check.require_values(value, name)
    check.require_finite(value, name)
    if value.numel() and value.min().item() < minimum:
        raise ValueError(
            f"`{name}` must be at least {minimum:g}; got {value.min().item():g}. Raise it."
        )


def require_noise(value: object) -> None:
    """Refuses a noise intensity that is not a finite number of at least 0.

    Args:
        value: The intensity.

    Raises:
        ValueError: If it is negative or not finite.
    """
    if isinstance(value, int | float) and not 0 <= value < math.inf:
        raise ValueError(
            f"`noise_intensity` is a variance per unit time and must be finite and at least 0; "
            f"got {value:g}. Pass 0 for no noise."
        )
    check.require_number(value, "noise_intensity", minimum=0.0)


def require_state(state: Tensor, like: Tensor) -> None:
    """Refuses a state of another dtype or device than the parameters, or one that is not finite.

    Args:
        state: The state.
        like: A parameter of the system.

    Raises:
        TypeError: If it is not a floating tensor, or dtype or device differ.
        ValueError: If a value is not finite.
    """
    check.require_floating(state, "state")
    if state.dtype != like.dtype or state.device != like.device:
        raise TypeError(
            f"`state` must have the dtype and device of the system's parameters, {like.dtype} on "
            f"{like.device}; got {state.dtype} on {state.device}. Call .to() on one of them."
        )
    bad = int((~torch.isfinite(state)).sum())
    if bad:
        raise ValueError(
            f"`state` must be finite; got {bad} NaN or infinite values of {state.numel()}. "
            f"Draw one with system.random_state()."
        )


def require_batch(state: Tensor, shape: Sequence[int]) -> None:
    """Refuses a state whose batch the parameters do not broadcast to.

    Args:
        state: The state.
        shape: Shape of a state with the batch of the parameters.

    Raises:
        ValueError: If they do not fit.
    """
    try:
        fits = torch.broadcast_shapes(tuple(state.shape), tuple(shape)) == state.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"`state` must have the batch of the system's parameters, {tuple(shape)} in all; "
            f"got shape {tuple(state.shape)}. Draw one with system.random_state()."
        )
