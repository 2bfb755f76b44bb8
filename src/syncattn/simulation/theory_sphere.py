"""What theory says of driven unit vectors: exact flow, equilibrium with rotation, noise."""

from __future__ import annotations

import math

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.functional.oscillator_settling import Settle, settle
from syncattn.simulation.systems import unit_vectors
from syncattn.simulation.systems_checks import is_skew

__all__ = [
    "driven_flow",
    "half_angle",
    "lohe_equilibrium",
    "odd_dimension_order_parameter",
    "von_mises_fisher_mean",
]

_POINTS_PER_DECADE = 50


def driven_flow(
    state: Float[Tensor, "*batch dim"], drive: Float[Tensor, "*batch dim"], time: float
) -> Float[Tensor, "*batch dim"]:
    r"""Returns where a driven unit vector is after a time, exactly.

    .. math:: x(t) = \frac{2q\,(x_0 - c\,e) + \big((1+c) - (1-c)\,q^2\big)\, e}{(1+c) + (1-c)\,q^2},
              \qquad q = e^{-|h| t}

    with :math:`e = h/|h|` and :math:`c = x_0 \cdot e`. Near the antipode both sums cancel, so it is
    computed in float64 as the translation of the sphere OA-7; the antipode itself stays.
    # theory: KU-17

    Args:
        state: Unit vectors :math:`x_0`.
        drive: :math:`h`; where it is 0 nothing moves.
        time: :math:`t \ge 0`.

    Returns:
        Unit vectors.
    """
    check.require_number(time, "time", minimum=0.0)
    check.require_fitting({"state": state, "drive": drive})
    start, h = torch.broadcast_tensors(unit_vectors(state.double()), drive.double())
    moved = unit_vectors(settle(h, Settle(float(time)), start))
    still = (drive == 0).all(-1, keepdim=True)
    return torch.where(still, state, moved.to(torch.promote_types(state.dtype, drive.dtype)))


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
    # The nearest number to π may lie above it, where the cosine of its half is negative.
    cosine = (angle / 2).cos().clamp(min=0)
    return 2 * torch.atan2((angle / 2).sin() * (-strength * time).exp(), cosine)


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
    if not is_skew(natural_frequency):
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
        concentration: :math:`\kappa`, any real number; a negative one, a drive that repels, gives
            the mean of the positive one with the other sign.

    Returns:
        A number between -1 and 1, in float64.
    """
    check.require_integer(dim, "dim", minimum=2)
    check.require_fitting({"concentration": concentration})
    check.require_finite(concentration, "concentration")
    kappa = concentration.double()
    # The backward recursion A_v = κ / (m + κ A_{v+2}) forgets its start at once while v > κ; for a
    # large concentration the start itself, between Amos's bounds, is exact to first order in 1/κ.
    depth = 60 + min(2000, math.ceil(kappa.abs().amax().item())) if kappa.numel() else 0
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
    direction = natural_frequency.new_zeros(len(natural_frequency), dim)
    direction[:, 0] = 1.0
    _, power, squared, _ = _planes(direction, natural_frequency)
    # With s = K R the condition reads R = <λ(s)> / s, so the curve is known by its parameter s.
    if not coupling_strength.numel():
        return coupling_strength
    power, slow = power.double(), squared.double().sqrt()
    s = _drives(coupling_strength)[:, None, None]
    R = _multiplier(power.expand(len(s), *power.shape), (slow / s).square()).nanmean(-1)
    K = s.flatten() / R
    target = coupling_strength.to(K.dtype).clamp(K[0].item(), K[-1].item())
    right = torch.searchsorted(K, target).clamp(1, len(K) - 1)
    share = (target - K[right - 1]) / (K[right] - K[right - 1])
    return torch.lerp(R[right - 1], R[right], share).to(coupling_strength.dtype)


def _drives(coupling_strength: Tensor) -> Tensor:
    """Returns drives K R for all couplings, which lie where they lie whatever the others are."""
    # The smallest order parameter, about sqrt(2 / (π dim)) at K = 0, is far above a hundredth.
    low = math.floor((math.log10(coupling_strength.amin().item()) - 2) * _POINTS_PER_DECADE)
    high = math.ceil(math.log10(coupling_strength.amax().item()) * _POINTS_PER_DECADE)
    exponent = torch.arange(low, high + 1, dtype=torch.float64, device=coupling_strength.device)
    return 10.0 ** (exponent / _POINTS_PER_DECADE)


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
    rounding = (8 * torch.finfo(squared.dtype).eps) ** 2
    turning = squared > rounding * largest
    omega, squared = torch.where(turning, omega, 0.0), torch.where(turning, squared, 0.0)
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
