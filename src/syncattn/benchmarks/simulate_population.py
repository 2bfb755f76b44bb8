"""What a simulation is asked for: its fields, the system they mean, the theory beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

from syncattn import _validation as check
from syncattn.simulation import (
    DENSITIES,
    Daido,
    FrequencyDensity,
    Kuramoto,
    Lohe,
    Lorentzian,
    SakaguchiKuramoto,
    SecondHarmonicInjection,
    System,
    critical_coupling,
    lorentzian_order_parameter,
    odd_dimension_order_parameter,
    random_rotation,
    self_consistent_order_parameter,
)

__all__ = ["Chosen", "SimulateConfig", "choose"]


@dataclass(frozen=True)
class SimulateConfig:
    """What is simulated, at which couplings, and for how long."""

    system: tyro.conf.Positional[Literal["kuramoto", "sakaguchi", "daido", "shil", "lohe"]] = (
        "kuramoto"
    )
    """Kuramoto's phases; with a phase lag (sakaguchi); with several harmonics (daido); with
    second-harmonic injection (shil); unit vectors (lohe)."""

    coupling_strength: float = 2.0
    """The coupling shown in detail, radians per unit time."""

    num_oscillators: int = 1000
    """Oscillators in a population."""

    density: Literal["lorentzian", "gaussian", "uniform"] | None = None
    """Density of the natural frequencies; lorentzian when left out, gaussian for lohe above two
    dimensions."""

    frequency_width: float = 0.5
    """Its width: half width at half maximum, standard deviation, or half length."""

    noise_intensity: float = 0.0
    """D of the noise: a free phase spreads by 2 D t, radians² per unit time."""

    frustration: float | None = None
    """Phase lag of sakaguchi (0.5 when left out) or of every harmonic of daido (0), radians."""

    harmonic_amplitude: tuple[float, ...] | None = None
    """Amplitudes of daido's harmonics; 1 0.5 when left out."""

    injection_strength: float | None = None
    """Strength of shil's injected signal; 0.5 when left out."""

    dimension: int | None = None
    """Coordinates of lohe's unit vectors; 3 when left out."""

    largest_coupling: float | None = None
    """Right end of the transition; one and a half times the chosen coupling, or two and a half
    times the critical one, when left out."""

    num_couplings: int = 25
    """Points of the transition."""

    both_starts: bool = True
    """Start the populations from synchrony too, which shows hysteresis."""

    duration: float = 60.0
    """Length of every run; the second half is averaged."""

    step: float | None = None
    """Time step; chosen from the couplings and the frequencies when left out."""

    seed: int = 0
    """Seed of the initial states and the noise."""

    output: Path = Path("runs/simulate")
    """Folder of the figure and the record; files of the same system are replaced."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """A family of systems over the coupling, with what theory says of it.

    Attributes:
        system: Gives the system from its couplings.
        title: Title of the figure.
        population: The population in words.
        explanation: What the curve of the figure is, in a sentence.
        critical_coupling: Where incoherence loses its stability; None where unknown.
        theory: Order parameter of an infinite population; None where unknown.
        observe: What is averaged beside the coherence.
    """

    system: Callable[[Tensor], System]
    title: str
    population: str
    explanation: str = "No closed theory is drawn for this system."
    critical_coupling: float | None = None
    theory: Callable[[Tensor], Tensor] | None = None
    observe: dict[str, Callable[[Tensor], Tensor]] | None = None


# Which system each option belongs to; elsewhere it would be ignored in silence.
_OPTIONS = {
    "frustration": ("sakaguchi", "daido"),
    "harmonic_amplitude": ("daido",),
    "injection_strength": ("shil",),
    "dimension": ("lohe",),
}


def choose(config: SimulateConfig) -> Chosen:
    """Returns the family of systems that the fields describe.

    Args:
        config: The fields.

    Returns:
        The family.

    Raises:
        ValueError: If a field does not fit, or belongs to another system.
    """
    for name, systems in _OPTIONS.items():
        if getattr(config, name) is not None and config.system not in systems:
            raise ValueError(
                f"`{name}` must be left out for {config.system}; got {getattr(config, name)}. "
                f"It belongs to {' and '.join(systems)}."
            )
    check.require_number(config.frequency_width, "frequency_width", minimum=0.0, exclusive=True)
    if config.system == "lohe":
        return _lohe(config)
    density = DENSITIES[config.density or "lorentzian"](config.frequency_width)
    families = {
        "kuramoto": _kuramoto, "sakaguchi": _sakaguchi, "daido": _daido, "shil": _shil,
    }  # fmt: skip
    check.require_choice(config.system, "system", (*families, "lohe"))
    return families[config.system](config, density)


def _words(config: SimulateConfig, density: FrequencyDensity) -> dict[str, Any]:
    return {
        "population": (
            f"phase oscillators, natural frequencies at the quantiles of a {_proper(density)} "
            f"density of width {config.frequency_width:g}"
        )
    }


def _kuramoto(config: SimulateConfig, density: FrequencyDensity) -> Chosen:
    omega, noise = density.quantiles(config.num_oscillators), config.noise_intensity
    return Chosen(
        lambda K: Kuramoto(omega, coupling_strength=K, noise_intensity=noise),
        f"Kuramoto oscillators, {_proper(density)} frequencies",
        explanation="The line is the self-consistent order parameter of an infinite population.",
        critical_coupling=critical_coupling(density, noise_intensity=noise),
        theory=lambda K: self_consistent_order_parameter(K, density, noise_intensity=noise),
        **_words(config, density),
    )


def _sakaguchi(config: SimulateConfig, density: FrequencyDensity) -> Chosen:
    omega, noise = density.quantiles(config.num_oscillators), config.noise_intensity
    lag = 0.5 if config.frustration is None else config.frustration
    known: dict[str, Any] = {}
    if isinstance(density, Lorentzian):
        known["critical_coupling"] = critical_coupling(
            density, noise_intensity=noise, frustration=lag
        )
        if not noise and math.cos(lag) > 1e-12:
            known["explanation"] = "The line is the exact order parameter without finite size."
            known["theory"] = lambda K: lorentzian_order_parameter(
                K, density.width, frustration=lag
            )
    return Chosen(
        lambda K: SakaguchiKuramoto(
            omega, coupling_strength=K, noise_intensity=noise, frustration=lag
        ),
        f"Sakaguchi–Kuramoto oscillators, frustration {lag:g}, {_proper(density)} frequencies",
        **known,
        **_words(config, density),
    )


def _daido(config: SimulateConfig, density: FrequencyDensity) -> Chosen:
    omega, noise = density.quantiles(config.num_oscillators), config.noise_intensity
    amplitude = (1.0, 0.5) if config.harmonic_amplitude is None else config.harmonic_amplitude
    if not amplitude:
        raise ValueError(
            "`harmonic_amplitude` must hold one number at least; got none. Leave it out for 1 0.5."
        )
    lags = (config.frustration or 0.0,) * len(amplitude)
    onset = None
    if amplitude[0] > 0 and not any(lags):
        onset = critical_coupling(density, noise_intensity=noise) / amplitude[0]
    listed = ", ".join(f"{a:g}" for a in amplitude)
    return Chosen(
        lambda K: Daido(
            omega,
            coupling_strength=K,
            noise_intensity=noise,
            harmonic_amplitude=amplitude,
            frustration=lags,
        ),
        f"Oscillators with harmonics {listed}, {_proper(density)} frequencies",
        explanation="The dashed line is where the first harmonic alone would start."
        if onset is not None
        else Chosen.explanation,
        critical_coupling=onset,
        observe={"second_harmonic": _second_harmonic},
        **_words(config, density),
    )


def _shil(config: SimulateConfig, density: FrequencyDensity) -> Chosen:
    omega, noise = density.quantiles(config.num_oscillators), config.noise_intensity
    strength = 0.5 if config.injection_strength is None else config.injection_strength
    return Chosen(
        lambda K: SecondHarmonicInjection(
            omega, coupling_strength=K, noise_intensity=noise, injection_strength=strength
        ),
        f"Second-harmonic injection of strength {strength:g}, {_proper(density)} frequencies",
        explanation=(
            "The injected signal pins phases to two opposite values, so a population that starts "
            "incoherent may stay split between them."
        ),
        observe={"second_harmonic": _second_harmonic},
        **_words(config, density),
    )


def _lohe(config: SimulateConfig) -> Chosen:
    dim = 3 if config.dimension is None else config.dimension
    check.require_integer(dim, "dimension", minimum=2)
    width, noise = config.frequency_width, config.noise_intensity
    if dim == 2:
        density = DENSITIES[config.density or "lorentzian"](width)
        planes = density.quantiles(config.num_oscillators)[:, None]
        plane = _kuramoto(config, density)
        return Chosen(
            lambda K: Lohe(planes, 2, coupling_strength=K, noise_intensity=noise),
            f"Lohe oscillators on the circle, {_proper(density)} frequencies",
            population=plane.population.replace("phase oscillators", "unit vectors"),
            explanation=plane.explanation,
            critical_coupling=plane.critical_coupling,
            theory=plane.theory,
        )
    if config.density not in {None, "gaussian"}:
        raise ValueError(
            f"`density` must be gaussian for lohe above two dimensions, the only one without a "
            f"preferred direction; got {config.density}. Leave it out."
        )
    drawn = torch.Generator().manual_seed(config.seed)
    omega = random_rotation(config.num_oscillators, dim, width=width, generator=drawn)
    known: dict[str, Any] = {}
    if dim % 2 and not noise:
        known["explanation"] = "The line is the self-consistent order parameter: a jump at K = 0."
        known["theory"] = lambda K: odd_dimension_order_parameter(K, omega[:400])
    return Chosen(
        lambda K: Lohe(omega, dim, coupling_strength=K, noise_intensity=noise),
        f"Lohe oscillators in {dim} dimensions",
        population=(
            f"unit vectors in {dim} dimensions, natural rotations with Gaussian entries of "
            f"standard deviation {width:g}"
        ),
        **known,
    )


def _proper(density: FrequencyDensity) -> str:
    return density.name if density.name == "uniform" else density.name.title()


def _second_harmonic(phase: Tensor) -> Tensor:
    return torch.hypot((2 * phase).cos().mean(-1), (2 * phase).sin().mean(-1))
