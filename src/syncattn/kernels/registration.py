"""A custom operator and its backward pass, registered by their schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

__all__ = ["Form", "register"]


class Form(NamedTuple):
    """One direction of a custom operator.

    Attributes:
        schema: Its arguments and results, as in ``(Tensor x, bool flag) -> Tensor``.
        compute: What computes it, on any device.
        fake: What makes results of the same shapes and dtypes that hold nothing, for graphs.
    """

    schema: str
    compute: Callable[..., Any]
    fake: Callable[..., Any]


def register(
    name: str,
    *,
    forward: Form,
    backward: Form,
    save: Callable[[Any, tuple[Any, ...], Any], None],
    differentiate: Callable[..., tuple[Any, ...]],
) -> None:
    """Registers ``syncattn::name`` and ``syncattn::name_backward``, once per process.

    Args:
        name: Under which ``torch.ops.syncattn`` has it.
        forward: The operator.
        backward: Its gradients, an operator too: graphs hold both.
        save: Keeps on the context what the gradients need, from the inputs and the results.
        differentiate: Calls the backward operator; a gradient or None for every argument.
    """
    for full, form in ((name, forward), (f"{name}_backward", backward)):
        # Not `custom_op`: its kernels import the whole compiler, seconds of it, when first called.
        operator = f"syncattn::{full}"
        torch.library.define(operator, form.schema, tags=torch.Tag.pt2_compliant_tag)
        torch.library.impl(operator, "default", form.compute)
        torch.library.register_fake(operator, form.fake)
    torch.library.register_autograd(f"syncattn::{name}", differentiate, setup_context=save)
