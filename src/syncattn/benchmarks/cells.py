"""One cell of the grid: a trial of a learning rate, or a run that becomes records."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import sys
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from syncattn.analysis.distributions import entropy
from syncattn.benchmarks.arms import ARMS, Arm
from syncattn.benchmarks.controls import apply_control, locked_fractions, without_coupling
from syncattn.benchmarks.environment import environment
from syncattn.benchmarks.fitting import Fit, fit
from syncattn.benchmarks.networks import (
    Network,
    build_network,
    flops_per_token,
    parameters_of,
)
from syncattn.benchmarks.passes import compiled_passes
from syncattn.benchmarks.problems import Problem, Scores
from syncattn.benchmarks.records import BITS_PER_BYTE, Record
from syncattn.benchmarks.tasks import Recipe, Task, task_named
from syncattn.data.sources import Lookup
from syncattn.training import DivergedError
from syncattn.training.divergence import computed, finite

__all__ = ["Cell", "Trial", "failed_record", "load_plugins", "matched_gap", "prepared",
           "run_cell"]  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """What one training is; plain values that cross processes.

    Attributes:
        task: Name of the task.
        scale: Scale of its recipe.
        arm: Name of the arm.
        control: Name of the control.
        seed: The seed.
        learning_rate: The peak rate.
        is_trial: Whether it only tries the rate, on the validation split.
        lookup: Where data is looked for.
        data_sha256: What the data must be.
        recipe: The recipe, where it is not that of the scale.
        also_without_coupling: Whether the trained model is tested without coupling too.
        plugins: Modules or files that register arms and tasks of third parties.
        device: Where it runs.
        compiled: Whether a CPU uses the compiled passes; see `syncattn.fuse`.
        command: The command that repeats it.
        trials: What was tried before, for the record.
    """

    task: str
    scale: str
    arm: str
    control: str
    seed: int
    learning_rate: float
    is_trial: bool
    lookup: Lookup
    data_sha256: str
    recipe: Recipe
    also_without_coupling: bool = False
    plugins: tuple[str, ...] = ()
    device: str = "cpu"
    compiled: bool = True
    command: str = ""
    trials: tuple[tuple[float, float | None], ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells two runs apart."""
        settings = json.dumps(self.recipe.as_dict(), sort_keys=True)
        return (self.task, self.data_sha256, self.arm, self.control, self.seed, settings)

    def __str__(self) -> str:
        """Returns a short name."""
        control = "" if self.control == "none" else f", {self.control}"
        what = f"rate {self.learning_rate:g}" if self.is_trial else f"seed {self.seed}"
        return f"{self.task}: {self.arm}{control}, {what}"


@dataclass(frozen=True)
class Trial:
    """What a learning rate came to on the validation split.

    Attributes:
        key: That of the cell.
        learning_rate: The rate.
        valid_score: The metric; None where the training diverged or the metric is not finite.
    """

    key: tuple[Any, ...]
    learning_rate: float
    valid_score: float | None


def run_cell(cell: Cell) -> list[Record] | Trial:
    """Trains one network and describes it; a training that diverges is a result too.

    Args:
        cell: What to do.

    Returns:
        For a trial, what it came to; for a run its record, and that of the same model without its
        coupling where that is asked for.

    Raises:
        RuntimeError: If the data changed since the grid was planned.
    """
    load_plugins(cell.plugins)
    with compiled_passes(cell.compiled and cell.device == "cpu"):
        return _run(cell)


def _run(cell: Cell) -> list[Record] | Trial:
    task = task_named(cell.task)
    problem = prepared(cell.task, cell.lookup, cell.recipe)
    if problem.identity.sha256 != cell.data_sha256:
        raise RuntimeError(
            f"The data must stay as it was when the grid was planned; its sha256 was "
            f"{cell.data_sha256} and is {problem.identity.sha256}. Give every worker the same data."
        )
    arm = _arm(cell)
    torch.manual_seed(cell.seed)
    network = _network(cell, task, problem, arm)
    training = cell.recipe.training(
        seed=cell.seed, learning_rate=cell.learning_rate, is_trial=cell.is_trial
    )
    common = _common(cell, task, problem, network, arm)
    started = time.perf_counter()
    try:
        done = fit(network, problem, training, metric=task.metric, device=cell.device)
    except DivergedError as error:
        if cell.is_trial:
            return Trial(cell.key, cell.learning_rate, None)
        return [_diverged(common, error, started)]
    if cell.is_trial:
        score = done.valid_score if math.isfinite(done.valid_score) else None
        return Trial(cell.key, cell.learning_rate, score)
    records = [_tested(common, cell, task, problem, network, done, started)]
    if cell.also_without_coupling:
        without_coupling(network, arm)
        common["control"] = "coupling-off-at-test"
        records.append(_tested(common, cell, task, problem, network, done, started))
    return records


@lru_cache(maxsize=32)
def prepared(task: str, lookup: Lookup, recipe: Recipe) -> Problem:
    """Returns a task with its data, kept for the next cell.

    Args:
        task: Name of the task.
        lookup: Where data is looked for.
        recipe: The recipe.
    """
    return task_named(task).prepare(lookup, recipe)


def failed_record(cell: Cell, error: BaseException) -> Record:
    """Returns the record of a run that came to no network, or to none that could be described.

    Args:
        cell: The run.
        error: Why.
    """
    return Record(
        task=cell.task, arm=cell.arm, mechanism=ARMS[cell.arm].mechanism, control=cell.control,
        seed=cell.seed, status="failed", failure=str(error) or type(error).__name__,
        data=prepared(cell.task, cell.lookup, cell.recipe).identity.as_dict(),
        command=cell.command, learning_rate=cell.learning_rate, trials=_tried(cell),
        metric=task_named(cell.task).metric, recipe=cell.recipe.as_dict() | {"scale": cell.scale},
        **environment(cell.device),
    )  # fmt: skip


def load_plugins(plugins: tuple[str, ...]) -> None:
    """Imports what registers arms and tasks of third parties, once.

    Args:
        plugins: Names of modules, or paths of Python files.

    Raises:
        ValueError: If one cannot be imported.
    """
    for plugin in plugins:
        name = plugin
        try:
            if not plugin.endswith(".py"):
                importlib.import_module(plugin)
                continue
            # Files of one name in different folders are different plugins.
            place = sha256(str(Path(plugin).resolve()).encode()).hexdigest()[:16]
            name = f"syncattn_plugin_{Path(plugin).stem}_{place}"
            if name in sys.modules:
                continue
            spec = importlib.util.spec_from_file_location(name, plugin)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            sys.modules.pop(name, None)
            reason = f"it ends the program ({error!r})" if isinstance(error, SystemExit) else error
            raise ValueError(
                f"`plugins` must name modules or files that can be imported; {plugin} cannot: "
                f"{reason}. Correct it."
            ) from error


def _arm(cell: Cell) -> Arm:
    if cell.arm not in ARMS:
        raise ValueError(
            f"`arm` must be one of {', '.join(ARMS)}; got {cell.arm!r}. Register it, and name the "
            f"file that does with --plugins."
        )
    return ARMS[cell.arm]


def matched_gap(task: Task, problem: Problem, recipe: Recipe, arm: Arm) -> float:
    """Returns by how much the number of parameters of an arm differs from softmax's, as a part.

    Args:
        task: The task.
        problem: The task with its data.
        recipe: Sizes.
        arm: The arm, its feed-forward as near as it can be brought.
    """
    target = _count(ARMS["softmax"], None, task, problem, recipe)
    return abs(_count(arm, target, task, problem, recipe) / target - 1)


def _count(arm: Arm, parameters: int | None, task: Task, problem: Problem, recipe: Recipe) -> int:
    with torch.device("meta"):
        return parameters_of(_built(arm, parameters, task, problem, recipe))


def _built(
    arm: Arm, parameters: int | None, task: Task, problem: Problem, recipe: Recipe
) -> Network:
    return build_network(
        arm, problem, recipe.shape, is_causal=task.is_causal, positions=task.positions,
        parameters=parameters,
    )  # fmt: skip


def _network(cell: Cell, task: Task, problem: Problem, arm: Arm) -> Network:
    target = _count(ARMS["softmax"], None, task, problem, cell.recipe)
    if cell.control == "matched":
        target = _count(arm, target, task, problem, cell.recipe)
        return _built(ARMS["softmax"], target, task, problem, cell.recipe)
    network = _built(arm, target, task, problem, cell.recipe)
    batch = problem.training_batch(cell.recipe.batch_size, seed=cell.seed, step=0)
    apply_control(network, cell.control, arm, batch)
    return network


def _common(cell: Cell, task: Task, problem: Problem, network: Network, arm: Arm) -> dict[str, Any]:
    shown = ARMS["softmax"] if cell.control == "matched" else arm
    mechanism = "third party" if shown.attention is not None else shown.mechanism
    return {
        "task": cell.task,
        "arm": cell.arm,
        "mechanism": mechanism,
        "control": cell.control,
        "variant": dict(shown.options)
        | {"feedforward": shown.feedforward, "positions": task.positions},
        "seed": cell.seed,
        "parameters": parameters_of(network),
        "flops_per_token": flops_per_token(network, shown, problem, cell.recipe.shape),
        "data": problem.identity.as_dict(),
        "command": cell.command,
        "learning_rate": cell.learning_rate,
        "metric": task.metric,
        "recipe": cell.recipe.as_dict() | {"scale": cell.scale},
        "trials": _tried(cell),
        **environment(cell.device),
    }


def _tried(cell: Cell) -> list[dict[str, Any]]:
    return [{"learning_rate": rate, "valid_score": score} for rate, score in cell.trials]


def _tested(
    common: dict[str, Any],
    cell: Cell,
    task: Task,
    problem: Problem,
    network: Network,
    done: Fit,
    started: float,
) -> Record:
    size, steps = cell.recipe.batch_size, cell.recipe.steps
    try:
        test = computed(
            partial(problem.score, split="test", batch_size=size), network, steps, probed=network
        )
        score = finite("test score", test.value(task.metric), steps)
    except DivergedError as error:
        return _diverged(common, error, started)
    in_bits = task.metric == BITS_PER_BYTE
    return Record(
        **common,
        tokens=done.tokens,
        steps=steps,
        tokens_per_second=done.tokens / max(done.seconds, 1e-9),
        wall_seconds=time.perf_counter() - started,
        peak_memory_bytes=done.peak_memory_bytes,
        valid_score=done.valid_score,
        test_score=score,
        valid_bits_per_byte=done.valid_score if in_bits else None,
        test_bits_per_byte=score if in_bits else None,
        scores=_details(task, problem, test),
        curve=done.curve,
        diagnostics=_diagnostics(network, problem, size),
    )


def _diverged(common: dict[str, Any], error: DivergedError, started: float) -> Record:
    seconds = time.perf_counter() - started
    return Record(
        **common, status="failed", failure=str(error), steps=error.step, wall_seconds=seconds
    )


def _details(task: Task, problem: Problem, test: Scores) -> dict[str, Any]:
    groups = test.by_group()
    details: dict[str, Any] = {"by_group": groups, "targets": dict(test.count), **test.details()}
    if problem.ceiling is not None:
        details["ceiling"] = problem.ceiling
    if task.failure is not None and task.failure[0] in groups:
        group, least = task.failure
        details["failed_to_learn"] = groups[group] < least
    return details


def _diagnostics(network: Network, problem: Problem, size: int) -> dict[str, Any]:
    """Returns order parameter, locked fraction and entropy of every layer, where it has any."""
    batch = next(iter(problem.batches("valid", min(size, 8))))
    was_training = network.training
    network.eval()
    layers = network.synchrony(batch.to(next(network.parameters()).device))
    network.train(was_training)
    found: dict[str, Any] = {"order_parameter": [], "entropy": []}
    found["locked_fraction"] = locked_fractions(network, layers, batch)
    for layer in layers:
        order = layer.order_parameter
        found["order_parameter"].append(None if order is None else float(order.nanmean()))
        spread = entropy(layer.weights.float()).nanmean()
        found["entropy"].append(float(spread))
    return found
