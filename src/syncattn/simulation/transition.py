"""The synchronization transition: one population at many couplings, in one integration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.simulation.integrate import integrate
from syncattn.simulation.solvers import RK4, Solver, StochasticHeun
from syncattn.simulation.systems import System

__all__ = ["Transition", "synchronization_transition"]

Start = Literal["incoherent", "synchronized"]


@dataclass(frozen=True, eq=False)
class Transition:
    """A population at rising coupling.

    Attributes:
        coupling_strength: The couplings.
        start: How every run started.
        order_parameter: Mean coherence of the stationary part.
        deviation: Its standard deviation over time.
        locked_fraction: Share that turns together; None on the sphere.
        observed: Means over the stationary part of what the caller asked for.
        status: How the integration ended.
    """

    coupling_strength: Float[Tensor, " couplings"]
    start: Start
    order_parameter: Float[Tensor, " couplings"]
    deviation: Float[Tensor, " couplings"]
    locked_fraction: Float[Tensor, " couplings"] | None
    observed: dict[str, Float[Tensor, " couplings"]]
    status: str


def synchronization_transition(
    system: Callable[[Tensor], System],
    coupling_strength: Float[Tensor, " couplings"],
    *,
    start: Start = "incoherent",
    duration: float,
    step: float,
    solver: Solver | None = None,
    observe: dict[str, Callable[[Tensor], Tensor]] | None = None,
    generator: torch.Generator | None = None,
    progress: bool | str = False,
) -> Transition:
    """Measures the order parameter of a population at many couplings.

    Every coupling is a run of its own from the same kind of state; they advance together as one
    batch. Starting both ways shows whether the population remembers (hysteresis).

    Args:
        system: Gives the system from a tensor of couplings, one per population.
        coupling_strength: The couplings.
        start: From random states, or from one where all agree.
        duration: How long each runs; the second half is averaged.
        step: The time step.
        solver: RK4 when None, StochasticHeun with noise.
        observe: Functions of the state to average as well, by name.
        generator: Source of the initial state and the noise.
        progress: As in `integrate`.

    Returns:
        The transition.

    Raises:
        ValueError: If `start` is unknown, or an argument does not fit `integrate`.
    """
    check.require_choice(start, "start", ("incoherent", "synchronized"))
    check.require_number(duration, "duration", minimum=0.0, exclusive=True)
    check.require_number(step, "step", minimum=0.0, exclusive=True)
    population = system(coupling_strength)
    state = population.random_state(generator=generator)
    if start == "synchronized":
        # One state for all, up to the axis of oscillators.
        axis = -len(population.state_axes)
        state = state.narrow(axis, 0, 1).expand_as(state).contiguous()
    noisy = population.noise_intensity > 0
    solution = integrate(
        population,
        solver or (StochasticHeun() if noisy else RK4()),
        state,
        duration=duration,
        step=step,
        save_every=max(1, int(min(duration / step, 1e12) / 200)),
        keep_trajectory=False,
        observe=observe,
        generator=generator,
        progress=progress,
        throw=True,
    )
    numbers = solution.statistics
    part = solution.times >= numbers.start
    return Transition(
        coupling_strength=coupling_strength,
        start=start,
        order_parameter=numbers.mean_order_parameter,
        deviation=numbers.std_order_parameter,
        locked_fraction=numbers.locked_fraction,
        observed={name: value[part].mean(0) for name, value in solution.observed.items()},
        status=solution.status,
    )
