"""What every system refuses: parameters, noise and states that cannot be meant."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor

__all__ = [
    "in_dtype_of",
    "is_skew",
    "is_symmetric",
    "require_batch",
    "require_frequency",
    "require_noise",
    "require_parameter",
    "require_square",
    "require_state",
]


def is_skew(matrix: Float[Tensor, "*batch dim dim"]) -> bool:
    """Returns whether every matrix is minus its transpose, up to the rounding of its own size.

    Args:
        matrix: Square matrices.

    Returns:
        False if one is not.
    """
    largest = matrix.abs().amax((-2, -1))
    rounding = 8 * math.sqrt(matrix.shape[-1]) * torch.finfo(matrix.dtype).eps
    return not bool(((matrix + matrix.mT).abs().amax((-2, -1)) > rounding * largest).any())


def is_symmetric(coupling: Float[Tensor, "*batch dim dim"]) -> bool:
    """Returns whether every coupling matrix is its transpose, up to a hundred-millionth.

    Args:
        coupling: Square matrices, dense or sparse.

    Returns:
        False if one is not.
    """
    difference, entry = coupling - coupling.mT, coupling
    if coupling.is_sparse:
        difference, entry = difference.coalesce().values(), coupling.coalesce().values()
    largest = entry.abs().amax() if entry.numel() else 0.0
    return not bool((difference.abs() > 1e-8 * largest).any())


def in_dtype_of(like: Tensor, value: float | Tensor) -> float | Tensor:
    """Returns a parameter in the dtype of the states, which it must not change.

    Args:
        like: A parameter that has it.
        value: A number or a tensor.

    Returns:
        The same number, or the tensor converted where it must be.
    """
    return value.to(like.dtype) if isinstance(value, Tensor) else value


def require_parameter(value: object, name: str, *, minimum: float = -math.inf) -> None:
    """Refuses a parameter that is neither a finite number nor a finite floating tensor.

    Args:
        value: The parameter.
        name: Its name.
        minimum: The smallest value allowed.

    Raises:
        ValueError: If there is no value, or one is not finite or too small.
    """
    if not isinstance(value, Tensor):
        check.require_number(value, name, minimum=minimum)
        return
    check.require_tensor(value, name, " ".join(f"axis{i}" for i in range(value.dim())))
    check.require_values(value, name)
    check.require_finite(value, name)
    if value.numel() == 0:
        raise ValueError(
            f"`{name}` must be of at least one oscillator or population; got shape "
            f"{check.shape_of(value)}. Pass a value for each."
        )
    if value.min().item() < minimum:
        raise ValueError(
            f"`{name}` must be at least {minimum:g}; got {value.min().item():g}. Raise it."
        )


def require_frequency(frequency: object) -> None:
    """Refuses natural frequencies without an axis of oscillators, or not finite.

    Args:
        frequency: The natural frequencies.

    Raises:
        ValueError: If there is no oscillator or a value is not finite.
    """
    require_parameter(frequency, "natural_frequency")
    if not isinstance(frequency, Tensor) or not frequency.dim():
        raise ValueError(
            f"`natural_frequency` must be a tensor with one value per oscillator; "
            f"got {frequency!r}. Draw them from a density of syncattn.simulation."
        )


def require_square(coupling: Tensor, number: int) -> None:
    """Refuses couplings that are not square matrices with a row per oscillator.

    Args:
        coupling: The couplings, dense or sparse.
        number: Oscillators.

    Raises:
        ValueError: If the shape does not fit or a value is not finite.
    """
    values = coupling.coalesce().values() if coupling.is_sparse else coupling
    require_parameter(values, "coupling")
    square = coupling.dim() >= 2 and tuple(coupling.shape[-2:]) == (number, number)
    if not square or (coupling.is_sparse and coupling.dim() != 2):
        raise ValueError(
            f"`coupling` must be square with one row per oscillator, {number}, and without a batch "
            f"when sparse; got shape {tuple(coupling.shape)}. Row i holds what pulls oscillator i."
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
