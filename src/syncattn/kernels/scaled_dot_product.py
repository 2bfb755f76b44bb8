"""One call of scaled dot product attention for any visibility and any pair of widths."""

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from syncattn._masks import Visibility
from syncattn._typing import Tensor


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
    # The fused backends take one width for all; zero columns change no inner product.
    if value_width > width:
        query, key = (pad(x, (0, value_width - width)) for x in (query, key))
    elif value_width < width:
        value = pad(value, (0, width - value_width))
    return _attend(query, key, value, scale, visibility)[..., :value_width]


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
