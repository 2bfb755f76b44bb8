"""Backward passes that have no derivative of their own, and refuse where one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

__all__ = ["first_order"]


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a backward pass that runs only where nobody is going to differentiate it.

    `once_differentiable` is not enough: what its error hangs on knows the incoming gradients alone,
    so a second derivative by the operands would go round it and come out wrong.

    Args:
        backward: The backward pass of an autograd function or a custom operator.
    """

    @wraps(backward)
    def refuse_or_run(ctx: Any, *gradients: Any) -> Any:
        # Gradients are recorded inside a backward pass under `create_graph` alone.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError(
                "A fast form of an operator must be differentiated once, for its backward pass has "
                'no derivative; got `create_graph=True`. Pass `backend="reference"` for second '
                "derivatives, with the whole sequence in one process."
            )
        return backward(ctx, *gradients)

    return refuse_or_run
