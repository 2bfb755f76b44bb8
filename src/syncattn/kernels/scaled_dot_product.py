"""One call of scaled dot product attention for any visibility and any pair of widths."""

from __future__ import annotations

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from syncattn._masks import Visibility
from syncattn._typing import Tensor

SHORT = 256
"""Longest sequence whose weights the CPU may hold: two products then beat padded columns."""


def by_products(
    query_width: int, value_width: int, visibility: Visibility, device: torch.device
) -> bool:
    """Tells whether a short causal call with wide values is faster with its weights in memory.

    Args:
        query_width: Columns of queries and keys.
        value_width: Columns of values.
        visibility: Who sees whom.
        device: Where they are.
    """
    square = visibility.num_queries == visibility.num_keys <= SHORT
    plain = visibility._replace(is_causal=False).everything and visibility.is_causal
    wide = value_width > query_width
    return wide and square and plain and device.type == "cpu"


def widths(
    query_width: int, value_width: int, visibility: Visibility, device: torch.device
) -> tuple[int, int]:
    """Returns the widths, zeros at the end included, that `attend` takes without a copy.

    Args:
        query_width: Columns of queries and keys.
        value_width: Columns of values.
        visibility: Who sees whom.
        device: Where they are.

    Returns:
        The widths of queries and keys, and of values.
    """
    if by_products(query_width, value_width, visibility, device):
        return query_width, value_width
    # The fused backends take one width for all; zero columns change no inner product.
    widest = max(query_width, value_width)
    return widest, widest


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float, visibility: Visibility
) -> Tensor:
    """Returns the softmax mean of the values; 0 in rows that see nothing.

    Args:
        query: ``(batch, heads, queries, dim)``.
        key: ``(batch, heads, keys, dim)``.
        value: ``(batch, heads, keys, value_dim)``.
        scale: Factor of the inner product.
        visibility: Who sees whom.

    Returns:
        ``(batch, heads, queries, value_dim)``.
    """
    width, value_width = query.shape[-1], value.shape[-1]
    if by_products(width, value_width, visibility, query.device):
        return _products(query, key, value, scale)
    if value_width > width:
        query, key = (pad(x, (0, value_width - width)) for x in (query, key))
    elif value_width < width:
        value = pad(value, (0, width - value_width))
    return _attend(query, key, value, scale, visibility)[..., :value_width]


def masked_softmax(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Returns the weights of every row; 0 where it sees nothing.

    Args:
        logits: ``(..., queries, keys)``.
        mask: True where a query sees a key, broadcastable to the logits; None for everywhere.
    """
    if mask is None:
        return logits.softmax(-1)
    some = mask.any(-1, keepdim=True)
    weights = torch.where(mask | ~some, logits, -torch.inf).softmax(-1)
    return torch.where(mask, weights, 0.0)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, scale: float, visibility: Visibility
) -> Tensor:
    ordered = (
        visibility.is_causal and visibility._replace(is_causal=False, exclude_self=False).everything
    )
    square = visibility.num_queries == visibility.num_keys
    if visibility.everything or (ordered and visibility.num_queries == 1):
        strict = visibility.is_causal and visibility.exclude_self
        key, value = (x[..., : x.shape[-2] - strict, :] for x in (key, value))
        if key.shape[-2] == 0:
            return torch.zeros_like(query)
        return scaled_dot_product_attention(query, key, value, scale=scale)
    if ordered and square:
        if not visibility.exclude_self:
            return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
        if visibility.num_queries == 1:
            return torch.zeros_like(query)
        # Strictly before t among t's own row is causal one row up; the first row sees nothing.
        out = scaled_dot_product_attention(
            query[..., 1:, :], key[..., :-1, :], value[..., :-1, :], is_causal=True, scale=scale
        )
        return pad(out, (0, 0, 1, 0))
    mask = visibility.dense(query.device)
    assert mask is not None
    some = mask.any(-1, keepdim=True)
    out = scaled_dot_product_attention(query, key, value, attn_mask=mask | ~some, scale=scale)
    return torch.where(some, out, 0.0)


def _products(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    length = query.shape[-2]
    future = query.new_full((length, length), -torch.inf).triu(1)
    query, key, values = (x.flatten(0, -3) for x in (query, key, value))
    logits = torch.baddbmm(future.expand(query.shape[0], -1, -1), query, key.mT, alpha=scale)
    return (logits.softmax(-1) @ values).view(*value.shape)
