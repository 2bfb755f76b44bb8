"""Language: enwik8 and code as bytes, WikiText-2 and TinyStories as words, and BLiMP."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from syncattn.benchmarks.networks import Shape
from syncattn.benchmarks.pairs import PairsProblem
from syncattn.benchmarks.problems import Problem, TextProblem
from syncattn.benchmarks.tasks import Recipe, Task, register_task
from syncattn.data.blimp import load_blimp
from syncattn.data.corpora import (
    TokenSet,
    load_code,
    load_enwik8,
    load_tinystories,
    load_wikitext2,
)
from syncattn.data.sources import Lookup

__all__: list[str] = []

_SMOKE = Shape(32, 1, 2, 288)
_LAPTOP = Shape(64, 2, 4, 344)
_ONE_MILLION = Shape(128, 5, 4, 344)
_WORDS = Shape(128, 2, 4, 344)


def _bytes_recipes(full: Recipe) -> dict[str, Recipe]:
    smoke = Recipe(
        _SMOKE, steps=3, batch_size=2, context_length=32, rates=(3e-3,), tuning_steps=2,
        evaluation_limit=128, test_limit=128, seeds=1,
    )  # fmt: skip
    laptop = Recipe(
        _LAPTOP, steps=500, batch_size=8, context_length=128,
        rates=(2e-3, 5e-3, 1e-2, 2e-2), tuning_steps=120,
        evaluation_limit=16_384, test_limit=65_536, seeds=3,
    )  # fmt: skip
    return {"smoke": smoke, "laptop": laptop, "full": full}


_FULL_BYTES = Recipe(
    _ONE_MILLION, steps=20_000, batch_size=32, context_length=256, rates=(1e-3, 2e-3, 4e-3, 8e-3),
    tuning_steps=1_000, evaluation_limit=262_144, seeds=3,
)  # fmt: skip


def _text(load: Callable[[Lookup, int | None], TokenSet]) -> Callable[[Lookup, Recipe], Problem]:
    cached = lru_cache(maxsize=2)(load)

    def prepare(lookup: Lookup, recipe: Recipe) -> Problem:
        return TextProblem(
            cached(lookup, recipe.vocabulary_size),
            context_length=recipe.context_length or 128,
            evaluation_tokens=recipe.evaluation_limit,
            test_tokens=recipe.test_limit,
        )

    return prepare


def _words_recipes(full: Recipe) -> dict[str, Recipe]:
    smoke = Recipe(
        Shape(32, 1, 2, 640), steps=3, batch_size=2, context_length=32, rates=(3e-3,),
        tuning_steps=2, evaluation_limit=128, test_limit=128, vocabulary_size=256, seeds=1,
    )  # fmt: skip
    laptop = Recipe(
        Shape(64, 2, 4, 1_360), steps=400, batch_size=8, context_length=128,
        rates=(2e-3, 5e-3, 1e-2, 2e-2), tuning_steps=100,
        evaluation_limit=16_384, test_limit=32_768,
        vocabulary_size=2_004, seeds=3,
    )  # fmt: skip
    return {"smoke": smoke, "laptop": laptop, "full": full}


def _load_wikitext(lookup: Lookup, vocabulary_size: int | None) -> TokenSet:
    return load_wikitext2(lookup, vocabulary_size=vocabulary_size or 10_000)


def _load_stories(lookup: Lookup, vocabulary_size: int | None) -> TokenSet:
    return load_tinystories(lookup, vocabulary_size=vocabulary_size or 8_004)


ENWIK8 = register_task(
    Task(
        "enwik8-char",
        "next byte of Wikipedia's markup",
        "bits per byte",
        _text(lambda lookup, _: load_enwik8(lookup)),
        _bytes_recipes(_FULL_BYTES),
        is_causal=True,
    )
)
CODE = register_task(
    Task(
        "code-char",
        "next byte of source code",
        "bits per byte",
        _text(lambda lookup, _: load_code(lookup)),
        _bytes_recipes(_FULL_BYTES),
        is_causal=True,
    )
)
WIKITEXT = register_task(
    Task(
        "wikitext-2",
        "next word of Wikipedia articles",
        "perplexity",
        _text(_load_wikitext),
        _words_recipes(
            Recipe(
                _WORDS,
                steps=10_000,
                batch_size=64,
                context_length=50,
                rates=(5e-4, 1e-3, 2e-3),
                tuning_steps=1_000,
                vocabulary_size=10_000,
                seeds=3,
            )
        ),
        is_causal=True,
    )
)
STORIES = register_task(
    Task(
        "tinystories",
        "next word of short stories, with a longer context",
        "perplexity",
        _text(_load_stories),
        _words_recipes(
            Recipe(
                _WORDS,
                steps=20_000,
                batch_size=64,
                context_length=128,
                rates=(5e-4, 1e-3, 2e-3),
                tuning_steps=1_000,
                vocabulary_size=8_004,
                seeds=3,
                test_limit=1_000_000,
            )
        ),
        is_causal=True,
    )
)

_enwik8 = lru_cache(maxsize=2)(load_enwik8)
_blimp = lru_cache(maxsize=2)(load_blimp)


def _pairs(lookup: Lookup, recipe: Recipe) -> Problem:
    small = recipe.shape == _SMOKE
    return PairsProblem(
        _enwik8(lookup),
        _blimp(lookup),
        context_length=recipe.context_length or 128,
        largest=8 if small else None,
        evaluation_tokens=recipe.evaluation_limit,
        test_tokens=recipe.test_limit,
    )


BLIMP = register_task(
    Task(
        "blimp-agreement",
        "right and wrong verbs told apart by a language model of the bytes of enwik8",
        "accuracy",
        _pairs,
        _bytes_recipes(_FULL_BYTES),
        is_causal=True,
    )
)
