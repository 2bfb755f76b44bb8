"""What theory predicts that a non-ideality does to a settled oscillator, to first order."""

from __future__ import annotations

import math

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.simulation.theory_sphere import von_mises_fisher_mean

__all__ = [
    "anchor_error_angle",
    "converter_angle",
    "coupling_mismatch_angle",
    "coupling_quantisation_angle",
    "detuning_angle",
    "detuning_spread_angle",
    "read_noise_angle",
    "settling_angle",
    "thermal_angle",
    "weights_bound",
]

Coupling = Float[Tensor, "batch heads queries keys"]
Anchor = Float[Tensor, "*#batch keys oscillator_dim"]
Angles = Float[Tensor, "batch heads queries"]


def _above_zero(x: Tensor) -> Tensor:
    return x.clamp(min=torch.finfo(x.dtype).tiny)


def _require_coupled(coupling: Coupling, anchor: Anchor) -> None:
    check.require_tensor(coupling, "coupling", "batch heads queries keys")
    check.require_floating(anchor, "anchor")
    check.require_together({"coupling": coupling, "anchor": anchor})
    for name, tensor in (("coupling", coupling), ("anchor", anchor)):
        check.require_values(tensor, name)
        check.require_finite(tensor, name)
    if coupling.numel() == 0:
        raise ValueError(
            f"`coupling` must hold at least one pair; got {check.shape_of(coupling)}. Pass some."
        )
    batch = (*coupling.shape[:-2], coupling.shape[-1])
    fits = anchor.dtype == coupling.dtype and 2 <= anchor.dim() <= 4 and anchor.shape[-1] > 0
    pairs = zip(anchor.shape[-3::-1], batch[-2::-1], strict=False)
    if not fits or anchor.shape[-2] != batch[-1] or any(a not in {1, b} for a, b in pairs):
        raise ValueError(
            "`anchor` must be (..., keys, oscillator_dim), fit the axes of `coupling` and have its "
            f"dtype; got {check.shape_of(anchor)}, {anchor.dtype} for {check.shape_of(coupling)}, "
            f"{coupling.dtype}. Pass one anchor per key."
        )


def _require_rate(rate: Tensor) -> None:
    check.require_floating(rate, "rate")
    check.require_values(rate, "rate")
    check.require_finite(rate, "rate")


def _parts(coupling: Coupling, anchor: Anchor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the drive's norm, the squared anchor norms and their squared part along the state."""
    _require_coupled(coupling, anchor)
    drive = coupling @ anchor
    norm = torch.linalg.vector_norm(drive, dim=-1)
    state = drive / _above_zero(norm).unsqueeze(-1)
    squared = (anchor**2).sum(-1).unsqueeze(-2)
    # Without a drive the state may be anywhere: the mean over all directions.
    anywhere = squared / anchor.shape[-1]
    return norm, squared, torch.where(norm.unsqueeze(-1) > 0, (state @ anchor.mT) ** 2, anywhere)


def _turned(error: Tensor, norm: Tensor, *names: str) -> Angles:
    """Returns the angle of an error across a drive, infinite where anchors cancel exactly."""
    check.require_computed(error, *names)
    check.require_computed(norm, "coupling", "anchor")
    return torch.where(error > 0, error / norm, 0.0)


def coupling_mismatch_angle(coupling: Coupling, anchor: Anchor, mismatch: float) -> Angles:
    r"""Returns the rms angle by which log-normal mismatch :math:`W e^{s \eta}` turns each state.

    .. math:: s \sqrt{\textstyle\sum_j W_{ij}^2 |P_i r_j|^2} / K_i

    :math:`P_i` projects across the state. It grows as anchors cancel: as :math:`1/\rho`, and is
    infinite where they cancel exactly.

    Args:
        coupling: :math:`W`.
        anchor: :math:`r`.
        mismatch: :math:`s`.

    Returns:
        Radians; only small ones mean what they say.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If shapes do not fit, a number is out of its range, or what turns it overflows.
    """
    check.require_number(mismatch, "mismatch", minimum=0.0)
    norm, squared, along = _parts(coupling, anchor)
    error = mismatch * ((coupling**2 * (squared - along)).sum(-1).clamp(min=0)).sqrt()
    return _turned(error, norm, "coupling", "anchor", "mismatch")


def coupling_quantisation_angle(
    coupling: Coupling, anchor: Anchor, bits: int, full_scale: float | str = "row"
) -> Angles:
    r"""Returns the rms angle by which a coarse converter of the couplings turns each state.

    Every coupling that is not 0 errs uniformly over one step :math:`\Delta`: by
    :math:`\Delta / \sqrt{12}`.

    Args:
        coupling: :math:`W`.
        anchor: :math:`r`.
        bits: Bits of the converter.
        full_scale: As in `syncattn.simulation.Device`.

    Returns:
        Radians.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If shapes do not fit, a number is out of its range, or what turns it overflows.
    """
    check.require_integer(bits, "bits", minimum=1)
    if full_scale not in ("row", "layer"):
        check.require_number(full_scale, "full_scale", minimum=0.0, exclusive=True)
    norm, squared, along = _parts(coupling, anchor)
    if full_scale == "row":
        top: Tensor | float = coupling.amax(-1)
    elif isinstance(full_scale, str):
        top = coupling.amax((-3, -2, -1))[:, None, None]
    else:
        top = full_scale
    step = top / (2**bits - 1)
    across = ((coupling > 0) * (squared - along)).sum(-1).clamp(min=0)
    return _turned(step * (across / 12).sqrt(), norm, "coupling", "anchor")


def anchor_error_angle(coupling: Coupling, anchor: Anchor, error: float) -> Angles:
    r"""Returns the rms angle by which misplaced anchors turn each state.

    .. math:: s \sqrt{\textstyle\sum_j W_{ij}^2 |r_j|^2 (m - 2 + (x_i \cdot \hat r_j)^2)} / K_i

    Args:
        coupling: :math:`W`.
        anchor: :math:`r`.
        error: :math:`s`, radians in each of the :math:`m - 1` directions along the sphere.

    Returns:
        Radians.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If shapes do not fit, a number is out of its range, or what turns it overflows.
    """
    check.require_number(error, "error", minimum=0.0)
    norm, squared, along = _parts(coupling, anchor)
    across = coupling**2 * ((anchor.shape[-1] - 2) * squared + along)
    displaced = error * across.sum(-1).clamp(min=0).sqrt()
    return _turned(displaced, norm, "coupling", "anchor", "error")


def detuning_angle(
    frequency: Float[Tensor, "*batch"], rate: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    r"""Returns by how much a natural frequency holds a phase back: :math:`\arcsin(\omega / K)`.

    For more than two components see `syncattn.simulation.theory_sphere.lohe_equilibrium`.

    Args:
        frequency: :math:`\omega`.
        rate: :math:`K`.

    Returns:
        Radians; NaN where :math:`|\omega| > K` and nothing locks.

    Raises:
        TypeError: If an argument is not a floating tensor.
        ValueError: If the shapes do not broadcast.
    """
    check.require_fitting({"frequency": frequency, "rate": rate})
    return torch.arcsin(frequency / rate)


def detuning_spread_angle(
    rate: Float[Tensor, "*batch"], spread: float, dim: int
) -> Float[Tensor, "*batch"]:
    r"""Returns the rms angle of a random detuning: :math:`s \sqrt{m - 1} / K`, while it is small.

    Args:
        rate: :math:`K`.
        spread: :math:`s`, standard deviation of the frequency in each plane.
        dim: Components :math:`m`.

    Returns:
        Radians.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of its range.
    """
    _require_rate(rate)
    check.require_number(spread, "spread", minimum=0.0)
    check.require_integer(dim, "dim", minimum=2)
    return spread * math.sqrt(dim - 1) / _above_zero(rate)


def thermal_angle(rate: Float[Tensor, "*batch"], noise: float, dim: int) -> Float[Tensor, "*batch"]:
    r"""Returns the rms chord between a noisy state and its mean direction.

    .. math:: \sqrt{2 (1 - A_m(K / D))} \approx \sqrt{(m - 1) D / K}

    Args:
        rate: :math:`K`.
        noise: :math:`D`, in :math:`dx = P_x h\,dt + \sqrt{2D}\,P_x \circ dB`.
        dim: Components :math:`m`.

    Returns:
        Chords, for small ones the angle in radians.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of its range.
    """
    _require_rate(rate)
    check.require_number(noise, "noise", minimum=0.0)
    check.require_integer(dim, "dim", minimum=2)
    if noise == 0:
        return torch.zeros_like(rate)
    mean = von_mises_fisher_mean(dim, rate.double() / noise)
    # A rounded mean may exceed 1.
    return (2 * (1 - mean)).clamp(min=0).sqrt().to(rate.dtype)


def read_noise_angle(noise: float, dim: int) -> float:
    r"""Returns the rms angle of static read noise: :math:`s \sqrt{m - 1}`.

    Args:
        noise: :math:`s` per component.
        dim: Components :math:`m`.

    Returns:
        Radians.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of its range.
    """
    check.require_number(noise, "noise", minimum=0.0)
    check.require_integer(dim, "dim", minimum=2)
    return noise * math.sqrt(dim - 1)


def converter_angle(bits: int, dim: int) -> float:
    r"""Returns the rms angle of a converter: a step over :math:`\sqrt{12}` in every direction.

    Args:
        bits: Bits of the phase on the circle, of each component above it.
        dim: Components :math:`m`.

    Returns:
        Radians.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of its range.
    """
    check.require_integer(bits, "bits", minimum=1)
    check.require_integer(dim, "dim", minimum=2)
    step = 2 * math.pi / 2**bits if dim == 2 else 2 / (2**bits - 1)
    return step * math.sqrt((dim - 1) / 12)


def settling_angle(
    rate: Float[Tensor, "*batch"], time: float, dim: int, *, points: int = 2001
) -> Float[Tensor, "*batch"]:
    r"""Returns the rms angle that is left after a time, from uniform random starts.

    .. math:: \theta(t) = 2 \arctan(e^{-K t} \tan(\theta_0 / 2)), \qquad
        p(\theta_0) \propto \sin^{m-2} \theta_0

    Args:
        rate: :math:`K`.
        time: :math:`t`.
        dim: Components :math:`m`.
        points: Angles of the quadrature.

    Returns:
        Radians.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of its range.
    """
    _require_rate(rate)
    check.require_number(time, "time", minimum=0.0)
    check.require_integer(dim, "dim", minimum=2)
    check.require_integer(points, "points", minimum=1)
    # Midpoints keep clear of the antipode, where the tangent is infinite.
    start = (torch.arange(points, device=rate.device).double() + 0.5) * (math.pi / points)
    density = start.sin() ** (dim - 2)
    density = density / density.sum()
    total = torch.zeros_like(rate, dtype=torch.float64)
    decay = torch.exp(-rate.double() * time)
    for angle, weight in zip((start / 2).tan().tolist(), density.tolist(), strict=True):
        total = total + weight * (2 * torch.atan(decay * angle)) ** 2
    return total.sqrt().to(rate.dtype)


def weights_bound(
    angle: Float[Tensor, "batch heads queries"],
    state: Float[Tensor, "batch heads queries oscillator_dim"],
    mean_anchor: Float[Tensor, "*#batch oscillator_dim"],
) -> Float[Tensor, "batch heads queries"]:
    r"""Returns the most by which weights can change when a state is turned by an angle, p = 1.

    .. math:: \|a - a'\|_1 \le \frac{2 |x - x'|}{1 + x \cdot \bar r}

    Args:
        angle: Radians between :math:`x` and :math:`x'`.
        state: :math:`x`.
        mean_anchor: :math:`\bar r`, mean of the visible anchors, of norm at most 1.

    Returns:
        Bounds of the sum of absolute differences.

    Raises:
        TypeError: If an argument is not a floating tensor.
        ValueError: If the shapes do not fit, or a value is not finite.
    """
    check.require_tensor(state, "state", "batch heads queries oscillator_dim")
    check.require_fitting({"state": state, "mean_anchor": mean_anchor})
    check.require_fitting({"angle": angle, "state": state[..., 0]})
    for name, tensor in (("angle", angle), ("state", state), ("mean_anchor", mean_anchor)):
        check.require_finite(tensor, name)
    chord = 2 * (angle / 2).sin().abs()
    return 2 * chord / _above_zero(1 + (state * mean_anchor).sum(-1))
