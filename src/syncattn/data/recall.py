"""Associative recall, and whether a token occurs: synthetic tasks by distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from syncattn import _validation as check
from syncattn._typing import Int, Tensor
from syncattn.data.seeds import named_generator

__all__ = ["RecallBatch", "RecallTask", "RetrievalTask"]


class RecallBatch(NamedTuple):
    """Sequences whose answers stand earlier in them.

    Attributes:
        input_ids: ``(batch, length)``.
        target: What is to be said after each token, -100 where nothing is asked.
        distance: Tokens back to where the answer stands, 0 where nothing is asked or it is nowhere.
    """

    input_ids: Int[Tensor, "batch length"]
    target: Int[Tensor, "batch length"]
    distance: Int[Tensor, "batch length"]


@dataclass(frozen=True)
class RecallTask:
    """Pairs of key and value, then keys again: what was the value?

    Every key occurs once among the pairs and once among the questions, in another order. Keys and
    values are different symbols, values may recur. Each answer is decidable, so the ceiling is 1.
    Without knowing what belongs to a key the best guess is the value that occurs most often: it is
    right one time in `num_pairs` where all values differ, and more often where values recur (about
    one time in 6 with the sizes given here).

    Attributes:
        num_pairs: Pairs in a sequence.
        num_keys: Key symbols.
        num_values: Value symbols.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If there are fewer keys than pairs.
    """

    num_pairs: int = 12
    num_keys: int = 32
    num_values: int = 32

    def __post_init__(self) -> None:
        check.require_integer(self.num_pairs, "num_pairs", minimum=1)
        check.require_integer(self.num_keys, "num_keys", minimum=self.num_pairs)
        check.require_integer(self.num_values, "num_values", minimum=2)

    @property
    def vocabulary_size(self) -> int:
        """Keys and values."""
        return self.num_keys + self.num_values

    @property
    def length(self) -> int:
        """Tokens of a sequence: pairs, then questions alone."""
        return 3 * self.num_pairs

    @property
    def ceiling(self) -> float:
        """Largest accuracy: every answer stands in the sequence."""
        return 1.0

    def batch(self, size: int, *, seed: int, step: int = 0) -> RecallBatch:
        """Returns the sequences of a step, which depend on the seed and the step alone.

        Args:
            size: How many.
            seed: Seed of the order.
            step: Step of the training, from 0; negative steps are free for evaluation.

        Returns:
            The sequences.
        """
        check.require_integer(size, "size", minimum=1)
        draw = named_generator("recall", seed, step)
        pairs = self.num_pairs
        keys = torch.rand(size, self.num_keys, generator=draw).argsort(1)[:, :pairs]
        values = torch.randint(self.num_values, (size, pairs), generator=draw) + self.num_keys
        order = torch.rand(size, pairs, generator=draw).argsort(1)
        told = torch.stack([keys, values], -1).flatten(1)
        asked = keys.gather(1, order)
        ids = torch.cat([told, asked], 1)
        nothing = torch.full((size, 2 * pairs), -100)
        target = torch.cat([nothing, values.gather(1, order)], 1)
        away = torch.arange(2 * pairs, 3 * pairs) - (2 * order + 1)
        return RecallBatch(ids, target, torch.cat([torch.zeros_like(nothing), away], 1))


@dataclass(frozen=True)
class RetrievalTask:
    """Random tokens, then one of them or another: did it occur?

    Half of the answers are yes, and a token that is asked for occurs once at most, so that chance
    is one half and the ceiling is 1.

    Attributes:
        length: Tokens before the question.
        num_symbols: Symbols; more of them than tokens would make questions easy to tell.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If there are fewer than 4 symbols.
    """

    length: int = 32
    num_symbols: int = 32

    def __post_init__(self) -> None:
        check.require_integer(self.length, "length", minimum=2)
        check.require_integer(self.num_symbols, "num_symbols", minimum=4)

    @property
    def vocabulary_size(self) -> int:
        """The symbols and the answers yes and no."""
        return self.num_symbols + 2

    @property
    def ceiling(self) -> float:
        """Largest accuracy: every answer can be read off."""
        return 1.0

    def batch(self, size: int, *, seed: int, step: int = 0) -> RecallBatch:
        """Returns the sequences of a step, which depend on the seed and the step alone.

        Args:
            size: How many.
            seed: Seed of the order.
            step: Step of the training, from 0; negative steps are free for evaluation.

        Returns:
            The sequences; the target stands at the question, the last token: `num_symbols` for no
            and one more for yes.
        """
        check.require_integer(size, "size", minimum=1)
        draw = named_generator("retrieve", seed, step)
        asked = torch.randint(self.num_symbols, (size,), generator=draw)
        others = torch.randint(self.num_symbols - 1, (size, self.length), generator=draw)
        others += others >= asked[:, None]
        there = torch.randint(2, (size,), generator=draw)
        place = torch.randint(self.length, (size,), generator=draw)
        with_it = others.scatter(1, place[:, None], asked[:, None])
        told = torch.where(there[:, None].bool(), with_it, others)
        target = torch.full((size, self.length + 1), -100)
        target[:, -1] = self.num_symbols + there
        distance = torch.zeros(size, self.length + 1, dtype=torch.long)
        distance[:, -1] = torch.where(there.bool(), self.length - place, 0)
        return RecallBatch(torch.cat([told, asked[:, None]], 1), target, distance)
