"""The mark by which an optimizer knows what it must not shrink."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Learned = TypeVar("Learned", nn.Module, nn.Parameter)


def without_decay(learned: Learned) -> Learned:
    """Returns what was given, marked to be left out of weight decay.

    Phases, rates, anchors, gains and couplings have no meaningful zero to shrink to. The mark is
    the attribute `_no_weight_decay`, which `syncattn.training` reads.

    Args:
        learned: A parameter, or a module with all its parameters.
    """
    learned._no_weight_decay = True  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    return learned
