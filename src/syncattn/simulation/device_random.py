"""Where a device's numbers come from: fixed for one chip, or fresh at every inference."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from zlib import crc32

import torch

from syncattn._typing import Tensor

__all__ = ["Draws", "chip_normal"]

_WORD = 1 << 64
# Constants of the splitmix64 generator (Steele, Lea and Flood, 2014).
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(word: int) -> int:
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word


def _mix(x: Tensor) -> Tensor:
    """Returns the finaliser of splitmix64; int64 products wrap, as its words do."""
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        x = (x ^ _shift(x, shift)) * _signed(factor)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, places: int) -> Tensor:
    return (x >> places) & ((1 << (64 - places)) - 1)


def chip_normal(seed: int, name: str, shape: tuple[int, ...], *, device: torch.device) -> Tensor:
    """Returns standard normal numbers that are functions of a seed, a name and their indices.

    An entry does not depend on the shape, so a chip used for short sequences is the same chip
    when it is used for long ones, on every kind of accelerator.

    Args:
        seed: Which chip.
        name: Which of its properties.
        shape: Sizes of the axes.
        device: Where to make them.

    Returns:
        Numbers in float32.
    """
    word = torch.tensor(_signed(seed * _STEP + crc32(name.encode())), device=device)
    word = _mix(word)
    for axis, size in enumerate(shape):
        index = torch.arange(1, size + 1, device=device) * _signed(_STEP)
        word = _mix(word.unsqueeze(-1) + _mix(index + axis))
    unit = [_shift(_mix(word + _signed(k * _STEP)), 11).double() * 2.0**-53 for k in (1, 2)]
    radius = (-2 * torch.log1p(-unit[0])).sqrt()
    return (radius * torch.cos(2 * math.pi * unit[1])).float()


@dataclass
class Draws:
    """The random numbers of one layer on one device.

    Attributes:
        seed: Which chip.
        layer: Which layer on it.
        per_chip: Whether what is built stays the same over a batch and from call to call.
        device: Where the tensors live.
    """

    seed: int
    layer: int
    per_chip: bool
    device: torch.device
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        """Seeds what is drawn afresh."""
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(crc32(f"{self.seed}/{self.layer}".encode()))

    def built(self, name: str, batch: int, shape: tuple[int, ...]) -> Tensor:
        """Returns normal numbers of something that is built: couplings, anchors, frequencies.

        Args:
            name: Which property.
            batch: Sequences in the batch.
            shape: The shape without the batch.

        Returns:
            ``(1, *shape)`` for a chip, ``(batch, *shape)`` per inference.
        """
        if self.per_chip:
            return chip_normal(self.seed, f"{self.layer}/{name}", shape, device=self.device)[None]
        return self.fresh((batch, *shape))

    def fresh(self, shape: tuple[int, ...]) -> Tensor:
        """Returns normal numbers of something that happens: noise and starts.

        Args:
            shape: The shape.

        Returns:
            Numbers in float32, new at every call.
        """
        return torch.randn(shape, generator=self.generator, device=self.device)
