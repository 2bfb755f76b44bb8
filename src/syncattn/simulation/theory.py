"""What theory says of coupled phases: thresholds, order parameters, locking, rotation."""

from __future__ import annotations

import math

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.simulation.populations import FrequencyDensity, Gaussian, Lorentzian, Uniform
from syncattn.simulation.systems_checks import require_noise

__all__ = [
    "astroid_is_bistable",
    "critical_coupling",
    "frustrated_rotation",
    "locked_phase_difference",
    "lorentzian_order_parameter",
    "self_consistent_order_parameter",
]

_NODES = 2000
_NOISY_NODES = 500
_BISECTIONS = 45
_NOISY_BISECTIONS = 25
_MOST_HARMONICS = 4000
_POINTS = 100_001
_ANGLES = 360


def critical_coupling(
    density: FrequencyDensity, *, noise_intensity: float = 0.0, frustration: float = 0.0
) -> float:
    r"""Returns the coupling at which an incoherent population starts to synchronize.

    .. math:: K_c = \frac{2}{\pi g(0)}, \qquad
              K_c = 2 \Big/ \int \frac{D\, g(\omega)}{D^2 + \omega^2}\, \mathrm{d}\omega
              \text{ with noise}

    For a uniform density the transition is of first order: at this value R jumps to π/4. The
    integral is closed for the densities of `DENSITIES` and numerical for any other.
    # theory: KU-5, KU-20

    Args:
        density: Natural frequencies, symmetric with one peak.
        noise_intensity: :math:`D` of the phase noise.
        frustration: :math:`\alpha`, for a Lorentzian density only, where
            :math:`K_c = 2(\gamma + D)/\cos\alpha`.

    Returns:
        The coupling, as frequency; infinite for a frustration of π/2 or more.

    Raises:
        ValueError: If there is frustration with another density.
    """
    D = noise_intensity
    check.require_instance(density, "density", FrequencyDensity, "Build one with its width.")
    require_noise(D)
    check.require_number(frustration, "frustration")
    if isinstance(density, Lorentzian):
        attraction = math.cos(frustration)
        return 2 * (density.width + D) / attraction if attraction > 1e-12 else math.inf
    if frustration:
        raise ValueError(
            f"`frustration` has a closed critical coupling for a Lorentzian density only; got "
            f"{frustration:g} with a {density.name} one. Simulate, or set it to 0."
        )
    if not D:
        return 2 / (math.pi * density.peak)
    if isinstance(density, Gaussian):
        ratio = torch.tensor(D / (density.width * math.sqrt(2)), dtype=torch.float64)
        spread = density.width * math.sqrt(2 / math.pi)
        return 2 * spread / torch.special.erfcx(ratio).item()
    if isinstance(density, Uniform):
        return 2 * density.width / math.atan(density.width / D)
    return 2 / _resonant_share(density, D)


def lorentzian_order_parameter(
    coupling_strength: Float[Tensor, "*shape"],
    width: float,
    *,
    frustration: float = 0.0,
) -> Float[Tensor, "*shape"]:
    r"""Returns :math:`R = \sqrt{1 - K_c/K}` of an infinite Lorentzian population, 0 below.

    # theory: KU-7

    Args:
        coupling_strength: :math:`K`.
        width: :math:`\gamma`, half the width at half maximum.
        frustration: :math:`\alpha`, which raises :math:`K_c = 2\gamma/\cos\alpha`.

    Returns:
        The order parameter.
    """
    check.require_fitting({"coupling_strength": coupling_strength})
    K_c = critical_coupling(Lorentzian(width), frustration=frustration)
    return (1 - K_c / coupling_strength.clamp(min=1e-300)).clamp(min=0).sqrt()


def self_consistent_order_parameter(
    coupling_strength: Float[Tensor, " couplings"],
    density: FrequencyDensity,
    *,
    noise_intensity: float = 0.0,
) -> Float[Tensor, " couplings"]:
    r"""Returns the order parameter of an infinite population with a density of one peak.

    .. math:: 1 = K \int_{-\pi/2}^{\pi/2} \cos^2\theta \; g(K R \sin\theta)\, \mathrm{d}\theta

    and with noise :math:`R = \mathrm{Re} \int g(\omega)\, z_1(\omega; K R)\, \mathrm{d}\omega`,
    :math:`z_1` being the mean of :math:`e^{\mathrm i\theta}` over the stationary density of one
    oscillator, a continued fraction. It needs some :math:`12 \sqrt{K/D}` terms; where that is more
    than 4000, above a :math:`K/D` of about 110 000, the form without noise is used.
    # theory: KU-6, KU-20

    Args:
        coupling_strength: :math:`K \ge 0`.
        density: Natural frequencies.
        noise_intensity: :math:`D`.

    Returns:
        The largest solution; 0 below the critical coupling.
    """
    D = noise_intensity
    check.require_tensor(coupling_strength, "coupling_strength", "couplings")
    check.require_fitting({"coupling_strength": coupling_strength})
    check.require_finite(coupling_strength, "coupling_strength")
    K = coupling_strength.double()[:, None]
    K_c = critical_coupling(density, noise_intensity=D)
    low, high = torch.zeros_like(K), torch.ones_like(K)
    loud = K <= D * (_MOST_HARMONICS / 12) ** 2
    noisy = D > 0 and bool(loud.any())
    for _ in range(_NOISY_BISECTIONS if noisy else _BISECTIONS):
        R = 0.5 * (low + high)
        gain = _gain(K, R, density)
        if noisy:
            heard = torch.where(loud, K * R, 0.0)
            gain = torch.where(loud, _noisy_gain(heard, density, D) / R, gain)
        low, high = torch.where(gain > 1, R, low), torch.where(gain > 1, high, R)
    R = torch.where(K >= K_c, 0.5 * (low + high), 0.0)
    return R.squeeze(-1).to(coupling_strength.dtype)


def locked_phase_difference(
    detuning: Float[Tensor, "*shape"], coupling_strength: float
) -> Float[Tensor, "*shape"]:
    r"""Returns the phase difference of two coupled oscillators, NaN where they do not lock.

    With coupling :math:`K/2` in both directions they lock exactly when :math:`|\Delta\omega| \le K`
    and then :math:`\theta_1 - \theta_2 = \arcsin(\Delta\omega/K)`.  # theory: KU-8

    Args:
        detuning: :math:`\Delta\omega = \omega_1 - \omega_2`.
        coupling_strength: :math:`K > 0`.

    Returns:
        The difference in radians.
    """
    check.require_number(coupling_strength, "coupling_strength", minimum=0.0, exclusive=True)
    check.require_fitting({"detuning": detuning})
    return torch.asin(detuning / float(coupling_strength))


def frustrated_rotation(
    natural_frequency: float, coupling_strength: float, frustration: float
) -> float:
    r"""Returns the common velocity :math:`\omega - K \sin\alpha` of identical oscillators.

    # theory: KU-9

    Args:
        natural_frequency: :math:`\omega`.
        coupling_strength: :math:`K`.
        frustration: :math:`\alpha`.

    Returns:
        Radians per unit time.
    """
    check.require_number(natural_frequency, "natural_frequency")
    check.require_number(coupling_strength, "coupling_strength")
    check.require_number(frustration, "frustration")
    return natural_frequency - coupling_strength * math.sin(frustration)


def astroid_is_bistable(
    drive_strength: Float[Tensor, "*#shape"],
    phase_difference: Float[Tensor, "*#shape"],
    injection_strength: Float[Tensor, "*#shape"],
) -> Tensor:
    r"""Returns where a second harmonic gives a driven phase two attractors instead of one.

    .. math:: |K \cos\delta|^{2/3} + |K \sin\delta|^{2/3} < (2 K_2)^{2/3},
              \qquad \delta = \psi - \psi_2

    Always when :math:`K < K_2`, never when :math:`K > 2 K_2`.  # theory: KU-12

    Args:
        drive_strength: :math:`K \ge 0`.
        phase_difference: :math:`\delta` in radians.
        injection_strength: :math:`K_2 \ge 0`.

    Returns:
        True where there are two.
    """
    check.require_fitting(
        {"drive_strength": drive_strength, "phase_difference": phase_difference,
         "injection_strength": injection_strength}
    )  # fmt: skip
    along = (drive_strength * phase_difference.cos()).abs() ** (2 / 3)
    across = (drive_strength * phase_difference.sin()).abs() ** (2 / 3)
    return along + across < (2 * injection_strength) ** (2 / 3)


def largest_on_circle(
    first: Float[Tensor, "*#batch 2"], second: Float[Tensor, "*#batch 2"]
) -> Float[Tensor, "*batch"]:
    r"""Returns the maximum over :math:`\theta` of two harmonics.

    .. math:: \max_\theta\; a \cdot (\cos\theta, \sin\theta) + b \cdot (\cos 2\theta, \sin 2\theta)

    Args:
        first: :math:`a`.
        second: :math:`b`.

    Returns:
        The maximum, in float64.
    """
    a, b = torch.broadcast_tensors(first.double(), second.double())
    best = torch.full_like(a[..., 0], -math.inf)
    angle = torch.zeros_like(best)
    for step in range(_ANGLES):
        theta = 2 * math.pi * step / _ANGLES
        value = a[..., 0] * math.cos(theta) + a[..., 1] * math.sin(theta)
        value = value + b[..., 0] * math.cos(2 * theta) + b[..., 1] * math.sin(2 * theta)
        angle = torch.where(value > best, theta, angle)
        best = torch.maximum(best, value)
    for _ in range(3):
        once = torch.stack((angle.cos(), angle.sin()), -1)
        twice = torch.stack(((2 * angle).cos(), (2 * angle).sin()), -1)
        best = torch.maximum(best, (a * once + b * twice).sum(-1))
        slope = (a * _quarter(once) + 2 * b * _quarter(twice)).sum(-1)
        bend = -(a * once + 4 * b * twice).sum(-1)
        angle = torch.where(bend < 0, angle - slope / bend, angle)
    return best


def _quarter(x: Tensor) -> Tensor:
    """The vectors a quarter turn ahead."""
    return torch.stack((-x[..., 1], x[..., 0]), -1)


def _resonant_share(density: FrequencyDensity, D: float) -> float:
    """The integral of KU-20, by the trapezoid rule in the logarithm of the frequency."""
    widths = (D, density.width, 1 / density.peak)
    low, high = math.log(min(widths)) - 35, math.log(max(widths)) + 20
    omega = torch.linspace(low, high, _POINTS, dtype=torch.float64).exp()
    resonance = D * omega / (D**2 + omega.square())
    half = (density.density(density.center + omega) * resonance).sum().item()
    return 2 * half * (high - low) / (_POINTS - 1)


def _gain(K: Tensor, R: Tensor, density: FrequencyDensity) -> Tensor:
    """The right side of KU-6, by the midpoint rule in the sine, which meets a kink exactly."""
    angle = (torch.arange(_NODES, dtype=torch.float64) + 0.5) / _NODES * math.pi - math.pi / 2
    frequency = density.center + K * R * angle.sin()
    return (
        K
        * (angle.cos().square() * density.density(frequency)).sum(-1, keepdim=True)
        * (math.pi / _NODES)
    )


def _noisy_gain(drive: Tensor, density: FrequencyDensity, D: float) -> Tensor:
    """The mean of z_1 over the population, from the continued fraction of KU-20."""
    omega = density.quantiles(_NOISY_NODES) - density.center
    half = (0.5 * drive).to(torch.complex128)
    ratio = torch.zeros(1, dtype=torch.complex128)
    # The density is no narrower than sqrt(D / drive), so its harmonics end at the inverse of that.
    depth = 30 + math.ceil(12 * math.sqrt(drive.amax().item() / D))
    for n in range(depth, 0, -1):
        ratio = half / (n * D - 1j * omega + half * ratio)
    return ratio.real.mean(-1, keepdim=True)
