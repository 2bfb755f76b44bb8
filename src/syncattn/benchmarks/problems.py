"""A task with its data: batches to train on, and what is measured of a network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from syncattn._typing import Tensor
from syncattn.data import evaluation_batches, training_batch
from syncattn.data.corpora import TokenSet
from syncattn.data.examples import Examples, LabelledSet
from syncattn.data.seeds import named_generator
from syncattn.data.sources import DataIdentity

__all__ = [
    "Batch",
    "LabelProblem",
    "Problem",
    "Scores",
    "StreamProblem",
    "TextProblem",
    "unscored",
]

unscored = -100
"""Target of a place where nothing is asked."""
_NATS_PER_BIT = math.log(2)


class Batch(NamedTuple):
    """What a network reads and what it should say.

    Attributes:
        inputs: Token numbers ``(batch, length)``, or frames ``(batch, length, features)``.
        target: A class per sequence ``(batch,)``, or a token per place ``(batch, length)``, -100
            where nothing is asked.
        mask: True where a token is real; None for everywhere.
        place: Where the class is read; None for the mean of all.
        group: Number of the group a target counts in, like `target`; None for one group.
    """

    inputs: Tensor
    target: Tensor
    mask: Tensor | None = None
    place: Tensor | None = None
    group: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Returns the batch on a device.

        Args:
            device: The device.

        Returns:
            The same batch.
        """
        return Batch(*(None if t is None else t.to(device) for t in self))  # pyright: ignore[reportArgumentType]


@dataclass
class Scores:
    """What a network got right, in all and by group.

    Attributes:
        nats: Sum of the negative log likelihoods.
        right: Targets that the likeliest answer hits, by group.
        count: Targets, by group.
    """

    nats: float = 0.0
    right: dict[str, int | float] = field(default_factory=dict[str, int | float])
    count: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, group: str, right: int | float, count: int) -> None:
        """Counts targets of a group.

        Args:
            group: Name of the group.
            right: Targets that were hit; half of one where two answers are as likely.
            count: Targets.
        """
        self.right[group] = self.right.get(group, 0) + right
        self.count[group] = self.count.get(group, 0) + count

    @property
    def nats_per_target(self) -> float:
        """Mean negative log likelihood."""
        return self.nats / max(1, sum(self.count.values()))

    def value(self, metric: str) -> float:
        """Returns the figure of a metric.

        Args:
            metric: ``"accuracy"``, ``"bits per byte"`` or ``"perplexity"``.

        Returns:
            The figure; perplexity is infinite where it overflows.
        """
        if metric == "accuracy":
            return sum(self.right.values()) / max(1, sum(self.count.values()))
        if metric == "bits per byte":
            return self.nats_per_target / _NATS_PER_BIT
        return math.exp(self.nats_per_target) if self.nats_per_target < 700 else math.inf

    def details(self) -> dict[str, Any]:
        """Returns what a record says besides, as plain values that JSON can hold."""
        return {}

    def by_group(self) -> dict[str, float]:
        """Returns the accuracy of every group that has targets, where there are several."""
        names = [name for name, count in self.count.items() if count]
        return {n: self.right[n] / self.count[n] for n in names} if len(names) > 1 else {}


class Problem(ABC):
    """A task with its data.

    Attributes:
        identity: What the data is.
        length: Tokens or frames of the longest sequence.
        vocabulary_size: Number of different tokens; None for frames.
        feature_size: Numbers of a frame; None for tokens.
        num_labels: Number of classes of a sequence; None when every place is answered.
        groups: Names of the groups, by number.
        ceiling: Best expected score, where it is known.
        largest_evaluation: Most targets of a split that are scored; None for all.
    """

    identity: DataIdentity
    length: int
    vocabulary_size: int | None = None
    feature_size: int | None = None
    num_labels: int | None = None
    groups: Sequence[str] = ("all",)
    ceiling: float | None = None

    @abstractmethod
    def training_batch(self, size: int, *, seed: int, step: int) -> Batch:
        """Returns the batch of a step, which depends on the seed and the step alone.

        Args:
            size: Sequences in it.
            seed: Seed of the order.
            step: Step from 0.

        Returns:
            The batch.
        """

    @abstractmethod
    def batches(self, split: str, size: int) -> Iterator[Batch]:
        """Yields what a split is scored on.

        Args:
            split: ``"valid"`` or ``"test"``.
            size: Sequences in a batch.

        Yields:
            Batches, the same for every network.
        """

    @torch.no_grad()
    def score(self, network: nn.Module, split: str, *, batch_size: int) -> Scores:
        """Returns what a network got right on a split.

        Args:
            network: From a `Batch` to logits.
            split: ``"valid"`` or ``"test"``.
            batch_size: Sequences scored at a time.

        Returns:
            The scores.
        """
        was_training = network.training
        network.eval()
        scores = Scores()
        device = next(network.parameters()).device
        try:
            for batch in self.batches(split, batch_size):
                _count(scores, network(batch.to(device)).cpu(), batch, self.groups)
        finally:
            network.train(was_training)
        return scores


def _count(scores: Scores, logits: Tensor, batch: Batch, groups: Sequence[str]) -> None:
    flat, target = logits.float().reshape(-1, logits.shape[-1]), batch.target.reshape(-1)
    asked = target != unscored
    flat, target = flat[asked], target[asked]
    scores.nats += cross_entropy(flat, target, reduction="sum").item()
    right = flat.argmax(-1) == target
    if batch.group is None:
        scores.add(str(groups[0]), int(right.sum()), len(target))
        return
    group = batch.group.reshape(-1)[asked]
    for number in group.unique().tolist():
        here = group == number
        scores.add(str(groups[number]), int(right[here].sum()), int(here.sum()))


class TextProblem(Problem):
    """Predict the next token of a text.

    Args:
        tokens: The text.
        context_length: Tokens a network sees.
        evaluation_tokens: Most tokens of the validation split that are scored; None for all.
        test_tokens: Most tokens of the test split; None for all.
    """

    def __init__(
        self,
        tokens: TokenSet,
        *,
        context_length: int,
        evaluation_tokens: int | None = None,
        test_tokens: int | None = None,
    ) -> None:
        self.tokens = tokens
        self.identity = tokens.identity
        self.length = context_length
        self.vocabulary_size = tokens.vocabulary_size
        self.limits = {"valid": evaluation_tokens, "test": test_tokens}

    def training_batch(self, size: int, *, seed: int, step: int) -> Batch:
        """Returns windows of the training text; see `Problem.training_batch`."""
        windows = training_batch(
            self.tokens.train, batch_size=size, context_length=self.length, seed=seed, step=step
        )
        return Batch(windows[:, :-1], windows[:, 1:])

    def batches(self, split: str, size: int) -> Iterator[Batch]:
        """Yields consecutive windows; see `Problem.batches`."""
        for windows in evaluation_batches(
            getattr(self.tokens, split), batch_size=size, context_length=self.length,
            max_tokens=self.limits[split],
        ):  # fmt: skip
            yield Batch(windows[:, :-1], windows[:, 1:])


class LabelProblem(Problem):
    """Tell the class of a sequence.

    Args:
        data: The sequences.
        reads_place: Whether the class is read at the place of the example, or off the mean.
        evaluation_examples: Most validation examples that are scored; None for all.
    """

    def __init__(
        self, data: LabelledSet, *, reads_place: bool, evaluation_examples: int | None = None
    ) -> None:
        self.data = data
        self.identity = data.identity
        self.length = data.train.inputs.shape[1]
        self.vocabulary_size = data.vocabulary_size
        self.feature_size = data.feature_size
        self.num_labels = data.num_labels
        self.groups = data.groups
        self.ceiling = data.ceiling
        self.reads_place = reads_place
        self.evaluation_examples = evaluation_examples

    def training_batch(self, size: int, *, seed: int, step: int) -> Batch:
        """Returns examples of epochs, each in an order of its own; see `Problem.training_batch`."""
        total = self.data.train.size
        per_epoch = max(1, total // size)
        order = torch.randperm(total, generator=named_generator("epoch", seed, step // per_epoch))
        start = step % per_epoch * size
        return self._batch(self.data.train.part(order[start : start + size]))

    def batches(self, split: str, size: int) -> Iterator[Batch]:
        """Yields the examples in order; see `Problem.batches`."""
        examples: Examples = getattr(self.data, split)
        limit = self.evaluation_examples if split == "valid" else None
        end = examples.size if limit is None else min(limit, examples.size)
        for start in range(0, end, size):
            yield self._batch(examples.part(slice(start, min(start + size, end))))

    def _batch(self, examples: Examples) -> Batch:
        # Padding that no sequence of the batch needs would only cost time.
        length = int(examples.mask.sum(-1).max())
        mask = None if bool(examples.mask[:, :length].all()) else examples.mask[:, :length]
        place = examples.place if self.reads_place else None
        return Batch(examples.inputs[:, :length], examples.label, mask, place, examples.group)


class StreamProblem(Problem):
    """Sequences drawn anew for every step, whose answers stand in them.

    Args:
        identity: What the generator is.
        draw: Batches from a size, a seed and a step; negative steps are never trained on.
        length: Tokens of a sequence.
        vocabulary_size: Number of different tokens.
        groups: Names of the groups, by number.
        ceiling: Best expected accuracy.
        evaluation_batches: Batches that are scored of each split.
    """

    def __init__(
        self,
        identity: DataIdentity,
        draw: Callable[[int, int, int], Batch],
        *,
        length: int,
        vocabulary_size: int,
        groups: Sequence[str],
        ceiling: float,
        evaluation_batches: int,
    ) -> None:
        self.identity = identity
        self.draw = draw
        self.length = length
        self.vocabulary_size = vocabulary_size
        self.groups = groups
        self.ceiling = ceiling
        self.num_batches = evaluation_batches

    def training_batch(self, size: int, *, seed: int, step: int) -> Batch:
        """Returns new sequences; see `Problem.training_batch`."""
        return self.draw(size, seed, step)

    def batches(self, split: str, size: int) -> Iterator[Batch]:
        """Yields sequences of seeds of their own; see `Problem.batches`."""
        del size
        first = -1 if split == "valid" else -1 - self.num_batches
        for i in range(self.num_batches):
            yield self.draw(64, 0, first - i)
