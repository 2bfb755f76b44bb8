"""One population simulated over couplings and in detail: a figure and a record in a folder."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from syncattn import _validation as check
from syncattn.analysis.plots import save_figure
from syncattn.analysis.transition import Branch, Population, transition_figure
from syncattn.benchmarks.environment import environment
from syncattn.benchmarks.folders import require_output
from syncattn.benchmarks.simulate_population import Chosen, SimulateConfig, choose
from syncattn.functional import order_parameter, wrap_phase
from syncattn.simulation import (
    RK4,
    PhaseSystem,
    Solution,
    Solver,
    StochasticHeun,
    System,
    Transition,
    integrate,
    synchronization_transition,
)
from syncattn.simulation.integrate import require_fitting

__all__ = ["SimulateConfig", "simulate"]


def simulate(config: SimulateConfig) -> list[Path]:
    """Simulates a population and writes its figure and its record.

    Args:
        config: What to simulate.

    Returns:
        The paths written: PNG, SVG, JSON.

    Raises:
        ValueError: If a field does not fit.
        OSError: If the folder cannot be written.
    """
    started = time.perf_counter()
    _check(config)
    chosen = choose(config)
    generator = torch.Generator().manual_seed(config.seed)
    couplings = torch.linspace(0, _largest(config, chosen), config.num_couplings).double()
    shown = torch.tensor(config.coupling_strength, dtype=torch.float64)
    solver = StochasticHeun() if config.noise_intensity else RK4()
    everything = chosen.system(torch.cat((couplings, shown[None])))
    step = config.step or _step(everything, solver)
    require_fitting(everything, solver, step)
    config.output.mkdir(parents=True, exist_ok=True)
    branches = {
        start: synchronization_transition(
            chosen.system,
            couplings,
            start=start,
            duration=config.duration,
            step=step,
            observe=chosen.observe,
            generator=generator,
            progress=f"{config.num_couplings} couplings, {start}",
        )
        for start in (("incoherent", "synchronized") if config.both_starts else ("incoherent",))
    }
    system = chosen.system(shown)
    solution = integrate(
        system,
        solver,
        system.random_state(generator=generator),
        duration=config.duration,
        step=step,
        save_every=max(1, int(config.duration / step / 400)),
        keep_trajectory=False,
        generator=generator,
        progress=f"K = {config.coupling_strength:g}",
        throw=True,
    )
    figure = transition_figure(
        {f"started {start}": _branch(branch) for start, branch in branches.items()},
        _population(config, system, solution),
        theory=_theory(chosen, couplings, 49 if config.noise_intensity else 241),
        critical_coupling=chosen.critical_coupling,
        title=chosen.title,
        caption=_caption(config, chosen, step),
    )
    paths = save_figure(figure, config.output / config.system)
    record = config.output / f"{config.system}.json"
    seconds = time.perf_counter() - started
    content = _record(config, chosen, step, branches, solution, seconds)
    record.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return [*paths, record]


def _check(config: SimulateConfig) -> None:
    check.require_number(config.coupling_strength, "coupling_strength", minimum=0.0, exclusive=True)
    check.require_integer(config.num_oscillators, "num_oscillators", minimum=2)
    check.require_integer(config.num_couplings, "num_couplings", minimum=2)
    check.require_integer(config.seed, "seed", minimum=0)
    check.require_number(config.duration, "duration", minimum=0.0, exclusive=True)
    for name in ("step", "largest_coupling"):
        value = getattr(config, name)
        if value is not None:
            check.require_number(value, name, minimum=0.0, exclusive=True)
    require_output(config.output)


def _largest(config: SimulateConfig, chosen: Chosen) -> float:
    if config.largest_coupling is not None:
        return config.largest_coupling
    critical = chosen.critical_coupling
    known = critical if critical is not None and math.isfinite(critical) else 0.0
    return max(1.5 * config.coupling_strength, 2.5 * known)


def _step(system: System, solver: Solver) -> float:
    # Half a radian of the fastest motion is a step that RK4 takes with an error of 1e-4 or less,
    # and the fastest decay takes several; a tenth resolves what is left.
    stable = 0.5 * solver.stability_limit / max(system.fastest_rate(), 1e-9)
    return min(0.1, stable, 0.5 / max(system.fastest_motion(), 1e-9))


def _branch(transition: Transition) -> Branch:
    return Branch(transition.coupling_strength, transition.order_parameter, transition.deviation)


def _theory(chosen: Chosen, couplings: Tensor, number: int) -> Branch | None:
    if chosen.theory is None:
        return None
    fine = torch.linspace(0, couplings[-1].item(), number, dtype=torch.float64)[1:]
    critical = chosen.critical_coupling
    if critical is not None and 0 < critical < fine[-1]:
        # The curve is vertical there; a grid would miss the corner, or slope a jump.
        edge = torch.tensor([critical * (1 - 1e-9), critical * (1 + 1e-9)], dtype=torch.float64)
        fine = torch.cat((fine, edge)).sort().values
    return Branch(fine, chosen.theory(fine))


def _population(config: SimulateConfig, system: System, solution: Solution) -> Population:
    state, numbers = solution.final_state, solution.statistics
    locked = None
    if isinstance(system, PhaseSystem):
        points = torch.stack((state.cos(), state.sin()), -1)
        locked = None if config.noise_intensity else numbers.locked
    else:
        points = _disc(state)
    return Population(
        coupling_strength=config.coupling_strength,
        times=solution.times,
        order_parameter=solution.order_parameter,
        mean=numbers.mean_order_parameter.item(),
        points=points,
        locked=locked,
        on_circle=isinstance(system, PhaseSystem),
    )


def _disc(state: Tensor) -> Tensor:
    """Projects unit vectors on a plane that contains their mean."""
    mean = state.mean(0)
    first = mean / mean.norm().clamp(min=1e-12)
    other = torch.eye(len(mean), dtype=state.dtype)[first.abs().argmin()]
    second = other - (other @ first) * first
    return torch.stack((state @ first, state @ (second / second.norm())), -1)


def _caption(config: SimulateConfig, chosen: Chosen, step: float) -> str:
    circle = (
        "On the circle, drifting phases stand on an inner ring and the arrow is the mean."
        if config.system != "lohe"
        else "The disc is a plane through the mean, the arrow."
    )
    noise = f", noise intensity {config.noise_intensity:g}" if config.noise_intensity else ""
    return (
        f"{config.num_oscillators} {chosen.population}{noise}. {chosen.explanation} Each point is "
        f"the mean of the second half of {config.duration:g} time units, with its standard "
        f"deviation over time; step {step:.3g}, seed {config.seed}. {circle}"
    )


def _record(
    config: SimulateConfig,
    chosen: Chosen,
    step: float,
    branches: dict[Any, Transition],
    solution: Solution,
    seconds: float,
) -> dict[str, Any]:
    numbers = solution.statistics
    couplings = next(iter(branches.values())).coupling_strength
    theory = None if chosen.theory is None else chosen.theory(couplings.clamp(min=1e-9)).tolist()
    phases = isinstance(chosen.system(couplings[-1]), PhaseSystem)
    mean_phase = (
        order_parameter(wrap_phase(solution.final_state)).angle().item() if phases else None
    )
    return {
        "task": "simulate",
        "command": shlex.join(["syncattn", *sys.argv[1:]]),
        "config": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()},
        "seed": config.seed,
        "step": step,
        "wall_seconds": seconds,
        "critical_coupling": _finite(chosen.critical_coupling),
        "coupling_strength": couplings.tolist(),
        "theory": theory,
        "simulated": {
            start: {
                "order_parameter": branch.order_parameter.tolist(),
                "deviation": branch.deviation.tolist(),
                "locked_fraction": _listed(branch.locked_fraction),
                **{name: value.tolist() for name, value in branch.observed.items()},
            }
            for start, branch in branches.items()
        },
        "population": {
            "coupling_strength": config.coupling_strength,
            "mean_order_parameter": numbers.mean_order_parameter.item(),
            "std_order_parameter": numbers.std_order_parameter.item(),
            "locked_fraction": _listed(numbers.locked_fraction),
            "mean_phase": mean_phase,
            "status": solution.status,
        },
        **environment("cpu"),
    }


def _listed(value: Tensor | None) -> Any:
    return None if value is None else value.tolist()


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
