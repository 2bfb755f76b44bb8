"""Checks of masks and packed sequences, each with its sentence."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from syncattn._masks import Visibility, segments
from syncattn._typing import Tensor
from syncattn._validation.numbers import require_values
from syncattn._validation.values import require_flag, shape_of


def require_visibility(
    query: Tensor,
    key: Tensor,
    *,
    attn_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    is_causal: bool = False,
    exclude_self: bool = False,
) -> Visibility:
    """Checks the masks of an operator and returns them as one value.

    Args:
        query: ``(batch, heads, queries, …)``.
        key: ``(batch, heads, keys, …)``.
        attn_mask: Boolean, broadcastable to ``(batch, heads, queries, keys)``.
        key_mask: Boolean ``(batch, keys)``, True where a key is real.
        cu_seqlens: Cumulative lengths of packed sequences, from 0 to the number of keys.
        is_causal: Whether the future is hidden.
        exclude_self: Whether a token is hidden from itself.

    Returns:
        Who sees whom.

    Raises:
        ValueError: If shapes do not fit, or two descriptions conflict.
        TypeError: If a mask is not boolean.
    """
    batch, heads, num_queries, num_keys = *query.shape[:3], key.shape[2]
    require_flag(is_causal, "is_causal")
    require_flag(exclude_self, "exclude_self")
    if is_causal and num_queries > num_keys:
        raise ValueError(
            f"`is_causal` needs at most as many queries as keys; got {num_queries} and {num_keys}. "
            f"Queries are the last tokens of the keys: pass all keys."
        )
    segment = None
    if cu_seqlens is not None:
        if attn_mask is not None or key_mask is not None:
            other = "attn_mask" if attn_mask is not None else "key_mask"
            raise ValueError(
                f"`cu_seqlens` must come without `{other}`; got both. Packed sequences have no "
                f"padding: drop the mask, or unpack the sequences."
            )
        segment = _require_segments(cu_seqlens, query, num_keys)
    if key_mask is not None:
        _require_boolean(key_mask, "key_mask", query.device)
        if key_mask.shape != (batch, num_keys):
            raise ValueError(
                f"`key_mask` must have shape ({batch}, {num_keys}), batch and keys; "
                f"got {shape_of(key_mask)}. True marks a real key."
            )
    if attn_mask is not None:
        require_mask(
            attn_mask, "attn_mask", (batch, heads, num_queries, num_keys), query.device,
            "batch, heads, queries and keys",
        )  # fmt: skip
        attn_mask = attn_mask.reshape((1,) * (4 - attn_mask.dim()) + attn_mask.shape)
    return Visibility(num_queries, num_keys, is_causal, key_mask, segment, attn_mask, exclude_self)


def require_new_mask(key_mask: Any, tokens: Tensor, axis: int) -> None:
    """Refuses a mask that does not tell of every new token of a decoding step.

    Args:
        key_mask: ``(batch, new)``, or None for all.
        tokens: The new tokens, batch first.
        axis: The axis of `tokens` along which they lie.

    Raises:
        TypeError: If it is not a boolean tensor.
        ValueError: If its shape does not fit, or it lies on another device.
    """
    if key_mask is None:
        return
    _require_boolean(key_mask, "key_mask", tokens.device)
    batch, new = tokens.shape[0], tokens.shape[axis]
    if key_mask.shape != (batch, new):
        raise ValueError(
            f"`key_mask` must have one entry for each new token, ({batch}, {new}); got "
            f"{tuple(key_mask.shape)}. The state keeps those of the older ones."
        )


def _require_boolean(mask: Any, name: str, device: torch.device) -> None:
    if not isinstance(mask, torch.Tensor) or mask.dtype is not torch.bool:
        got = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise TypeError(
            f"`{name}` must be a boolean tensor, True where attention is allowed; got {got}. "
            f"Weights are not logits: compare an additive mask with 0 first."
        )
    _require_device(mask, name, device)


def require_mask(
    mask: Any, name: str, shape: tuple[int, ...], device: torch.device, axes: str = ""
) -> None:
    """Refuses what is not a boolean tensor that broadcasts to a shape.

    Args:
        mask: The argument.
        name: Its name.
        shape: What it must broadcast to.
        device: Where it must lie.
        axes: The axes of the shape in words.

    Raises:
        TypeError: If it is not a boolean tensor.
        ValueError: If its shape does not fit, or it lies on another device.
    """
    _require_boolean(mask, name, device)
    try:
        fits = torch.broadcast_shapes(mask.shape, shape) == tuple(shape)
    except RuntimeError:
        fits = False
    if not fits:
        words = f", {axes}" if axes else ""
        raise ValueError(
            f"`{name}` must broadcast to {tuple(shape)}{words}; got {shape_of(mask)}. Add axes of "
            f"size 1 where it is shared."
        )


def _require_device(tensor: Tensor, name: str, device: torch.device) -> None:
    if tensor.device != device:
        raise ValueError(
            f"`{name}` must be on the device of the other tensors, {device}; got {tensor.device}. "
            f"Move it with .to(device)."
        )


def _require_segments(cu_seqlens: Any, query: Tensor, num_keys: int) -> Tensor:
    if not isinstance(cu_seqlens, torch.Tensor):
        raise TypeError(
            f"`cu_seqlens` must be a torch.Tensor; got {type(cu_seqlens).__name__}. Pass the "
            f"cumulative lengths as an int32 or int64 tensor."
        )
    _require_device(cu_seqlens, "cu_seqlens", query.device)
    batch, num_queries = query.shape[0], query.shape[2]
    if batch != 1 or num_queries != num_keys:
        raise ValueError(
            f"`cu_seqlens` needs one packed row with as many queries as keys; got batch {batch}, "
            f"{num_queries} queries and {num_keys} keys. Concatenate the sequences along the "
            f"length."
        )
    if cu_seqlens.dim() != 1 or cu_seqlens.dtype not in {torch.int32, torch.int64}:
        raise ValueError(
            f"`cu_seqlens` must be a one-dimensional int32 or int64 tensor; got shape "
            f"{shape_of(cu_seqlens)} and {cu_seqlens.dtype}. Use torch.cumsum of the lengths."
        )
    if not torch.compiler.is_compiling():
        require_values(cu_seqlens, "cu_seqlens")
        ends = cu_seqlens.tolist()
        rising = all(a <= b for a, b in pairwise(ends))
        if len(ends) < 2 or ends[0] != 0 or ends[-1] != num_keys or not rising:
            raise ValueError(
                f"`cu_seqlens` must rise from 0 to the number of keys, {num_keys}; got {ends}. "
                f"Prepend 0 to the cumulative lengths."
            )
    return segments(cu_seqlens, num_keys)
