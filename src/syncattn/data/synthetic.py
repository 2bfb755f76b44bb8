"""Tasks whose answer is known: a text that repeats itself over a long range."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

import torch

from syncattn import _validation as check
from syncattn._typing import Bool, Float, Int, Tensor


class CopyingBatch(NamedTuple):
    """Texts that repeat, and where the repetition can be known.

    Attributes:
        input_ids: ``(batch, length)``, int64.
        scored: True where the token is a copy whose predecessor is one too, ``(batch, length)``:
            what comes there follows from the first pass over the text.
        period: Tokens before the text repeats, ``(batch,)``.
    """

    input_ids: Int[Tensor, "batch length"]
    scored: Bool[Tensor, "batch length"]
    period: Int[Tensor, " batch"]

    @property
    def labels(self) -> Int[Tensor, "batch length"]:
        """The texts with -100 where nothing is scored, as a causal language model takes them."""
        return torch.where(self.scored, self.input_ids, -100)


@dataclass(frozen=True)
class CopyingTask:
    """A random segment of random length that repeats until the end of the text.

    The model reads the text and predicts every token from those before it; what counts are the
    tokens inside the repetition. Because the period is drawn anew for every text, no fixed
    distance gives the answer: the earlier place must be found by its content, and what followed it
    must be read.

    Attributes:
        vocab_size: Number of symbols.
        length: Tokens of a text.
        min_period: Shortest segment.
        max_period: Longest segment.
        distinct: Whether the symbols of a segment differ, so that one token tells the place.
            Otherwise symbols recur inside the segment, and a longer suffix must be matched.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If the sizes leave nothing to copy or not enough symbols.
    """

    vocab_size: int = 64
    length: int = 96
    min_period: int = 24
    max_period: int = 48
    distinct: bool = True

    def __post_init__(self) -> None:
        check.require_integer(self.vocab_size, "vocab_size", minimum=2)
        check.require_integer(self.min_period, "min_period", minimum=1)
        check.require_integer(self.max_period, "max_period", minimum=self.min_period)
        # One copied token to go on from, and one to score.
        check.require_integer(self.length, "length", minimum=self.max_period + 2)
        if self.distinct and self.vocab_size < self.max_period:
            raise ValueError(
                f"`vocab_size` must be at least `max_period` when symbols are distinct; got "
                f"{self.vocab_size} and {self.max_period}. Raise it, or set `distinct=False`."
            )

    def batch(self, batch_size: int, *, seed: int, step: int = 0) -> CopyingBatch:
        """Returns the texts of one step, which depend on nothing but the seed and the step.

        Args:
            batch_size: Number of texts.
            seed: Seed of the order.
            step: Step of the training, from 0; negative steps are free for evaluation.

        Returns:
            The texts.

        Raises:
            TypeError: If `batch_size` is not an integer.
            ValueError: If it is smaller than 1.
        """
        check.require_integer(batch_size, "batch_size", minimum=1)
        # Python promises the same numbers for a string seed on every version; torch does not.
        draw = random.Random(f"copying/{seed}/{step}")
        texts: list[list[int]] = []
        periods: list[int] = []
        for _ in range(batch_size):
            period = draw.randint(self.min_period, self.max_period)
            if self.distinct:
                segment = draw.sample(range(self.vocab_size), period)
            else:
                segment = [draw.randrange(self.vocab_size) for _ in range(period)]
            texts.append([segment[t % period] for t in range(self.length)])
            periods.append(period)
        period = torch.tensor(periods)
        scored = torch.arange(self.length) > period[:, None]
        return CopyingBatch(torch.tensor(texts), scored, period)

    @property
    def chance(self) -> float:
        """Accuracy of guessing among all symbols."""
        return 1 / self.vocab_size

    def bag_chance(self, batch: CopyingBatch) -> float:
        """Returns the accuracy of guessing by counts: what is reached without knowing any order.

        In the repetition of distinct symbols the next one is among those that have come up least
        often so far, and nothing but order tells which. Of equals any is guessed, so this is the
        expected accuracy.

        Args:
            batch: Texts of this task.

        Returns:
            The mean over scored tokens.
        """
        text = batch.input_ids
        count = torch.zeros(text.shape[0], self.vocab_size)
        right = torch.zeros(text.shape)
        for t in range(self.length):
            seen = torch.where(count > 0, count, torch.inf)
            least = seen == seen.amin(-1, keepdim=True)
            hit = least.gather(1, text[:, t : t + 1]).float()
            right[:, t] = (hit / least.sum(-1, keepdim=True))[:, 0]
            count.scatter_add_(1, text[:, t : t + 1], torch.ones_like(hit))
        return float(right[batch.scored].mean())

    def ceiling(self, batch: CopyingBatch, *, order: int = 1) -> float:
        """Returns the accuracy of saying what followed the last `order` tokens most recently.

        1 with distinct symbols. Where symbols recur, one token does not tell the place and more
        of them do.

        Args:
            batch: Texts of this task.
            order: Tokens to match.

        Returns:
            The mean over scored tokens.

        Raises:
            TypeError: If `order` is not an integer.
            ValueError: If it is smaller than 1.
        """
        check.require_integer(order, "order", minimum=1)
        hits = total = 0
        texts: list[list[int]] = batch.input_ids.tolist()
        for text, scored in zip(texts, batch.scored.tolist(), strict=True):
            followed: dict[tuple[int, ...], int] = {}
            for t in range(order, len(text)):
                suffix = tuple(text[t - order : t])
                if scored[t]:
                    total += 1
                    hits += followed.get(suffix, -1) == text[t]
                followed[suffix] = text[t]
        return hits / total


def copying_accuracy(
    logits: Float[Tensor, "batch length vocabulary"], batch: CopyingBatch
) -> float:
    """Returns the share of scored tokens that the likeliest guess hits.

    Args:
        logits: What a causal language model says after each token.
        batch: The texts it read.

    Returns:
        Between 0 and 1.
    """
    guess = logits[:, :-1].argmax(-1)
    right = guess == batch.input_ids[:, 1:]
    return float(right[batch.scored[:, 1:]].double().mean())
