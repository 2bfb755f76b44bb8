"""Classes of sequences: spoken words with three position settings, and agreement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from syncattn.benchmarks.networks import Shape
from syncattn.benchmarks.problems import Batch, LabelProblem, Problem, Scores
from syncattn.benchmarks.tasks import Recipe, Task, register_task
from syncattn.data.agreement_sets import (
    load_agreement_natural,
    load_agreement_v1,
    load_agreement_v2,
)
from syncattn.data.examples import Examples, LabelledSet
from syncattn.data.sources import Lookup
from syncattn.data.speech import load_keywords

__all__ = ["BalancedProblem", "BalancedScores", "SortedProblem"]

_KEYWORDS = {
    "smoke": Recipe(
        Shape(32, 1, 2, 88), steps=3, batch_size=8, rates=(3e-3,), tuning_steps=2,
        evaluation_limit=40, seeds=1,
    ),
    "laptop": Recipe(
        Shape(32, 1, 2, 88), steps=400, batch_size=32, rates=(1e-3, 3e-3, 1e-2), tuning_steps=130,
        weight_decay=1e-4,
    ),
    "full": Recipe(
        Shape(32, 1, 2, 88), steps=14_000, batch_size=64, rates=(3e-4, 1e-3, 3e-3),
        tuning_steps=2_000, weight_decay=1e-4,
    ),
}  # fmt: skip
_AGREEMENT = {
    "smoke": Recipe(
        Shape(32, 1, 1, 64), steps=3, batch_size=8, rates=(3e-3,), tuning_steps=2,
        evaluation_limit=100, train_size=400, seeds=1,
    ),
    "laptop": Recipe(
        Shape(32, 1, 1, 64), steps=1_000, batch_size=64, rates=(1e-3, 3e-3, 1e-2),
        tuning_steps=300, weight_decay=1e-4, evaluation_limit=1_000,
    ),
    "full": Recipe(
        Shape(32, 1, 1, 64), steps=12_500, batch_size=64, rates=(5e-4, 1e-3, 2e-3),
        tuning_steps=2_000, weight_decay=1e-4,
    ),
}  # fmt: skip
_NATURAL = _AGREEMENT | {
    "laptop": Recipe(
        Shape(32, 1, 1, 64), steps=500, batch_size=32, rates=(1e-3, 3e-3, 1e-2),
        tuning_steps=150, weight_decay=1e-2,
    ),
}  # fmt: skip


@dataclass
class BalancedScores(Scores):
    """Scores whose labels are told apart, for groups in which one of them is the commoner.

    Attributes:
        labels: Targets that were hit and targets, label by label, by group.
    """

    labels: dict[str, list[tuple[int | float, int]]] = field(
        default_factory=dict[str, list[tuple[int | float, int]]]
    )

    def details(self) -> dict[str, Any]:
        """Returns mean accuracy of the labels and share of the commonest one, by group."""
        balanced: dict[str, float | None] = {}
        majority: dict[str, float] = {}
        for group, labels in self.labels.items():
            counts = [count for _, count in labels]
            shares = [right / count for right, count in labels if count]
            balanced[group] = sum(shares) / len(shares) if all(counts) else None
            majority[group] = max(counts) / sum(counts)
        return {"balanced_accuracy": balanced, "majority_share": majority}


class SortedProblem(LabelProblem):
    """Tell the class of a sequence, where the data are sorted by class.

    Args:
        data: The sequences.
        evaluation_examples: Most validation examples that are scored, spread evenly so that every
            class is among them; None for all.
        **options: See `LabelProblem`.
    """

    def __init__(
        self, data: LabelledSet, *, evaluation_examples: int | None = None, **options: Any
    ) -> None:
        size = data.valid.size
        if evaluation_examples is not None and evaluation_examples < size:
            spread = torch.arange(evaluation_examples) * size // evaluation_examples
            data = replace(data, valid=data.valid.part(spread))
        super().__init__(data, **options)


class BalancedProblem(LabelProblem):
    """Tell the class of a sequence, where groups hold the classes in different shares.

    The accuracy of a group, and all the more of several together, then says little by itself: its
    scores have the mean over classes, and what always saying the commonest would reach.

    Args:
        data: The sequences.
        **options: See `LabelProblem`.
    """

    def __init__(self, data: LabelledSet, **options: Any) -> None:
        super().__init__(data, **options)
        self.groups = tuple(name for names in self._parts for name in names)

    def score(self, network: nn.Module, split: str, *, batch_size: int) -> BalancedScores:
        """Returns what a network got right; see `Problem.score`."""
        found = super().score(network, split, batch_size=batch_size)
        scores = BalancedScores(nats=found.nats)
        for group, parts in zip(self.data.groups, self._parts, strict=True):
            labels = [(found.right.get(p, 0), found.count.get(p, 0)) for p in parts]
            if any(count for _, count in labels):
                scores.add(group, sum(r for r, _ in labels), sum(c for _, c in labels))
                scores.labels[group] = labels
        return scores

    @property
    def _parts(self) -> list[list[str]]:
        """The names under which each label of each group is counted."""
        return [[f"{group}, label {k}" for k in range(self.data.num_labels)]
                for group in self.data.groups]  # fmt: skip

    def _batch(self, examples: Examples) -> Batch:
        batch = super()._batch(examples)
        return batch._replace(group=examples.group * self.data.num_labels + examples.label)


def _labels(
    load: Callable[[Lookup, int | None], LabelledSet],
    *,
    reads_place: bool,
    kind: type[LabelProblem] = LabelProblem,
) -> Callable[[Lookup, Recipe], Problem]:
    def prepare(lookup: Lookup, recipe: Recipe) -> Problem:
        return kind(
            load(lookup, recipe.train_size),
            reads_place=reads_place,
            evaluation_examples=recipe.evaluation_limit,
        )

    return prepare


@lru_cache(maxsize=2)
def _keywords(lookup: Lookup, _: int | None) -> LabelledSet:
    return load_keywords(lookup)


@lru_cache(maxsize=2)
def _natural(lookup: Lookup, _: int | None) -> LabelledSet:
    return load_agreement_natural(lookup)


@lru_cache(maxsize=2)
def _published(_: Lookup, size: int | None) -> LabelledSet:
    return load_agreement_v1() if size is None else load_agreement_v1((size, size, size))


@lru_cache(maxsize=2)
def _corrected(_: Lookup, size: int | None) -> LabelledSet:
    return load_agreement_v2() if size is None else load_agreement_v2((size, size, size))


for _name, _positions in (
    ("keywords", "none"),
    ("keywords-sinusoidal", "sinusoidal"),
    ("keywords-learned", "learned"),
):
    register_task(
        Task(
            _name,
            f"ten spoken words, positions: {_positions}",
            "accuracy",
            _labels(_keywords, reads_place=False, kind=SortedProblem),
            _KEYWORDS,
            positions=_positions,
        )
    )
register_task(
    Task(
        "agreement-v1",
        "does the verb agree? templates as published",
        "accuracy",
        _labels(_published, reads_place=True),
        _AGREEMENT,
        positions="sinusoidal",
        failure=("hard", 0.85),
        known_flaws="two nouns do not show their number, and sentences stand in several splits",
    )
)
register_task(
    Task(
        "agreement-v2",
        "does the verb agree? 0 to 3 attractors, stems disjoint between splits",
        "accuracy",
        _labels(_corrected, reads_place=True),
        _AGREEMENT,
        positions="sinusoidal",
        failure=("3", 0.85),
    )
)
register_task(
    Task(
        "agreement-natural",
        "number of the verb to come, sentences of Wikipedia by attractors",
        "accuracy",
        _labels(_natural, reads_place=True, kind=BalancedProblem),
        _NATURAL,
        positions="sinusoidal",
    )
)
