"""Free phases driven by fixed anchors: the physics of the attention layer, on the circle."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.simulation.systems import PhaseSystem
from syncattn.simulation.systems_checks import require_noise, require_parameter
from syncattn.simulation.theory import largest_on_circle

__all__ = ["DrivenPhases"]


@dataclass(frozen=True, eq=False)
class DrivenPhases(PhaseSystem):
    r"""Phases that feel fixed phases only, never each other: a star per oscillator.

    .. math:: \dot\theta_i = \omega_i + K_i \sin(\psi_i - \theta_i - \alpha)
              + K_2 \sin 2(\psi_2 - \theta_i)

    with :math:`K_i e^{\mathrm i \psi_i} = \sum_j W_{ij} e^{\mathrm i \varphi_j}` summed once,
    because the anchors :math:`\varphi_j` do not move.  # theory: KU-13

    Args:
        drive_strength: :math:`K_i \ge 0`, ``(*batch, oscillators)``, as frequency.
        drive_phase: :math:`\psi_i`, of the same shape, in radians.
        natural_frequency: :math:`\omega_i`, measured from the anchors'; 0 when None.
        frustration: :math:`\alpha` in radians.
        injection_strength: :math:`K_2 \ge 0` of a second harmonic.
        injection_phase: :math:`\psi_2` in radians.
        noise_intensity: :math:`D` of independent phase noise, radians² per unit time.

    Raises:
        TypeError: If a strength, a phase or a frequency is not a floating tensor.
        ValueError: If a parameter is not finite or a strength negative, or shapes differ.
    """

    drive_strength: Tensor
    drive_phase: Tensor
    natural_frequency: Tensor = None  # pyright: ignore[reportAssignmentType]
    _: KW_ONLY
    frustration: float = 0.0
    injection_strength: float = 0.0
    injection_phase: float = 0.0
    noise_intensity: float = 0.0

    def __post_init__(self) -> None:
        check.require_floating(self.drive_strength, "drive_strength")
        check.require_floating(self.drive_phase, "drive_phase")
        require_parameter(self.drive_strength, "drive_strength", minimum=0.0)
        require_parameter(self.drive_phase, "drive_phase")
        if self.natural_frequency is None:  # pyright: ignore[reportUnnecessaryComparison]
            object.__setattr__(self, "natural_frequency", torch.zeros_like(self.drive_phase))
        check.require_floating(self.natural_frequency, "natural_frequency")
        require_parameter(self.natural_frequency, "natural_frequency")
        check.require_number(self.frustration, "frustration")
        check.require_number(self.injection_strength, "injection_strength", minimum=0.0)
        check.require_number(self.injection_phase, "injection_phase")
        require_noise(self.noise_intensity)
        shapes = {
            tuple(t.shape) for t in (self.drive_strength, self.drive_phase, self.natural_frequency)
        }
        if len(shapes) > 1 or not self.drive_phase.dim():
            raise ValueError(
                f"`drive_strength`, `drive_phase` and `natural_frequency` must have one shape "
                f"(*batch, oscillators); got {sorted(shapes)}. Expand them first."
            )

    @classmethod
    def from_anchors(
        cls,
        coupling: Float[Tensor, "*batch oscillators anchors"],
        anchor: Float[Tensor, "*#batch anchors"],
        *,
        noise_intensity: float = 0.0,
    ) -> DrivenPhases:
        """Returns the star whose oscillator i is coupled to anchor j by ``coupling[i, j]``.

        Args:
            coupling: Couplings, as frequency.
            anchor: Phases of the anchors.
            noise_intensity: As in the class.

        Returns:
            The system.
        """
        cos = (coupling @ anchor.cos()[..., None]).squeeze(-1)
        sin = (coupling @ anchor.sin()[..., None]).squeeze(-1)
        strength, phase = torch.hypot(cos, sin), torch.atan2(sin, cos)
        return cls(strength, phase, noise_intensity=noise_intensity)

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
        del time
        pull = self.drive_strength * (self.drive_phase - self.frustration - state).sin()
        velocity = self.natural_frequency + pull
        if self.injection_strength:
            injected = (2 * (self.injection_phase - state)).sin()
            velocity = velocity + self.injection_strength * injected
        return velocity

    def energy(self, state: Float[Tensor, "*batch oscillators"]) -> Float[Tensor, "*batch"]:
        """Returns the potential, summed over the oscillators; it exists with frustration too.

        Args:
            state: The phases, not wrapped.

        Returns:
            The energy of each population.
        """
        driven = self.drive_strength * (self.drive_phase - self.frustration - state).cos()
        injected = 0.5 * self.injection_strength * (2 * (self.injection_phase - state)).cos()
        return -(driven + injected + self.natural_frequency * state).sum(-1)

    def residual(self, state: Float[Tensor, "*batch oscillators"]) -> Float[Tensor, "*batch"]:
        r"""Returns the largest velocity over strength; at least 1 at an unstable equilibrium.

        Without natural frequency it is the sine of the angle to the attractor.

        Args:
            state: The phases.

        Returns:
            A number of each population.
        """
        if not state.shape[-1]:
            return state.sum(-1)
        scale = self.drive_strength + self.injection_strength
        speed = self.drift(state, 0.0).abs() / torch.where(scale > 0, scale, 1.0)
        driven = self.drive_strength * (self.drive_phase - self.frustration - state).cos()
        injected = 2 * self.injection_strength * (2 * (self.injection_phase - state)).cos()
        unstable = driven + injected < 0
        return torch.where(unstable, speed.clamp(min=1.0), speed).amax(-1)

    def fastest_rate(self) -> float:
        r"""Returns the largest slope of a velocity anywhere on the circle.

        .. math:: \max_\theta K_i \cos(\psi_i - \theta - \alpha) + 2 K_2 \cos 2(\psi_2 - \theta)

        Returns:
            The maximum over the oscillators.
        """
        first = _vector(self.drive_strength, self.drive_phase - self.frustration)
        twice = torch.tensor(2 * self.injection_phase, dtype=torch.float64)
        second = _vector(2 * self.injection_strength, twice).to(first.device)
        return largest_on_circle(first, second).amax().item()

    def attractor(self) -> Float[Tensor, "*batch oscillators"]:
        r"""Returns where the phases settle without injection: :math:`\psi - \alpha + \arcsin`.

        Returns:
            The phases; NaN where the natural frequency exceeds the strength.

        Raises:
            ValueError: If a second harmonic is injected, since there may be two attractors.
        """
        if self.injection_strength:
            raise ValueError(
                f"`injection_strength` must be 0 for the attractor to be unique and in closed "
                f"form; got {self.injection_strength:g}. Integrate instead."
            )
        offset = torch.asin(self.natural_frequency / self.drive_strength)
        return (
            self.drive_phase
            - self.frustration
            + offset.masked_fill(self.natural_frequency.abs() > self.drive_strength, math.nan)
        )


def _vector(length: Tensor | float, angle: Tensor) -> Tensor:
    return torch.stack((length * angle.cos(), length * angle.sin()), -1)
