"""Coupled phases: Kuramoto, Sakaguchi–Kuramoto, Daido harmonics, second-harmonic injection."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.simulation.systems import PhaseSystem, per_batch
from syncattn.simulation.systems_checks import (
    in_dtype_of,
    is_symmetric,
    require_frequency,
    require_noise,
    require_parameter,
    require_square,
)
from syncattn.simulation.systems_rates import degree, mixed, most_of, wide

__all__ = ["Daido", "Kuramoto", "SakaguchiKuramoto", "SecondHarmonicInjection"]


@dataclass(frozen=True, eq=False)
class Kuramoto(PhaseSystem):
    r"""Phases that pull each other by the sine of their differences.

    .. math:: \dot\theta_i = \omega_i + K \sum_j J_{ij} \sin(\theta_j - \theta_i)

    Without a coupling matrix every pair has :math:`J_{ij} = 1/N` (all to all), and the sum is
    computed through the mean field in O(N) time and memory.  # theory: KU-1, KU-3

    Args:
        natural_frequency: ``(*batch, oscillators)``, radians per unit time.
        coupling_strength: :math:`K`, as frequency; a tensor over the batch gives every population
            its own.
        coupling: :math:`J`, dense ``(*batch, oscillators, oscillators)`` or sparse COO without a
            batch, row i holding what pulls oscillator i; all to all when None. Whether it is
            symmetric is looked at once: do not change it in place.
        noise_intensity: :math:`D` of independent phase noise, radians² per unit time.

    Raises:
        ValueError: If a parameter is not finite, the noise negative, or the matrix not square.
        TypeError: If a parameter is not a number or a floating tensor.
    """

    natural_frequency: Tensor
    _: KW_ONLY
    coupling_strength: float | Tensor
    coupling: Tensor | None = None
    noise_intensity: float = 0.0

    def __post_init__(self) -> None:
        require_frequency(self.natural_frequency)
        require_parameter(self.coupling_strength, "coupling_strength")
        require_noise(self.noise_intensity)
        strength = in_dtype_of(self.natural_frequency, self.coupling_strength)
        object.__setattr__(self, "coupling_strength", strength)
        if self.coupling is not None:
            require_square(self.coupling, self.natural_frequency.shape[-1])

    def drift(
        self, state: Float[Tensor, "*batch oscillators"], time: float
    ) -> Float[Tensor, "*batch oscillators"]:
        """Returns the velocity of every phase.

        Args:
            state: The phases.
            time: Unused; the equation does not depend on time.

        Returns:
            Radians per unit time.
        """
        del time
        pull = self._pull(state, self._frustration())
        return self.natural_frequency + per_batch(self.coupling_strength) * pull

    def energy(self, state: Float[Tensor, "*batch oscillators"]) -> Float[Tensor, "*batch"] | None:
        r"""Returns the potential whose negative gradient is the drift; None if there is none.

        .. math:: V = -\sum_i \omega_i \theta_i
                  - \tfrac{K}{2} \sum_{ij} J_{ij} \cos(\theta_j - \theta_i)

        It is tilted by the frequencies, so it has no lower bound when phases drift.  # theory: KU-4

        Args:
            state: The phases, not wrapped.

        Returns:
            The energy of each population, or None with frustration or one-sided coupling.
        """
        if not self._is_gradient:
            return None
        tilt = (self.natural_frequency * state).sum(-1)
        return -tilt - 0.5 * self.coupling_strength * self._agreement(state)

    def residual(self, state: Float[Tensor, "*batch oscillators"]) -> Float[Tensor, "*batch"]:
        """Returns the largest deviation of a velocity from the mean velocity.

        Args:
            state: The phases.

        Returns:
            Radians per unit time; 0 when all turn together.
        """
        velocity = self.drift(state, 0.0)
        return (velocity - velocity.mean(-1, keepdim=True)).abs().amax(-1)

    def fastest_rate(self) -> float:
        """Returns a rate at which disturbances of the synchronized state decay.

        Returns:
            The rate of the fastest population; 0 where that state repels.
        """
        attraction = wide(self.coupling_strength) * wide(self._slope())
        if self.coupling is not None:
            received = degree(self.coupling)
            if self._is_symmetric:
                # A lower bound of the largest eigenvalue of the coupling's Laplacian.
                number = received.shape[-1]
                received = received * number / max(number - 1, 1)
            attraction = attraction[..., None] * received
        return max(0.0, attraction.amax().item())

    def fastest_motion(self) -> float:
        """Returns the rate that an accurate step resolves; a frustrated pull turns as fast.

        Returns:
            The larger one of the pull's rate and of the spread of the natural frequencies.
        """
        pull = wide(self.coupling_strength).abs() * self._steepness()
        if self.coupling is not None:
            pull = pull[..., None] * degree(self.coupling.abs())
        omega = wide(self.natural_frequency)
        spread = (omega - omega.median(-1, keepdim=True).values).abs()
        return max(pull.amax().item(), most_of(spread))

    def _frustration(self) -> float | Tensor:
        return 0.0

    def _slope(self) -> float | Tensor:
        return 1.0

    def _steepness(self) -> float:
        """What the slope of the pull is at most, whatever the lags."""
        return 1.0

    def _pull(
        self, phase: Tensor, frustration: float | Tensor, harmonic: int = 1
    ) -> Float[Tensor, "*batch oscillators"]:
        angle = phase if harmonic == 1 else harmonic * phase
        cos, sin = angle.cos(), angle.sin()
        field_cos, field_sin = mixed(self.coupling, cos), mixed(self.coupling, sin)
        lag = per_batch(frustration)
        if isinstance(lag, Tensor):
            turn_cos, turn_sin = lag.cos(), lag.sin()
        else:
            turn_cos, turn_sin = math.cos(lag), math.sin(lag)
        if isinstance(lag, Tensor) or lag:
            field_cos, field_sin = (
                turn_cos * field_cos + turn_sin * field_sin,
                turn_cos * field_sin - turn_sin * field_cos,
            )
        return field_sin * cos - field_cos * sin

    def _agreement(self, phase: Tensor, harmonic: int = 1) -> Tensor:
        cos, sin = (harmonic * phase).cos(), (harmonic * phase).sin()
        return (cos * mixed(self.coupling, cos) + sin * mixed(self.coupling, sin)).sum(-1)

    @property
    def _is_gradient(self) -> bool:
        lag = self._frustration()
        straight = not (bool(lag.any()) if isinstance(lag, Tensor) else lag)
        return straight and self._is_symmetric

    @cached_property
    def _is_symmetric(self) -> bool:
        return self.coupling is None or is_symmetric(self.coupling)

    def _shape(self) -> tuple[int, ...]:
        shapes = [tuple(self.natural_frequency.shape)]
        shapes += [(*v.shape, 1) for v in self._batched() if isinstance(v, Tensor)]
        if self.coupling is not None:
            shapes.append(tuple(self.coupling.shape[:-1]))
        return tuple(torch.broadcast_shapes(*shapes))

    def _batched(self) -> tuple[float | Tensor, ...]:
        return (self.coupling_strength, self._frustration())


@dataclass(frozen=True, eq=False)
class SakaguchiKuramoto(Kuramoto):
    r"""Kuramoto's phases with a phase lag in the coupling.

    .. math:: \dot\theta_i = \omega_i + K \sum_j J_{ij} \sin(\theta_j - \theta_i - \alpha)

    Identical oscillators turn at :math:`\omega - K \sin\alpha`.  # theory: KU-9

    Args:
        natural_frequency: As in `Kuramoto`.
        coupling_strength: As in `Kuramoto`.
        coupling: As in `Kuramoto`.
        noise_intensity: As in `Kuramoto`.
        frustration: :math:`\alpha` in radians, attractive while below π/2 in absolute value; a
            tensor over the batch gives every population its own.
    """

    frustration: float | Tensor = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_parameter(self.frustration, "frustration")
        lag = in_dtype_of(self.natural_frequency, self.frustration)
        object.__setattr__(self, "frustration", lag)

    def _frustration(self) -> float | Tensor:
        return self.frustration

    def _slope(self) -> float | Tensor:
        return wide(self.frustration).cos()


@dataclass(frozen=True, eq=False)
class Daido(Kuramoto):
    r"""Phases coupled through several harmonics, each with its amplitude and frustration.

    .. math:: \dot\theta_i = \omega_i + K \sum_m a_m \sum_j J_{ij}
              \sin(m(\theta_j - \theta_i) - \alpha_m)

    Args:
        natural_frequency: As in `Kuramoto`.
        coupling_strength: As in `Kuramoto`.
        coupling: As in `Kuramoto`.
        noise_intensity: As in `Kuramoto`.
        harmonic_amplitude: :math:`a_1, a_2, \dots`, dimensionless.
        frustration: :math:`\alpha_1, \alpha_2, \dots` in radians, as many; none when empty.

    Raises:
        ValueError: If there is no amplitude, or another number of frustrations.
    """

    harmonic_amplitude: tuple[float, ...] = (1.0,)
    frustration: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("harmonic_amplitude", "frustration"):
            check.require_instance(
                getattr(self, name), name, tuple, "Pass one number per harmonic."
            )
        for value in (*self.harmonic_amplitude, *self.frustration):
            check.require_number(value, "harmonic_amplitude` or `frustration")
        count = len(self.harmonic_amplitude)
        if not count or len(self.frustration) not in {0, count}:
            raise ValueError(
                f"`frustration` must have one value per harmonic of `harmonic_amplitude`, which "
                f"has at least one; got {len(self.frustration)} and {count}. Pad with zeros."
            )

    def drift(
        self, state: Float[Tensor, "*batch oscillators"], time: float
    ) -> Float[Tensor, "*batch oscillators"]:
        """Returns the velocity of every phase.

        # theory: KU-10

        Args:
            state: The phases.
            time: Unused.

        Returns:
            Radians per unit time.
        """
        del time
        lags = self.frustration or (0.0,) * len(self.harmonic_amplitude)
        pull = torch.zeros_like(state)
        for m, (amplitude, lag) in enumerate(
            zip(self.harmonic_amplitude, lags, strict=True), start=1
        ):
            pull = pull + amplitude * self._pull(state, lag, m)
        return self.natural_frequency + per_batch(self.coupling_strength) * pull

    def energy(self, state: Float[Tensor, "*batch oscillators"]) -> Float[Tensor, "*batch"] | None:
        """Returns the potential, the sum over harmonics; None with frustration.

        Args:
            state: The phases, not wrapped.

        Returns:
            The energy of each population, or None.
        """
        if any(self.frustration) or not self._is_gradient:
            return None
        agreement = torch.zeros_like(state[..., 0])
        for m, amplitude in enumerate(self.harmonic_amplitude, start=1):
            agreement = agreement + amplitude / m * self._agreement(state, m)
        tilt = (self.natural_frequency * state).sum(-1)
        return -tilt - 0.5 * self.coupling_strength * agreement

    def _slope(self) -> float | Tensor:
        lags = self.frustration or (0.0,) * len(self.harmonic_amplitude)
        terms = zip(self.harmonic_amplitude, lags, strict=True)
        return sum(m * a * math.cos(lag) for m, (a, lag) in enumerate(terms, start=1))

    def _steepness(self) -> float:
        return sum(m * abs(a) for m, a in enumerate(self.harmonic_amplitude, start=1))


@dataclass(frozen=True, eq=False)
class SecondHarmonicInjection(Kuramoto):
    r"""Kuramoto's phases pinned to two opposite values by a signal at twice their frequency.

    .. math:: \dot\theta_i = \omega_i + K \sum_j J_{ij} \sin(\theta_j - \theta_i)
              + K_2 \sin 2(\psi_2 - \theta_i)

    This is how oscillator Ising machines make phases binary.  # theory: KU-11

    Args:
        natural_frequency: As in `Kuramoto`, measured from half the injected frequency.
        coupling_strength: As in `Kuramoto`.
        coupling: As in `Kuramoto`.
        noise_intensity: As in `Kuramoto`.
        injection_strength: :math:`K_2 \ge 0`, as frequency.
        injection_phase: :math:`\psi_2` in radians; defined modulo π.
    """

    injection_strength: float = 1.0
    injection_phase: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check.require_number(self.injection_strength, "injection_strength", minimum=0.0)
        check.require_number(self.injection_phase, "injection_phase")

    def drift(
        self, state: Float[Tensor, "*batch oscillators"], time: float
    ) -> Float[Tensor, "*batch oscillators"]:
        """Returns the velocity of every phase.

        Args:
            state: The phases.
            time: Unused.

        Returns:
            Radians per unit time.
        """
        injected = (2 * (self.injection_phase - state)).sin()
        return super().drift(state, time) + float(self.injection_strength) * injected

    def energy(self, state: Float[Tensor, "*batch oscillators"]) -> Float[Tensor, "*batch"] | None:
        """Returns the potential with the injected signal's part.

        Args:
            state: The phases, not wrapped.

        Returns:
            The energy of each population, or None with one-sided coupling.
        """
        mutual = super().energy(state)
        pinned = (2 * (self.injection_phase - state)).cos().sum(-1)
        return None if mutual is None else mutual - 0.5 * self.injection_strength * pinned

    def residual(self, state: Float[Tensor, "*batch oscillators"]) -> Float[Tensor, "*batch"]:
        """Returns the largest velocity: the injected signal holds the frame still.

        Args:
            state: The phases.

        Returns:
            Radians per unit time.
        """
        return self.drift(state, 0.0).abs().amax(-1)

    def fastest_rate(self) -> float:
        """Returns the rate at which disturbances of a pinned state decay.

        Returns:
            The rate.
        """
        return super().fastest_rate() + 2 * self.injection_strength

    def fastest_motion(self) -> float:
        """Returns the rate that an accurate step resolves, the injected pull's included.

        Returns:
            The rate.
        """
        return super().fastest_motion() + 2 * self.injection_strength
