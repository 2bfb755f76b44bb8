"""Labelled sequences in three splits, whatever they are sequences of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from syncattn._typing import Bool, Int, Tensor
from syncattn.data.sources import DataIdentity, hash_parts

__all__ = ["Examples", "LabelledSet", "hash_examples"]


class Examples(NamedTuple):
    """Sequences with one label each.

    Attributes:
        inputs: Token numbers ``(examples, length)`` int64, padded on the right, or frames
            ``(examples, length, features)`` float32.
        mask: True where a token or frame is real.
        place: Where the answer is read, such as the verb.
        label: The right class.
        group: Number of the group an example counts in, such as its attractors.
    """

    inputs: Tensor
    mask: Bool[Tensor, "examples length"]
    place: Int[Tensor, " examples"]
    label: Int[Tensor, " examples"]
    group: Int[Tensor, " examples"]

    def part(self, index: Int[Tensor, " _"] | slice) -> Examples:
        """Returns some of the examples.

        Args:
            index: Their numbers.

        Returns:
            The examples in that order.
        """
        return Examples(*(tensor[index] for tensor in self))

    @property
    def size(self) -> int:
        """Number of examples."""
        return self.label.shape[0]


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Three splits of labelled sequences.

    Attributes:
        train: Examples to learn from.
        valid: Examples to choose by.
        test: Examples to read once.
        num_labels: Number of classes.
        identity: What the data is.
        groups: Names of the groups, by number.
        vocabulary_size: Number of different tokens; None for frames.
        feature_size: Numbers of a frame; None for tokens.
        ceiling: Best expected accuracy, where the generator is known; None elsewhere.
    """

    train: Examples
    valid: Examples
    test: Examples
    num_labels: int
    identity: DataIdentity
    groups: tuple[str, ...]
    vocabulary_size: int | None = None
    feature_size: int | None = None
    ceiling: float | None = None

    def __post_init__(self) -> None:
        """Refuses splits without examples."""
        for name in ("train", "valid", "test"):
            if not getattr(self, name).size:
                raise ValueError(
                    f"Every split of `{self.identity.name}` must hold an example; got none for "
                    f"{name}. Give more data."
                )


def hash_examples(*splits: Examples) -> str:
    """Returns the sha256 of everything in some splits.

    Args:
        *splits: The splits in order.

    Returns:
        Lower-case hexadecimal.
    """
    tensors = [tensor.contiguous() for split in splits for tensor in split]
    return hash_parts(bytes(tensor.view(torch.uint8).numpy().reshape(-1)) for tensor in tensors)
