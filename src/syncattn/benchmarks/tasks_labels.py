"""Classes of sequences: spoken words with three position settings, and agreement."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from syncattn.benchmarks.networks import Shape
from syncattn.benchmarks.problems import LabelProblem, Problem
from syncattn.benchmarks.tasks import Recipe, Task, register_task
from syncattn.data.agreement_sets import (
    load_agreement_natural,
    load_agreement_v1,
    load_agreement_v2,
)
from syncattn.data.examples import LabelledSet
from syncattn.data.sources import Lookup
from syncattn.data.speech import load_keywords

__all__: list[str] = []

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


def _labels(
    load: Callable[[Lookup, int | None], LabelledSet], *, reads_place: bool
) -> Callable[[Lookup, Recipe], Problem]:
    def prepare(lookup: Lookup, recipe: Recipe) -> Problem:
        return LabelProblem(
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
            _labels(_keywords, reads_place=False),
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
        _labels(_natural, reads_place=True),
        _NATURAL,
        positions="sinusoidal",
    )
)
