"""Padding of a batch: on one side, counted once, moved to the left before generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from syncattn import _validation as check
from syncattn._typing import Bool, Int, Tensor


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
        ValueError: If the shape does not fit, a number is another than 0 and 1, or padding lies
            on both sides.
    """
    if attention_mask is None:
        return None
    remedy = "Pass 1 where a token is real, 0 where it is padding."
    check.require_instance(attention_mask, "attention_mask", torch.Tensor, remedy)
    expected = (x.shape[0], past + x.shape[1])
    if attention_mask.shape != expected:
        cached = f", of which {past} are in the cache" if past else ""
        raise ValueError(
            f"`attention_mask` must have one number per token, {expected}{cached}; got "
            f"{tuple(attention_mask.shape)}. {remedy}"
        )
    mask = attention_mask.bool()
    if x.is_meta or torch.compiler.is_compiling():
        return mask[:, past:]
    check.require_values(attention_mask, "attention_mask")
    if not bool((attention_mask == mask).all()):
        smallest, largest = attention_mask.aminmax()
        raise ValueError(
            f"`attention_mask` must hold 0 and 1 alone; got numbers from {smallest.item():g} to "
            f"{largest.item():g}. {remedy}"
        )
    require_one_side(mask)
    key_mask = mask[:, past:]
    return None if bool(key_mask.all()) else key_mask


def packed_lengths(position_ids: Tensor | None, x: Tensor) -> Int[Tensor, " ends"] | None:
    """Returns the cumulative lengths of packed sequences, None where there is one.

    Args:
        position_ids: ``(1, length)``, beginning anew with every sequence; None for one.
        x: The tokens, ``(batch, length, …)``.

    Raises:
        TypeError: If it is not a tensor.
        ValueError: If the shape is another, or several rows are packed.
    """
    if position_ids is None:
        return None
    check.require_instance(position_ids, "position_ids", torch.Tensor, "Leave it out.")
    length = x.shape[1]
    if tuple(position_ids.shape) not in {(1, length), (x.shape[0], length)}:
        raise ValueError(
            f"`position_ids` must have shape (1, {length}) or ({x.shape[0]}, {length}), one number "
            f"per token; got {check.shape_of(position_ids)}. Leave them out, or add the axis."
        )
    if x.is_meta:
        return None
    anew = position_ids.diff(dim=-1) != 1
    if torch.compiler.is_compiling():
        # A graph has one shape: sequences of no tokens follow the last. Values cannot be looked at.
        if x.shape[0] > 1:
            return None
        places = torch.arange(1, length, device=x.device)
        ends = torch.where(anew[0], places, length).sort().values
        return torch.cat([ends.new_zeros(1), ends, ends.new_full((1,), length)])
    if not bool(anew.any()):
        return None
    if x.shape[0] > 1:
        raise ValueError(
            f"`position_ids` must begin anew in one row alone, with all sequences in it; got "
            f"{x.shape[0]} rows. Pack them into one, or pad them and pass `attention_mask`."
        )
    ends = anew.flatten().nonzero()[:, 0] + 1
    return torch.cat([ends.new_zeros(1), ends, ends.new_tensor([length])])


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


def ready_to_generate(
    prompts: Mapping[str, Tensor | None], options: Mapping[str, Any], config: Any, *, limit: int
) -> dict[str, Any]:
    """Returns prompts with their padding on the left, and their mask.

    Args:
        prompts: By their names as arguments of `generate`: tokens ``(batch, length)``, embeddings
            ``(batch, length, width)``, or None.
        options: Other arguments of `generate`; without `attention_mask` a token that does nothing
            but pad tells the padding, as Transformers infers it.
        config: The network's `GenerationConfig`, where `options` holds no other.
        limit: Longest prompt.

    Returns:
        The prompts that are there, and `attention_mask` where something tells of padding.

    Raises:
        TypeError: If the mask is not a tensor.
        ValueError: If a prompt is longer than the limit, or padding lies on both sides.
    """
    there = {name: x for name, x in prompts.items() if x is not None}
    mask: Any = options.get("attention_mask")
    if mask is not None:
        check.require_instance(mask, "attention_mask", torch.Tensor, "Pass a tensor of 0 and 1.")
    for x in there.values():
        if mask is None and x.dim() == 2:
            mask = _inferred(x, options, options.get("generation_config") or config)
    ready: dict[str, Any] = {}
    for name, x in there.items():
        if x.shape[1] > limit:
            raise ValueError(
                f"A prompt must not be longer than `max_position_embeddings`; got {x.shape[1]} "
                f"tokens and {limit}. Cut it to its last {limit} tokens."
            )
        ready[name] = x
        if mask is not None:
            moved = mask
            if mask.shape == x.shape[:2]:
                require_one_side(mask.bool())
                ready[name], moved = moved_to_the_left(x, mask)
            ready["attention_mask"] = moved
    return ready


def _inferred(ids: Tensor, options: Mapping[str, Any], config: Any) -> Tensor | None:
    names = ("pad_token_id", "eos_token_id")
    pad, end = (options.get(name, getattr(config, name, None)) for name in names)
    ends: list[Any] = end if isinstance(end, list) else [end]
    if not isinstance(pad, int) or pad in ends or not bool((ids == pad).any()):
        return None
    return (ids != pad).long()


def moved_to_the_left(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a batch whose padding is on the left, in front of every sequence.

    Args:
        ids: ``(batch, length)``, or embedded ``(batch, length, width)``.
        mask: ``(batch, length)``, 1 where a token is real, its padding on one side.

    Returns:
        Tokens and mask.
    """
    if bool(mask[:, -1].all()):
        return ids, mask
    order = mask.bool().long().argsort(dim=-1, stable=True)
    rows = torch.arange(len(order), device=order.device)[:, None]
    return ids[rows, order], mask[rows, order]
