"""Softmax of scores that cannot be large: sums of bare exponentials, by the compiled passes."""

from __future__ import annotations

from typing import Any

import torch

from syncattn._masks import Visibility
from syncattn._typing import Tensor
from syncattn.kernels.first_order import first_order
from syncattn.kernels.native import Kind, fits, pair_gradients, pair_sums
from syncattn.kernels.scaled_dot_product import SHORT, by_products

__all__ = ["LARGEST", "attend_bounded", "is_bounded", "pays"]

LARGEST = 60.0
"""Largest score whose exponential, summed and divided by, stays far inside float32."""


class _Mean(torch.autograd.Function):
    """The sums over the total, with the gradients of both passed to one pass."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, visibility: Visibility
    ) -> Tensor:
        """Returns the mean values."""
        seen, count = visibility._replace(key_mask=None), _count(visibility, query.shape[1])
        groups = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
        kind = Kind("exponential", scale=scale)
        sums, total = pair_sums(*groups, kind, seen, count=count)
        inverse = torch.where(total > 0, 1.0 / torch.where(total > 0, total, 1.0), 0.0)[..., None]
        mean = sums.mul_(inverse)
        ctx.kind, ctx.seen, ctx.count = kind, seen, count
        ctx.save_for_backward(*groups, mean, inverse)
        return mean.unflatten(0, query.shape[:2])

    @staticmethod
    @first_order
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Returns the gradients of queries, keys and values."""
        query, key, value, mean, inverse = ctx.saved_tensors
        shape = gradients[0].shape[:2]
        per_sum = gradients[0].flatten(0, 1) * inverse
        per_total = (per_sum * mean).sum(-1, keepdim=True).neg_()
        points = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        found = pair_gradients(
            query, key, value, torch.cat([per_sum, per_total], -1), ctx.kind, ctx.seen,
            count=ctx.count, points=points, values=ctx.needs_input_grad[2],
        )  # fmt: skip
        wanted = (found.row, found.column, found.value)
        return *(None if g is None else g.unflatten(0, shape) for g in wanted), None, None


def pays(query_width: int, value_width: int, visibility: Visibility, *, recorded: bool) -> bool:
    """Returns whether the sums are expected to beat SDPA, which pads wide values and holds masks.

    Args:
        query_width: Columns of queries and keys.
        value_width: Columns of values.
        visibility: Who sees whom.
        recorded: Whether gradients are going to be asked for.
    """
    if by_products(query_width, value_width, visibility, torch.device("cpu")):
        return False
    if value_width > query_width or not visibility._replace(is_causal=False).everything:
        return True
    return visibility.is_causal and visibility.num_queries > SHORT and not recorded


def is_bounded(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float, visibility: Visibility
) -> bool:
    r"""Returns whether :math:`s |q| |k|` never exceeds `LARGEST` and the passes take the call.

    Args:
        query: ``(batch, heads, queries, dim)``.
        key: ``(batch, heads, keys, dim)``.
        value: ``(batch, heads, keys, value_dim)``.
        scale: Factor of the inner product.
        visibility: Who sees whom.
    """
    if not fits(query, value, visibility):
        return False
    with torch.no_grad():
        norms = [torch.linalg.vector_norm(x, dim=-1).amax() for x in (query, key)]
        return abs(scale) * (norms[0] * norms[1]).item() <= LARGEST


def attend_bounded(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float, visibility: Visibility
) -> Tensor:
    """Returns the softmax mean of the values; 0 in rows that see nothing.

    No maximum is subtracted, so blocks add up as they come, and queries may be narrower than
    values without columns of zeros.

    Args:
        query: ``(batch, heads, queries, dim)``; together with the others, `is_bounded`.
        key: ``(batch, heads, keys, dim)``.
        value: ``(batch, heads, keys, value_dim)``.
        scale: Factor of the inner product.
        visibility: Who sees whom.

    Returns:
        ``(batch, heads, queries, value_dim)``.
    """
    if visibility.key_mask is not None:
        # The sums know padding by its count, which the total alone looks at.
        value = torch.where(visibility.key_mask[:, None, :, None], value, 0.0)
    mean: Any = _Mean.apply(query, key, value, scale, visibility)
    return mean


def _count(visibility: Visibility, heads: int) -> Tensor | None:
    """Returns how often each key counts in each group: not at all where it is padding."""
    if visibility.key_mask is None:
        return None
    return visibility.key_mask[:, None].expand(-1, heads, -1).float().flatten(0, 1)
