"""Tasks whose answers are known: copying, recalling, and telling whether a token occurred."""

from __future__ import annotations

from functools import cache

import torch

from syncattn._typing import Tensor
from syncattn.benchmarks.networks import Shape
from syncattn.benchmarks.problems import Batch, Problem, StreamProblem, unscored
from syncattn.benchmarks.tasks import Recipe, Task, register_task
from syncattn.data.recall import RecallBatch, RecallTask, RetrievalTask
from syncattn.data.sources import DataIdentity, Lookup, hash_parts
from syncattn.data.synthetic import CopyingTask

__all__: list[str] = []

_SHAPE = Shape(48, 2, 2, 160)
_RECIPES = {
    "smoke": Recipe(
        Shape(32, 1, 2, 128), steps=3, batch_size=4, rates=(3e-3,), tuning_steps=2,
        evaluation_limit=1, weight_decay=0.0, seeds=1,
    ),
    "laptop": Recipe(
        _SHAPE, steps=300, batch_size=16, rates=(3e-3, 1e-2, 2e-2), tuning_steps=150,
        evaluation_limit=4, weight_decay=0.0,
    ),
    "full": Recipe(
        _SHAPE, steps=3_000, batch_size=32, rates=(1e-3, 3e-3, 1e-2), tuning_steps=600,
        evaluation_limit=16, weight_decay=0.0,
    ),
}  # fmt: skip


@cache
def _identity(task: CopyingTask | RecallTask | RetrievalTask, name: str) -> DataIdentity:
    """Returns the identity of a generator: the hash of its first validation sequences."""
    first = task.batch(64, seed=0, step=-1)
    digest = hash_parts(bytes(part.contiguous().view(torch.uint8).numpy().reshape(-1))
                        for part in first)  # fmt: skip
    return DataIdentity(name, digest, "generated", repr(task))


def _by_distance(distance: Tensor, largest: int) -> tuple[Tensor, tuple[str, ...]]:
    """Returns the group of each distance: none, then powers of two."""
    names = ("not there", *(f"{2**i} to {2 ** (i + 1) - 1}" for i in range(largest.bit_length())))
    power = distance.clamp(min=1).double().log2().floor().long() + 1
    return torch.where(distance > 0, power, 0), names


def _stream(
    task: CopyingTask | RecallTask | RetrievalTask, name: str, recipe: Recipe
) -> StreamProblem:
    length = task.length if not isinstance(task, RetrievalTask) else task.length + 1
    _, names = _by_distance(torch.zeros(1), length)

    def draw(size: int, seed: int, step: int) -> Batch:
        batch = task.batch(size, seed=seed, step=step)
        if isinstance(batch, RecallBatch):
            group, _ = _by_distance(batch.distance, length)
            return Batch(batch.input_ids, batch.target, group=group)
        target = torch.where(batch.scored, batch.input_ids, unscored)[:, 1:]
        group, _ = _by_distance(batch.period[:, None].expand_as(target), length)
        return Batch(batch.input_ids[:, :-1], target, group=group)

    return StreamProblem(
        _identity(task, name), draw, length=length,
        vocabulary_size=task.vocab_size if isinstance(task, CopyingTask) else task.vocabulary_size,
        groups=names, ceiling=1.0, evaluation_batches=recipe.evaluation_limit or 16,
    )  # fmt: skip


def _copy(_: Lookup, recipe: Recipe) -> Problem:
    small = recipe.shape != _SHAPE
    task = CopyingTask(length=32, min_period=8, max_period=16) if small else CopyingTask()
    return _stream(task, "copying", recipe)


def _recall(_: Lookup, recipe: Recipe) -> Problem:
    return _stream(RecallTask(num_pairs=4 if recipe.shape != _SHAPE else 12), "recall", recipe)


def _retrieve(_: Lookup, recipe: Recipe) -> Problem:
    task = RetrievalTask(length=12 if recipe.shape != _SHAPE else 32)
    return _stream(task, "retrieval", recipe)


for _name, _summary, _prepare in (
    ("copy", "go on with a segment that repeats after 24 to 48 tokens", _copy),
    ("recall", "the value that stood beside a key", _recall),
    ("retrieve", "did this token occur?", _retrieve),
):
    register_task(Task(_name, _summary, "accuracy", _prepare, _RECIPES, is_causal=True))
