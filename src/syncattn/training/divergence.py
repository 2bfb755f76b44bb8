"""Divergence: numbers that left their range, whether a loss shows it or a network refuses it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
from torch import nn

from syncattn._typing import Tensor
from syncattn._validation import OverflowedError

__all__ = ["DivergedError", "computed", "finite"]

_OUTPUT = "output of the network"
_Network = TypeVar("_Network", bound=nn.Module)
_Result = TypeVar("_Result")


class DivergedError(RuntimeError):
    """The loss, the gradient or what the network computes stopped being finite.

    Where a step of the optimiser failed, the model keeps the weights it had before it; where a
    validation did, it has those that were to be scored.

    Attributes:
        step: Optimiser steps done before the failure.
        remedy: What to try.
    """

    def __init__(self, step: int, what: str = _OUTPUT, value: float = math.inf) -> None:
        self.step = step
        self._given = (step, what, value)
        self.remedy = (
            "Lower `learning_rate`, raise `warmup_steps` or set `mixed_precision` to 'no'."
        )
        super().__init__(
            f"The {what} must stay finite; got {value} after {step} steps. {self.remedy}"
        )

    def __reduce__(self) -> tuple[type[DivergedError], tuple[int, str, float]]:
        """Lets it cross processes."""
        return type(self), self._given


def finite(what: str, value: Any, step: int) -> float:
    """Returns a figure of a training as a number.

    Args:
        what: Its name, for the sentence.
        value: The figure; a tensor of one number, or a number.
        step: Optimiser steps done.

    Raises:
        DivergedError: If it is NaN or infinite.
    """
    number = float(value.detach() if isinstance(value, Tensor) else value)
    if not math.isfinite(number):
        raise DivergedError(step, what, number)
    return number


def computed(
    call: Callable[[_Network], _Result], network: _Network, step: int, *, probed: _Network | None
) -> _Result:
    """Returns what a network computes; what it refuses because of its weights is a divergence.

    Layers refuse numbers that overflow, and layers after those refuse what is not finite. The
    second refusal says nothing of whose fault it is: the call is repeated, and looked into.

    Args:
        call: From the network to the result.
        network: The network.
        step: Optimiser steps done.
        probed: What the call is repeated with: the network without what makes processes wait for
            each other; None where that cannot be had.

    Raises:
        DivergedError: If the numbers inside left their range.
        ValueError: If the network refuses anything else.
    """
    try:
        return call(network)
    except OverflowedError as error:
        raise DivergedError(step) from error
    except ValueError as error:
        if probed is None or not _overflows(call, probed):
            raise
        raise DivergedError(step) from error


@torch.no_grad()
def _overflows(call: Callable[[_Network], Any], network: _Network) -> bool:
    """Tells whether a module of a network is given, or makes, numbers that are not finite."""
    seen: list[bool] = []

    def look(_: nn.Module, values: Any, made: Any = None) -> None:
        given = values if isinstance(values, tuple) else (values,)
        seen.extend(
            not bool(x.isfinite().all())
            for x in (*given, made)
            if isinstance(x, Tensor) and x.is_floating_point()
        )

    with ExitStack() as hooks:
        for module in network.modules():
            hooks.callback(module.register_forward_pre_hook(look).remove)
            hooks.callback(module.register_forward_hook(look).remove)
        try:
            call(network)
        except ValueError:
            return any(seen)
    return False
