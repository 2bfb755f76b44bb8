"""What theory says of driven unit vectors: exact flow, equilibrium with rotation, noise."""

from __future__ import annotations

import math

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor

__all__ = [
    "driven_flow",
    "half_angle",
    "lohe_equilibrium",
    "odd_dimension_order_parameter",
    "von_mises_fisher_mean",
]

_GRID = 200


def driven_flow(
    state: Float[Tensor, "*batch dim"], drive: Float[Tensor, "*batch dim"], time: float
) -> Float[Tensor, "*batch dim"]:
    r"""Returns where a driven unit vector is after a time, exactly.

    .. math:: x(t) = \frac{2q\,(x_0 - c\,e) + \big((1+c) - (1-c)\,q^2\big)\, e}{(1+c) + (1-c)\,q^2},
              \qquad q = e^{-|h| t}

    with :math:`e = h/|h|` and :math:`c = x_0 \cdot e`.  # theory: KU-17

    Args:
        state: Unit vectors :math:`x_0`.
        drive: :math:`h`; where it is 0 nothing moves.
        time: :math:`t \ge 0`.

    Returns:
        Unit vectors.
    """
    check.require_number(time, "time", minimum=0.0)
    check.require_fitting({"state": state, "drive": drive})
    time = float(time)
    strength = torch.linalg.vector_norm(drive, dim=-1, keepdim=True)
    e = drive / torch.where(strength > 0, strength, 1.0)
    c = (state * e).sum(-1, keepdim=True)
    q = (-strength * time).exp()
    moved = 2 * q * (state - c * e) + ((1 + c) - (1 - c) * q.square()) * e
    scale = (1 + c) + (1 - c) * q.square()
    return torch.where(strength > 0, moved / torch.where(scale > 0, scale, 1.0), state)


def half_angle(
    angle: Float[Tensor, "*#shape"], strength: Float[Tensor, "*#shape"], time: float
) -> Float[Tensor, "*shape"]:
    r"""Returns the angle to the drive after a time.

    .. math:: \tan(\theta(t)/2) = \tan(\theta(0)/2)\, e^{-Kt}

    # theory: KU-17

    Args:
        angle: The angle at time 0, between 0 and π.
        strength: :math:`K = |h|`.
        time: :math:`t`.

    Returns:
        The angle.
    """
    check.require_fitting({"angle": angle, "strength": strength})
    check.require_number(time, "time")
    time = float(time)
    return 2 * torch.atan2((angle / 2).sin() * (-strength * time).exp(), (angle / 2).cos())


def lohe_equilibrium(
    drive: Float[Tensor, "*batch dim"], natural_frequency: Float[Tensor, "*#batch dim dim"]
) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
    r"""Returns where a driven unit vector rests although it turns by itself, and its multiplier.

    .. math:: x^* = (\lambda I - \Omega)^{-1} h, \qquad |x^*| = 1, \quad \lambda > 0

    In the eigenplanes of :math:`\Omega`, :math:`\sum_k |h_k|^2 / (\lambda^2 + \omega_k^2) = 1`: one
    positive solution when :math:`\sum_k |h_k|^2/\omega_k^2 > 1`, else none. In odd dimension a
    plane always has :math:`\omega_k = 0`, so a generic drive always holds the vector.
    # theory: KU-16

    Args:
        drive: :math:`h`.
        natural_frequency: Skew matrices :math:`\Omega`.

    Returns:
        The equilibrium and :math:`\lambda`, which is also :math:`x^* \cdot h`; NaN where there is
        none.

    Raises:
        ValueError: If a matrix is not skew.
    """
    _require_matrices(natural_frequency)
    check.require_floating(drive, "drive")
    check.require_values(drive, "drive")
    check.require_together({"drive": drive, "natural_frequency": natural_frequency})
    fits = drive.dim() > 0 and drive.shape[-1] == natural_frequency.shape[-1]
    if not fits or drive.dtype != natural_frequency.dtype:
        raise ValueError(
            f"`drive` must have the dimension and dtype of `natural_frequency`, "
            f"{natural_frequency.shape[-1]} and {natural_frequency.dtype}; got shape "
            f"{tuple(drive.shape)} in {drive.dtype}. Convert one of them."
        )
    check.require_fitting({"drive": drive, "natural_frequency": natural_frequency[..., 0]})
    if not torch.allclose(natural_frequency, -natural_frequency.mT, atol=1e-6):
        raise ValueError(
            "`natural_frequency` must hold skew matrices; got one that differs from minus its "
            "transpose. Pass (A - A.mT) / 2."
        )
    amplitude, power, squared, (omega, vectors) = _planes(drive, natural_frequency)
    multiplier = _multiplier(power, squared)
    omega = omega.expand_as(amplitude)
    # iΩ v = ω v means Ω v = -iω v.
    rest = amplitude / torch.complex(multiplier[..., None].expand_as(omega), omega)
    return (vectors @ rest[..., None]).squeeze(-1).real, multiplier


def von_mises_fisher_mean(
    dim: int, concentration: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    r"""Returns the mean cosine of a noisy driven vector, a ratio of Bessel functions.

    .. math:: A_m(\kappa) = \frac{I_{m/2}(\kappa)}{I_{m/2-1}(\kappa)}
              = \cfrac{1}{m/\kappa + \cfrac{1}{(m+2)/\kappa + \cdots}}, \qquad \kappa = K/D

    # theory: KU-19

    Args:
        dim: :math:`m \ge 2`.
        concentration: :math:`\kappa \ge 0`.

    Returns:
        A number between 0 and 1, in float64.
    """
    check.require_integer(dim, "dim", minimum=2)
    check.require_fitting({"concentration": concentration})
    check.require_finite(concentration, "concentration")
    kappa = concentration.double()
    # The backward recursion A_v = κ / (m + κ A_{v+2}) forgets its start at once while v > κ; for a
    # large concentration the start itself, between Amos's bounds, is exact to first order in 1/κ.
    depth = 60 + min(2000, math.ceil(kappa.amax().item())) if kappa.numel() else 0
    half = (dim + 2 * depth - 1) / 2
    ratio = kappa / (half + torch.sqrt(kappa.square() + half**2))
    for step in range(depth - 1, -1, -1):
        ratio = kappa / (dim + 2 * step + kappa * ratio)
    return ratio


def odd_dimension_order_parameter(
    coupling_strength: Float[Tensor, " couplings"],
    natural_frequency: Float[Tensor, "oscillators dim dim"],
) -> Float[Tensor, " couplings"]:
    r"""Returns the order parameter of a Lohe population in odd dimension, by self-consistency.

    Every vector is held by the mean field, so :math:`R = \langle \lambda \rangle / (K R)` with
    the multipliers of `lohe_equilibrium` under the drive :math:`K R e`. The transition is a jump
    at :math:`K = 0`.  # theory: KU-22

    Args:
        coupling_strength: :math:`K > 0`.
        natural_frequency: The population's skew matrices, without a preferred direction.

    Returns:
        The order parameter.

    Raises:
        ValueError: If the dimension is even.
    """
    _require_matrices(natural_frequency, batch=True)
    check.require_tensor(coupling_strength, "coupling_strength", "couplings")
    check.require_values(coupling_strength, "coupling_strength")
    check.require_positive(coupling_strength, "coupling_strength")
    check.require_finite(coupling_strength, "coupling_strength")
    dim = natural_frequency.shape[-1]
    if dim % 2 == 0:
        raise ValueError(
            f"`natural_frequency` must have odd dimension, where every oscillator is held; got "
            f"{dim}. Simulate instead."
        )
    direction = torch.zeros(len(natural_frequency), dim, dtype=natural_frequency.dtype)
    direction[:, 0] = 1.0
    _, power, squared, _ = _planes(direction, natural_frequency)
    # With s = K R the condition reads R = <λ(s)> / s, so the curve is known by its parameter s.
    if not coupling_strength.numel():
        return coupling_strength
    largest = coupling_strength.amax().item()
    s = largest * torch.logspace(-4, 0, _GRID, dtype=power.dtype)
    multiplier = _multiplier(
        s.square()[:, None, None] * power, squared.expand(_GRID, *squared.shape)
    )
    R = multiplier.nanmean(-1) / s
    K = s / R
    target = coupling_strength.to(K.dtype).clamp(K[0].item(), K[-1].item())
    right = torch.searchsorted(K, target).clamp(1, _GRID - 1)
    share = (target - K[right - 1]) / (K[right] - K[right - 1])
    return torch.lerp(R[right - 1], R[right], share).to(coupling_strength.dtype)


def _require_matrices(natural_frequency: Tensor, *, batch: bool = False) -> None:
    """Refuses what are not square matrices in float32 or float64."""
    check.require_floating(natural_frequency, "natural_frequency")
    check.require_values(natural_frequency, "natural_frequency")
    shape = natural_frequency.shape
    square = len(shape) >= 2 and shape[-1] == shape[-2] > 0 and (not batch or len(shape) == 3)
    if not square or natural_frequency.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"`natural_frequency` must hold square matrices in float32 or float64, one per "
            f"oscillator; got shape {tuple(shape)} in {natural_frequency.dtype}. Convert it."
        )
    check.require_finite(natural_frequency, "natural_frequency")


def _planes(
    drive: Tensor, natural_frequency: Tensor
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Returns the drive's amplitude and power in every eigenplane, ω², and the planes."""
    # iΩ is Hermitian: its eigenvalues are the ±ω_k, its eigenvectors the planes.
    turned = torch.complex(torch.zeros_like(natural_frequency), natural_frequency)
    omega, vectors = torch.linalg.eigh(turned)
    amplitude = (vectors.mH @ drive.to(vectors.dtype)[..., None]).squeeze(-1)
    squared = omega.square()
    # Rounding leaves a zero mode at about epsilon times the matrix.
    largest = squared.amax(-1, keepdim=True)
    squared = torch.where(squared > 1e-24 * largest, squared, 0.0)
    return amplitude, amplitude.abs().square(), squared, (omega, vectors)


def _multiplier(power: Tensor, squared: Tensor) -> Tensor:
    """Solves Σ power / (λ² + ω²) = 1 for λ > 0 by bisection; NaN where there is no solution."""
    held = (power / squared).nan_to_num(nan=0.0, posinf=math.inf).sum(-1) > 1
    low, high = torch.zeros_like(power[..., 0]), power.sum(-1).sqrt()
    for _ in range(100):
        middle = 0.5 * (low + high)
        short = (power / (middle.square()[..., None] + squared)).sum(-1) > 1
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return torch.where(held, 0.5 * (low + high), math.nan)
