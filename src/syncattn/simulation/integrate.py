"""integrate(system, solver, state, …): the loop over time, what it records, when it stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from syncattn import _validation as check
from syncattn._typing import Tensor
from syncattn.simulation.solution import Solution, Statistics, locked_group, sentence
from syncattn.simulation.solvers import Solver
from syncattn.simulation.systems import PhaseSystem, System

__all__ = ["integrate"]

# Two phases that part by less than this over the stationary half turn together.
_LOCKED_WITHIN = 0.5
_MOST_STEPS = 10**9


class _Interval(NamedTuple):
    """Equal steps between two saved times."""

    start: float
    end: float
    num_steps: int

    @property
    def step(self) -> float:
        return (self.end - self.start) / self.num_steps


def integrate(
    system: System,
    solver: Solver,
    state: Tensor,
    *,
    step: float,
    duration: float | None = None,
    times: Sequence[float] | Tensor | None = None,
    save_every: int = 1,
    keep_trajectory: bool = True,
    observe: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    stop: float | None = None,
    stationary: float = 0.5,
    generator: torch.Generator | None = None,
    progress: bool | str = False,
    throw: bool = False,
) -> Solution:
    r"""Moves a state through time and returns what happened.

    Populations in front of the oscillators are independent and move together. The result depends
    on the arguments and the generator alone.

    Args:
        system: What moves.
        solver: How a step is made.
        state: Where it starts, ``(*batch, *system.state_axes)``; not changed.
        step: The longest step; every interval between saved times is divided into equal steps no
            longer than this.
        duration: How long, from time 0, saving every `save_every` steps; this or `times`.
        times: Rising times to save, the first being the start; this or `duration`.
        save_every: Steps between saved times, with `duration`.
        keep_trajectory: False keeps numbers only, not the states.
        observe: Functions of the state to record at saved times, by name.
        stop: Residual below which a population has settled; the integration ends when all have.
            None goes on to the end. Needs a system without noise.
        stationary: Share of the time after which the statistics begin.
        generator: Source of the noise; torch's own when None.
        progress: True, or the name of the run, shows a bar on a terminal if tqdm is installed.
        throw: Raise instead of returning a solution without success.

    Returns:
        The solution, whose `status` says how it ended.

    Raises:
        ValueError: If an argument does not fit, the step is too long to be stable, or a solver
            without noise meets a system with it.
        TypeError: If a type does not fit.
        RuntimeError: If `throw` is set and the solution is no success.
    """
    check.require_number(step, "step", minimum=0.0, exclusive=True)
    check.require_number(stationary, "stationary", minimum=0.0, maximum=1.0)
    require_fitting(system, solver, step, stop)
    system.check_state(state)
    schedule, start = _schedule(step, duration, times, save_every)
    last = schedule[-1].end
    recorder = _Recorder(
        system, keep_trajectory, observe or {}, start + stationary * (last - start), stop
    )
    recorder.save(start, state)
    total = sum(interval.num_steps for interval in schedule)
    done = 0
    with _Bar(progress, total) as bar:
        for interval in schedule:
            state = _cross(system, solver, state, interval, generator, bar)
            done += interval.num_steps
            if not recorder.save(interval.end, state):
                break
    solution = recorder.solution(solver, done, schedule[0].step)
    if throw and not solution.success:
        raise RuntimeError(solution.status)
    return solution


def _cross(
    system: System,
    solver: Solver,
    state: Tensor,
    interval: _Interval,
    generator: torch.Generator | None,
    bar: _Bar,
) -> Tensor:
    step = interval.step
    noisy = system.noise_intensity > 0
    for index in range(interval.num_steps):
        increment = None
        if noisy:
            normal = torch.randn(
                state.shape, generator=generator, dtype=state.dtype, device=state.device
            )
            increment = math.sqrt(step) * normal
        state = solver.advance(system, state, interval.start + index * step, step, increment)
        bar.update()
    return state


def require_fitting(system: System, solver: Solver, step: float, stop: float | None = None) -> None:
    """Refuses a solver, a step or a stop that does not fit a system.

    Args:
        system: What would be integrated.
        solver: By which solver.
        step: With which step.
        stop: Until which residual; None for a duration alone.

    Raises:
        TypeError: If a number is none.
        ValueError: If the solver does not serve noise, is unstable with this step, or noise never
            lets the state rest.
    """
    check.require_number(system.noise_intensity, "noise_intensity", minimum=0.0)
    if system.noise_intensity > 0 and solver.strong_order is None:
        raise ValueError(
            f"`solver` must serve noise, because the system has `noise_intensity` "
            f"{system.noise_intensity:g}; got {type(solver).__name__}. Use StochasticHeun()."
        )
    if stop is not None:
        check.require_number(stop, "stop", minimum=0.0, exclusive=True)
        if system.noise_intensity > 0:
            raise ValueError(
                f"`stop` must be None with noise, which never lets the state rest; got {stop:g} "
                f"and `noise_intensity` {system.noise_intensity:g}. Give a `duration` alone."
            )
    rate = system.fastest_rate()
    if step * rate > solver.stability_limit * (1 + 1e-9):
        raise ValueError(
            f"`step` must be at most {solver.stability_limit:.4g} / {rate:.4g} = "
            f"{solver.stability_limit / rate:.4g} for {type(solver).__name__} to be stable at the "
            f"fastest rate of this system; got {step:g}. Lower it, or divide the couplings."
        )


def _schedule(
    step: float,
    duration: float | None,
    times: Sequence[float] | Tensor | None,
    save_every: int,
) -> tuple[list[_Interval], float]:
    if (duration is None) == (times is None):
        raise ValueError(
            "`duration` or `times` must be given, and not both; got "
            f"{'neither' if times is None else 'both'}. Pass one of them."
        )
    check.require_integer(save_every, "save_every", minimum=1)
    if duration is not None:
        check.require_number(duration, "duration", minimum=0.0, exclusive=True)
        total = _count(duration, step)
        exact = duration / total
        marks = [*range(0, total, save_every), total]
        intervals = [_Interval(a * exact, b * exact, b - a) for a, b in pairwise(marks)]
        return intervals, 0.0
    moments = _numbers(times)
    rising = all(a < b for a, b in pairwise(moments))
    if len(moments) < 2 or not rising or not all(map(math.isfinite, moments)):
        raise ValueError(
            f"`times` must be at least two finite rising numbers; got {moments[:4]}"
            f"{' …' if len(moments) > 4 else ''}. Sort them."
        )
    return [_Interval(a, b, _count(b - a, step)) for a, b in pairwise(moments)], moments[0]


def _count(duration: float, step: float) -> int:
    """Returns the number of equal steps of an interval."""
    if duration / step > _MOST_STEPS:
        raise ValueError(
            f"A run must take at most {_MOST_STEPS} steps between saved times; got a duration of "
            f"{duration:g} and a `step` of {step:g}. Raise the step."
        )
    # A hair of slack: 10 / 0.1 must be 100 steps, whatever the division rounds to.
    return max(1, math.ceil(duration / step - 1e-9))


def _numbers(times: Any) -> list[float]:
    try:
        if isinstance(times, str | bytes):
            raise TypeError("a text")
        return [float(time) for time in (times.tolist() if isinstance(times, Tensor) else times)]
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise TypeError(
            f"`times` must be a list of numbers or a tensor of one axis; got {times!r:.60}. Pass "
            "the moments to save."
        ) from error


class _Recorder:
    """Keeps what happened at the saved times."""

    def __init__(
        self,
        system: System,
        keep: bool,
        observe: Mapping[str, Callable[[Tensor], Tensor]],
        stationary_start: float,
        stop: float | None,
    ) -> None:
        self.system = system
        self.keep = keep
        self.observe = observe
        self.stationary_start = stationary_start
        self.stop = stop
        self.times: list[float] = []
        self.states: list[Tensor] = []
        self.numbers: dict[str, list[Tensor]] = {}
        self.final = torch.zeros(0)
        self.window: tuple[float, Tensor] | None = None
        self.diverged_at: float | None = None

    def save(self, time: float, state: Tensor) -> bool:
        """Records a state; returns whether to go on."""
        self.times.append(time)
        self.final = state
        if self.keep:
            self.states.append(state)
        numbers = {
            "order": self.system.order_parameter(state),
            "residual": self.system.residual(state),
            **{f"observed {name}": measure(state) for name, measure in self.observe.items()},
        }
        energy = self.system.energy(state)
        if energy is not None:
            numbers["energy"] = energy
        for name, value in numbers.items():
            self.numbers.setdefault(name, []).append(value)
        # A hair of slack, in whatever unit the times are.
        if self.window is None and time >= self.stationary_start - 1e-9 * (time - self.times[0]):
            self.window = (time, state)
        if not bool(torch.isfinite(state).all()):
            self.diverged_at = time
            return False
        return self.stop is None or bool((numbers["residual"] >= self.stop).any())

    def solution(self, solver: Solver, num_steps: int, step: float) -> Solution:
        numbers = {name: torch.stack(values) for name, values in self.numbers.items()}
        residual = numbers["residual"][-1]
        settled = None if self.stop is None else residual < self.stop
        return Solution(
            times=torch.tensor(self.times, dtype=torch.float64),
            trajectory=torch.stack(self.states) if self.keep else None,
            final_state=self.final,
            order_parameter=numbers["order"],
            residual=numbers["residual"],
            energy=numbers.get("energy"),
            observed={name: numbers[f"observed {name}"] for name in self.observe},
            settled=settled,
            success=self.diverged_at is None and (settled is None or bool(settled.all())),
            status=sentence(
                diverged_at=self.diverged_at,
                settled=settled,
                residual=residual,
                tolerance=self.stop,
                time=self.times[-1],
                step=step,
            ),
            statistics=self._statistics(numbers["order"]),
            num_steps=num_steps,
            num_evaluations=num_steps * solver.num_evaluations,
        )

    def _statistics(self, order: Tensor) -> Statistics:
        # A population that settled early may have no saved time in the planned window; its last
        # state is stationary.
        start = self.window[0] if self.window is not None else self.times[-1]
        part = order[[time >= start for time in self.times]]
        rotation = None
        if isinstance(self.system, PhaseSystem):
            elapsed = self.times[-1] - start
            if self.window is None or elapsed <= 0:
                rotation = self.system.drift(self.final, self.times[-1])
                elapsed = math.inf
            else:
                rotation = (self.final - self.window[1]) / elapsed
        else:
            elapsed = math.inf
        if self.stop is None and math.isinf(elapsed):
            elapsed = self.times[-1] - self.times[0]
        resolution = max(_LOCKED_WITHIN / elapsed, 2 * (self.stop or 0.0))
        return Statistics(
            start=start,
            mean_order_parameter=part.mean(0),
            std_order_parameter=part.std(0, correction=0),
            rotation_number=rotation,
            locked=None if rotation is None else locked_group(rotation, resolution),
        )


class _Bar:
    """A progress bar where tqdm is installed and the output is a terminal."""

    def __init__(self, progress: bool | str, total: int) -> None:
        self._bar: Any = None
        if progress is not False:
            try:
                from tqdm import tqdm
            except ModuleNotFoundError:
                return
            label = progress if isinstance(progress, str) else None
            self._bar = tqdm(total=total, desc=label, disable=None, unit="step")

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self) -> None:
        if self._bar is not None:
            self._bar.update()
