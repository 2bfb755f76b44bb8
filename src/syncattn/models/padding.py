"""Padding of a batch: on one side, counted once, moved to the left before generation."""

from __future__ import annotations

import torch

from syncattn import _validation as check
from syncattn._typing import Bool, Tensor


def visible_keys(
    attention_mask: Tensor | None, x: Tensor, past: int
) -> Bool[Tensor, "batch length"] | None:
    """Returns which of the new tokens are real, None where all are.

    Args:
        attention_mask: ``(batch, past + length)``, 1 where a token is real.
        x: The new tokens, ``(batch, length, …)``.
        past: Tokens before them, in a cache.

    Returns:
        Boolean, True where a token is real.

    Raises:
        TypeError: If it is not a tensor.
        ValueError: If the shape does not fit, or padding lies on both sides.
    """
    if attention_mask is None:
        return None
    remedy = "Pass 1 where a token is real, 0 where it is padding."
    check.require_instance(attention_mask, "attention_mask", torch.Tensor, remedy)
    if not x.is_meta:
        check.require_values(attention_mask, "attention_mask")
    expected = (x.shape[0], past + x.shape[1])
    if attention_mask.shape != expected:
        cached = f", of which {past} are in the cache" if past else ""
        raise ValueError(
            f"`attention_mask` must have one number per token, {expected}{cached}; got "
            f"{tuple(attention_mask.shape)}. {remedy}"
        )
    mask = attention_mask.bool()
    if torch.compiler.is_compiling():
        return mask[:, past:]
    require_one_side(mask)
    key_mask = mask[:, past:]
    return None if bool(key_mask.all()) else key_mask


def require_one_side(mask: Bool[Tensor, "batch length"]) -> None:
    """Refuses a batch with padding on the left and on the right.

    Args:
        mask: True where a token is real.

    Raises:
        ValueError: If some sequence begins and some sequence ends with padding.
    """
    if mask.shape[1] == 0:
        return
    some = mask.any(-1)
    left, right = (some & ~mask[:, 0]).any(), (some & ~mask[:, -1]).any()
    if bool(left & right):
        raise ValueError(
            "`attention_mask` must have its padding on one side of the batch; got some on the left "
            "and some on the right. Set the tokenizer's `padding_side` and pad the batch at once."
        )


def moved_to_the_left(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a batch whose padding is on the left, in front of every sequence.

    Args:
        ids: ``(batch, length)``.
        mask: ``(batch, length)``, 1 where a token is real, its padding on one side.

    Returns:
        Tokens and mask.
    """
    if bool(mask[:, -1].all()):
        return ids, mask
    order = mask.bool().long().argsort(dim=-1, stable=True)
    return ids.gather(1, order), mask.gather(1, order)
