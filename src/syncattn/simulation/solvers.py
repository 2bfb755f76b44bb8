"""One-step solvers; each declares its order, and a test measures it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from syncattn._typing import Float, Tensor
from syncattn.simulation.systems import System

__all__ = ["RK4", "Euler", "EulerMaruyama", "Heun", "Solver", "StochasticHeun"]


@dataclass(frozen=True)
class Solver(ABC):
    """One step of a differential equation.

    Attributes:
        projected: Whether the result is put back on the system's manifold after every step, which
            keeps the order. On the sphere Euler's step then turns by exactly
            ``arctan(step * K * sin(angle))`` and converges for ``step * K <= 2``.  # theory: KU-21
        order: Global order without noise.
        strong_order: Order along single paths with any noise; None when noise is not served.
        strong_order_commuting: The same with commuting noise.
        strong_order_additive: The same when the noise does not depend on the state.
        num_evaluations: Drifts evaluated in a step.
        stability_limit: Largest step times rate at which a decay still decays.
    """

    projected: bool = True

    order: ClassVar[int]
    strong_order: ClassVar[float | None] = None
    strong_order_commuting: ClassVar[float | None] = None
    strong_order_additive: ClassVar[float | None] = None
    num_evaluations: ClassVar[int]
    stability_limit: ClassVar[float]

    def advance(
        self,
        system: System,
        state: Float[Tensor, "*shape"],
        time: float,
        step: float | Tensor,
        increment: Float[Tensor, "*shape"] | None = None,
    ) -> Float[Tensor, "*shape"]:
        """Returns the state one step later.

        Args:
            system: What moves.
            state: Where it is.
            time: When.
            step: How far; a tensor that broadcasts to the state gives each oscillator its own.
            increment: Brownian increment of the step, of variance `step`; None without noise.

        Returns:
            The new state.
        """
        moved = self._advance(system, state, time, step, increment)
        return system.project(moved) if self.projected else moved

    @abstractmethod
    def _advance(
        self,
        system: System,
        state: Tensor,
        time: float,
        step: float | Tensor,
        increment: Tensor | None,
    ) -> Tensor:
        """The step without projection."""


@dataclass(frozen=True)
class Euler(Solver):
    """The explicit Euler step: order 1."""

    order: ClassVar[int] = 1
    num_evaluations: ClassVar[int] = 1
    stability_limit: ClassVar[float] = 2.0

    def _advance(
        self,
        system: System,
        state: Tensor,
        time: float,
        step: float | Tensor,
        increment: Tensor | None,
    ) -> Tensor:
        del increment
        return state + step * system.drift(state, time)


@dataclass(frozen=True)
class Heun(Solver):
    """The explicit trapezoidal rule: order 2."""

    order: ClassVar[int] = 2
    num_evaluations: ClassVar[int] = 2
    stability_limit: ClassVar[float] = 2.0

    def _advance(
        self,
        system: System,
        state: Tensor,
        time: float,
        step: float | Tensor,
        increment: Tensor | None,
    ) -> Tensor:
        del increment
        first = system.drift(state, time)
        second = system.drift(state + step * first, _after(time, step))
        return state + 0.5 * step * (first + second)


@dataclass(frozen=True)
class RK4(Solver):
    """The classical Runge–Kutta step: order 4."""

    order: ClassVar[int] = 4
    num_evaluations: ClassVar[int] = 4
    stability_limit: ClassVar[float] = 2.785293563405282

    def _advance(
        self,
        system: System,
        state: Tensor,
        time: float,
        step: float | Tensor,
        increment: Tensor | None,
    ) -> Tensor:
        del increment
        half, middle = 0.5 * step, _after(time, 0.5 * step)
        first = system.drift(state, time)
        second = system.drift(state + half * first, middle)
        third = system.drift(state + half * second, middle)
        fourth = system.drift(state + step * third, _after(time, step))
        return state + step / 6 * (first + 2 * (second + third) + fourth)


@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """Euler's step with noise, in Itô's sense with the system's correction: strong order 1/2."""

    order: ClassVar[int] = 1
    strong_order: ClassVar[float | None] = 0.5
    strong_order_commuting: ClassVar[float | None] = 0.5
    strong_order_additive: ClassVar[float | None] = 1.0
    num_evaluations: ClassVar[int] = 1
    stability_limit: ClassVar[float] = 2.0

    def _advance(
        self,
        system: System,
        state: Tensor,
        time: float,
        step: float | Tensor,
        increment: Tensor | None,
    ) -> Tensor:
        moved = state + step * system.drift(state, time)
        if increment is None:
            return moved
        correction = system.ito_correction(state)
        if correction is not None:
            moved = moved + step * correction
        return moved + system.diffusion(state, increment)


@dataclass(frozen=True)
class StochasticHeun(Solver):
    """Heun's step with noise, in Stratonovich's sense: strong order 1/2, 1 when noise commutes."""

    order: ClassVar[int] = 2
    strong_order: ClassVar[float | None] = 0.5
    strong_order_commuting: ClassVar[float | None] = 1.0
    strong_order_additive: ClassVar[float | None] = 1.0
    num_evaluations: ClassVar[int] = 2
    stability_limit: ClassVar[float] = 2.0

    def _advance(
        self,
        system: System,
        state: Tensor,
        time: float,
        step: float | Tensor,
        increment: Tensor | None,
    ) -> Tensor:
        first = step * system.drift(state, time)
        if increment is not None:
            first = first + system.diffusion(state, increment)
        guess = state + first
        second = step * system.drift(guess, _after(time, step))
        if increment is not None:
            second = second + system.diffusion(guess, increment)
        return state + 0.5 * (first + second)


def _after(time: float, step: float | Tensor) -> float:
    # With a step per oscillator there is no common time; such systems do not depend on it.
    return time if isinstance(step, Tensor) else time + step
