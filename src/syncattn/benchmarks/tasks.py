"""Every task of the shared benchmark: data, model, recipe and metric, at three scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from syncattn import _validation as check
from syncattn.benchmarks.networks import POSITIONS, Shape
from syncattn.benchmarks.problems import Problem
from syncattn.data.sources import Lookup
from syncattn.training import TrainingConfig

__all__ = ["SCALES", "TASKS", "Recipe", "Task", "higher_is_better", "register_task", "task_named"]

SCALES = ("smoke", "laptop", "full")
_METRICS = {"accuracy": True, "bits per byte": False, "perplexity": False}


@dataclass(frozen=True)
class Recipe:
    """What all arms of a task share at one scale.

    Attributes:
        shape: Size of the networks.
        steps: Optimiser steps.
        batch_size: Sequences in a step.
        context_length: Tokens a network sees; None where the data has a length of its own.
        rates: Learning rates that every arm tries.
        tuning_steps: Steps of a trial.
        weight_decay: Of matrices.
        evaluation_limit: Most targets of the validation split, or batches of a generator; None
            for all.
        test_limit: Most targets of the test split; None for all.
        vocabulary_size: Words, where tokens are words.
        train_size: Sentences drawn for training, where they are drawn.
        seeds: Seeds of the arms themselves.
    """

    shape: Shape
    steps: int
    batch_size: int
    context_length: int | None = None
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    tuning_steps: int = 1
    weight_decay: float = 0.1
    evaluation_limit: int | None = None
    test_limit: int | None = None
    vocabulary_size: int | None = None
    train_size: int | None = None
    seeds: int = 5

    def training(self, *, seed: int, learning_rate: float, is_trial: bool) -> TrainingConfig:
        """Returns the settings of one training.

        Args:
            seed: Its seed.
            learning_rate: Its peak rate.
            is_trial: Whether it only tries the rate.

        Returns:
            Settings with a tenth of the steps as warm-up.
        """
        steps = self.tuning_steps if is_trial else self.steps
        return TrainingConfig(
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=learning_rate,
            warmup_steps=steps // 10,
            weight_decay=self.weight_decay,
            evaluation_interval=steps if is_trial else max(1, -(-steps // 5)),
            checkpoint_interval=0,
            seed=seed,
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values that JSON can hold, seeds left out: more seeds change no run."""
        values = asdict(self)
        del values["seeds"]
        return values | {"rates": list(self.rates)}


@dataclass(frozen=True)
class Task:
    """A task of the benchmark.

    Attributes:
        name: Its name in tables and commands.
        summary: One clause.
        metric: ``"accuracy"``, ``"bits per byte"`` or ``"perplexity"``.
        prepare: Finds the data and returns the task with it.
        recipes: A recipe for each of `SCALES`.
        is_causal: Whether a token sees those before it alone.
        positions: Where places come from; see `Network`.
        failure: A group of targets and an accuracy; a run that stays below has failed to learn.
            None where no run is called a failure.
        known_flaws: What is wrong with the task, kept for reproduction; empty where nothing is.
    """

    name: str
    summary: str
    metric: str
    prepare: Callable[[Lookup, Recipe], Problem]
    recipes: dict[str, Recipe] = field(hash=False)
    is_causal: bool = False
    positions: str = "own"
    failure: tuple[str, float] | None = None
    known_flaws: str = ""

    def __post_init__(self) -> None:
        """Checks what a stranger may get wrong.

        Raises:
            ValueError: If a metric, a place or a scale is unknown or missing.
        """
        for name, value, known in (
            ("metric", self.metric, _METRICS), ("positions", self.positions, POSITIONS),
        ):  # fmt: skip
            if value not in known:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(known)}; got {value!r}. Choose one."
                )
        missing = [scale for scale in SCALES if scale not in self.recipes]
        if missing:
            raise ValueError(
                f"`recipes` must have one for each of {', '.join(SCALES)}; {', '.join(missing)} is "
                f"missing. Add it; it may be the same as another."
            )


TASKS: dict[str, Task] = {}
"""Every task by name, in the order of the tables."""


def register_task(task: Task) -> Task:
    """Adds a task under its name.

    Args:
        task: The task.

    Returns:
        The same task.

    Raises:
        ValueError: If the name is taken.
    """
    if task.name in TASKS:
        raise ValueError(
            f"`name` must be new; got {task.name!r}, which is a task. Choose another name."
        )
    TASKS[task.name] = task
    return task


def task_named(name: str) -> Task:
    """Returns a task.

    Args:
        name: Its name.

    Returns:
        The task.

    Raises:
        TypeError: If it is not a text.
        ValueError: If there is none of that name.
    """
    check.require_instance(name, "name", str, "See `syncattn benchmark list`.")
    # The tasks register themselves when their modules are read.
    from syncattn.benchmarks import tasks_labels, tasks_synthetic, tasks_text

    assert all((tasks_text, tasks_labels, tasks_synthetic))
    if name not in TASKS:
        raise ValueError(
            f"`task` must be one of {', '.join(TASKS)}; got {name!r}. See `syncattn "
            f"benchmark list`."
        )
    return TASKS[name]


def higher_is_better(metric: str) -> bool:
    """Tells whether more of a metric is better.

    Args:
        metric: Its name; an unknown one counts as a cost.
    """
    return _METRICS.get(metric, False)
