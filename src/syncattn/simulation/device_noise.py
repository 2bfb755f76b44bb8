"""Thermal noise by exact sampling of its stationary law, read noise, and converters."""

from __future__ import annotations

import math

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor

__all__ = [
    "noisy_reading",
    "quantised_cosine",
    "quantised_couplings",
    "quantised_state",
    "uniform_directions",
    "von_mises_fisher",
]


def uniform_directions(
    shape: tuple[int, ...], *, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Returns unit vectors drawn uniformly on the sphere.

    Args:
        shape: Any axes, then the number of components.
        generator: Source of the draws; its device is where they are made.
        dtype: Of the result.

    Returns:
        Unit vectors.
    """
    x = torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=1e-30)


def von_mises_fisher(
    direction: Float[Tensor, "*batch dim"],
    concentration: Float[Tensor, "*batch"],
    *,
    generator: torch.Generator,
) -> Float[Tensor, "*batch dim"]:
    r"""Returns one exact draw per direction from the density :math:`\propto e^{\kappa e \cdot x}`.

    This is the stationary law of :math:`dx = P_x h\,dt + \sqrt{2D}\,P_x \circ dB` with
    :math:`\kappa = |h|/D`.

    Args:
        direction: Unit vectors :math:`e`; a vector of 0 has no direction and gives a uniform draw.
        concentration: :math:`\kappa \ge 0`; infinity draws the direction itself.
        generator: Source of the draws, on the device of the tensors.

    Returns:
        Unit vectors in the dtype of `direction`.

    Raises:
        TypeError: If an argument is not a floating tensor.
        ValueError: If shapes do not fit, a direction has fewer than two coordinates, or a
            concentration is negative or NaN.

    References:
        | Simulation of the von Mises Fisher distribution (Wood, 1994), after Ulrich (1984)
    """
    check.require_floating(direction, "direction")
    if direction.dim() == 0 or direction.shape[-1] < 2:
        raise ValueError(
            f"`direction` must have at least two coordinates; got shape {tuple(direction.shape)}. "
            f"On a line there is nothing to turn."
        )
    check.require_fitting({"concentration": concentration, "direction": direction[..., 0]})
    if torch.broadcast_shapes(concentration.shape, direction.shape[:-1]) != direction.shape[:-1]:
        raise ValueError(
            f"`concentration` must broadcast to one number per direction, "
            f"{tuple(direction.shape[:-1])}; got {tuple(concentration.shape)}. Expand `direction`."
        )
    if not bool((concentration >= 0).all()):
        raise ValueError(
            f"`concentration` must be numbers of at least 0; got {concentration.min().item():g}. "
            f"Pass 0 for a uniform draw."
        )
    e = direction.double()
    concentration = concentration.expand(direction.shape[:-1])
    length = torch.linalg.vector_norm(e, dim=-1, keepdim=True)
    kappa = torch.where(length[..., 0] > 0, concentration.double(), 0.0)
    spare = uniform_directions(tuple(e.shape), generator=generator, dtype=torch.float64)
    e = torch.where(length > 0, e / length.clamp(min=1e-300), spare)
    drop = _one_minus_cosine(kappa.flatten(), e.shape[-1], generator).reshape(kappa.shape)
    tangent = uniform_directions(tuple(e.shape), generator=generator, dtype=torch.float64)
    tangent = tangent - (tangent * e).sum(-1, keepdim=True) * e
    tangent = tangent / torch.linalg.vector_norm(tangent, dim=-1, keepdim=True).clamp(min=1e-30)
    sine = (drop * (2 - drop)).clamp(min=0).sqrt()
    return ((1 - drop)[..., None] * e + sine[..., None] * tangent).to(direction.dtype)


def _one_minus_cosine(kappa: Tensor, dim: int, generator: torch.Generator) -> Tensor:
    """Draws 1 - cos of the angle to the mean by rejection; 1 - cos keeps its digits near 0."""
    n = dim - 1
    # Beyond, an angle is 0 in every precision, and the square below would overflow.
    kappa = kappa.clamp(max=1e100)
    b = n / (2 * kappa + (4 * kappa**2 + n**2).sqrt())
    out = torch.zeros_like(kappa)
    left = torch.arange(kappa.numel(), device=kappa.device)
    while left.numel():
        k, c = kappa[left], b[left]
        # The first component of a uniform direction, shifted to [0, 1], is Beta(n / 2, n / 2).
        first = uniform_directions((left.numel(), dim), generator=generator, dtype=torch.float64)
        z = (1 + first[:, 0]) / 2
        drop = 2 * c * z / (1 - (1 - c) * z).clamp(min=1e-300)
        inside = (2 * c + (1 - c) * drop) / (1 + c)
        peak = 4 * c / (1 + c) ** 2
        score = k * (2 * c / (1 + c) - drop) + n * (inside / peak).log()
        u = torch.rand(
            left.numel(), generator=generator, device=kappa.device, dtype=torch.float64
        ).clamp(min=1e-300)
        taken = score >= u.log()
        out[left[taken]] = drop[taken]
        left = left[~taken]
    return out


def noisy_reading(
    state: Float[Tensor, "*batch dim"], noise: float, *, generator: torch.Generator
) -> Float[Tensor, "*batch dim"]:
    """Returns what a noisy instrument reads of unit vectors: noise per component, then unit length.

    Args:
        state: The states; a length below 1, the shrinkage of a time average, is kept.
        noise: Standard deviation per component.
        generator: Source of the draws.

    Returns:
        Vectors of the length they had.
    """
    length = torch.linalg.vector_norm(state, dim=-1, keepdim=True)
    kick = torch.randn(state.shape, generator=generator, device=state.device, dtype=state.dtype)
    moved = state + noise * length * kick
    norm = torch.linalg.vector_norm(moved, dim=-1, keepdim=True).clamp(min=1e-30)
    return moved / norm * length


def quantised_state(state: Float[Tensor, "*batch dim"], bits: int) -> Float[Tensor, "*batch dim"]:
    r"""Returns states as a converter of few bits reads them.

    Args:
        state: Unit vectors.
        bits: On the circle the phase has :math:`2^b` values; above it every component has, over
            [-1, 1], and the vector's length is not restored.

    Returns:
        The readings.
    """
    if state.shape[-1] != 2:
        return quantised_cosine(state, bits)
    step = 2 * math.pi / 2**bits
    phase = torch.atan2(state[..., 1], state[..., 0])
    phase = (phase / step).round() * step
    length = torch.linalg.vector_norm(state, dim=-1)
    return torch.stack([length * phase.cos(), length * phase.sin()], -1)


def quantised_cosine(cosine: Tensor, bits: int) -> Tensor:
    """Returns cosines as a converter over [-1, 1] reads them, both ends being values.

    Args:
        cosine: Numbers, those beyond the range are clipped.
        bits: Number of bits.

    Returns:
        The readings.
    """
    step = 2 / (2**bits - 1)
    return ((cosine.clamp(-1, 1) + 1) / step).round() * step - 1


def quantised_couplings(
    coupling: Float[Tensor, "batch heads queries keys"], bits: int, full_scale: float | str
) -> Float[Tensor, "batch heads queries keys"]:
    """Returns couplings as a converter of few bits programs them; what is 0 stays 0.

    Args:
        coupling: Couplings, at least 0.
        bits: Number of bits; the values are evenly spaced from 0 to the full scale.
        full_scale: The largest coupling that can be programmed; ``"row"`` is each row's largest
            (every oscillator has a gain of its own), ``"layer"`` the largest of each sequence.

    Returns:
        The programmed couplings; those beyond the full scale are clipped.
    """
    if full_scale == "row":
        top = coupling.amax(-1, keepdim=True)
    elif full_scale == "layer":
        top = coupling.amax((-3, -2, -1), keepdim=True)
    else:
        top = torch.as_tensor(full_scale, dtype=coupling.dtype, device=coupling.device)
    step = (top / (2**bits - 1)).clamp(min=torch.finfo(coupling.dtype).tiny)
    return (torch.minimum(coupling, top) / step).round() * step
