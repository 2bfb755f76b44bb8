"""What every decoding step needs: its keywords, the mask of all keys, and how far to go back."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any, Protocol, runtime_checkable

import torch

from syncattn import _validation as check
from syncattn._typing import Bool, Tensor

__all__ = ["joined_mask", "keywords", "require_continued", "require_croppable", "step_options"]

_FIXED = {
    "attn_mask": None, "cu_seqlens": None, "is_causal": None, "order_parameter": None,
    "self_pairs": None, "legacy_padding": False,
}  # fmt: skip
"""Keywords of operators that a step decides itself, and what says no more than leaving them out."""


@runtime_checkable
class Masked(Protocol):
    """The past of a layer, with the mask of its keys."""

    @property
    def key_mask(self) -> Tensor | None:
        """True where a key is real, ``(batch, length)``; None for all."""
        ...

    @property
    def length(self) -> int:
        """Tokens so far, padding included."""
        ...


def keywords(operator: Callable[..., Any]) -> frozenset[str]:
    """Returns the names of what an operator takes by keyword alone.

    Args:
        operator: The operator.
    """
    parameters = signature(operator).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY)


def step_options(options: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Returns the keywords that a step passes on to its operator.

    Args:
        options: The keywords as passed.
        known: Those of the operator.

    Raises:
        TypeError: If the operator does not know one.
        ValueError: If one contradicts decoding.
    """
    for name, given in options.items():
        if name not in known:
            raise TypeError(
                f"`{name}` must be a keyword of the operator that the step continues; got one that "
                f"it does not take. It takes {', '.join(sorted(known - _FIXED.keys()))}."
            )
        if name in _FIXED and given is not None and given is not _FIXED[name]:
            raise ValueError(
                f"`{name}` must be left out in a decoding step, which is causal over one sequence "
                f"per row; got it. Use `key_mask` for padding."
            )
    return {name: given for name, given in options.items() if name not in _FIXED}


def joined_mask(
    state: Masked | None, new: Tensor | None, tokens: Tensor, axis: int = 2
) -> Bool[Tensor, "batch keys"] | None:
    """Returns the mask of all keys from that of the past and that of the new tokens.

    Args:
        state: The past; None at the start.
        new: ``(batch, new)``; None for all.
        tokens: The new tokens, batch first, for their number and device.
        axis: The axis of `tokens` along which they lie.

    Returns:
        None where every key is real, `new` itself where there is no past.
    """
    if state is None or (state.key_mask is None and new is None):
        return new
    batch = tokens.shape[0]
    parts = [
        torch.ones(batch, size, dtype=torch.bool, device=tokens.device) if mask is None else mask
        for mask, size in ((state.key_mask, state.length), (new, tokens.shape[axis]))
    ]
    return torch.cat(parts, 1)


def require_continued(past: Tensor, past_name: str, new: Tensor, new_name: str) -> None:
    """Refuses new tokens that do not fit those of the past.

    Args:
        past: ``(batch, heads, length, dim)``.
        past_name: Its name.
        new: ``(batch, heads, new, dim)``.
        new_name: Its name.

    Raises:
        ValueError: If batch, heads or coordinates differ.
    """
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (3, "coordinates")):
        check.require_same(past, past_name, new, new_name, axis, name)


def require_croppable(length: int, present: int) -> None:
    """Refuses to keep more tokens than there are, or none.

    Args:
        length: Tokens to keep.
        present: Tokens there are.

    Raises:
        TypeError: If `length` is not an integer.
        ValueError: If it is out of range.
    """
    check.require_integer(length, "length", minimum=1)
    if length > present:
        raise ValueError(
            f"`length` must be at most the tokens of the state; got {length} and {present}. "
            f"A state can only become shorter."
        )
