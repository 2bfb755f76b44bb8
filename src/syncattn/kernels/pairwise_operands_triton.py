"""The operands of sums over pairs through Triton: checked, blanked, and in leaves when pruned."""

from __future__ import annotations

import torch

from syncattn._masks import Visibility
from syncattn._typing import Tensor
from syncattn.kernels.pairwise_launch_triton import (
    KINDS,
    WIDEST_POINT,
    WIDEST_VALUE,
    Pairs,
    View,
    arranged_view,
    view_of,
)
from syncattn.kernels.selective_synchronization_pairs import (
    Arrangement,
    Entries,
    cutoff,
    live_leaves,
)

__all__ = ["chunks", "dense_last", "pairs_of", "put", "take"]

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_MOST_TOKENS = 2**31 - 2**16


def _require(row: Tensor, column: Tensor, value: Tensor, kind: str, power: int) -> None:
    """Refuses what the kernels cannot take.

    Raises:
        TypeError: If dtypes are others.
        ValueError: If a width or a length does not fit, or there is no such kind.
    """
    if row.dtype not in _FLOATS or column.dtype != row.dtype or value.dtype not in _FLOATS:
        raise TypeError(
            f"`row` and `column` must share one of float32, bfloat16 and float16, and `value` be "
            f"one of them; got {row.dtype}, {column.dtype} and {value.dtype}. Convert them, or use "
            f"another backend."
        )
    if row.shape[-1] > WIDEST_POINT:
        raise ValueError(
            f"`row` must be at most {WIDEST_POINT} wide; got {row.shape[-1]}. Use more heads, or "
            f"another backend."
        )
    if max(row.shape[2], column.shape[2]) > _MOST_TOKENS:
        raise ValueError(
            f"`row` and `column` must hold at most {_MOST_TOKENS} tokens; got {row.shape[2]} and "
            f"{column.shape[2]}. Split the sequence."
        )
    tokens = min(row.shape[:3].numel(), value.shape[:3].numel())
    if tokens > 0 and min(row.shape[-1], value.shape[-1]) == 0:
        raise ValueError(
            f"`row` and `value` must be at least 1 wide; got {row.shape[-1]} and "
            f"{value.shape[-1]}. Use another backend."
        )
    if kind not in KINDS or power not in {1, 2, 4}:
        raise ValueError(
            f"`kind` must be one of {', '.join(KINDS)} and `power` 1, 2 or 4; got {kind!r} and "
            f"{power}. Use another backend for others."
        )


def dense_last(x: Tensor) -> Tensor:
    """Returns a tensor whose last axis is dense, the same where it is already.

    Args:
        x: Any tensor.
    """
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def pairs_of(
    row: Tensor,
    column: Tensor,
    value: Tensor,
    threshold: Tensor | None,
    stretch: Tensor | None,
    sink: Tensor | None,
    key_mask: Tensor | None,
    segment: Tensor | None,
    is_causal: bool,
    exclude_self: bool,
    join_self: bool,
    kind: str,
    scale: float,
    power: int,
    smoothing: float,
    edge_floor: float,
    pruned: bool,
) -> tuple[Pairs, Entries | None]:
    """Returns the operands of the kernels, in leaves if pruned; arguments are the operator's."""
    _require(row, column, value, kind, power)
    visibility = Visibility(
        row.shape[2], column.shape[2], is_causal, key_mask, segment, None, exclude_self
    )
    if threshold is not None:
        # An infinite inverse threshold would give 0 times infinity at equal frequencies.
        threshold = threshold.float().clamp(0.0, 1e30).contiguous()
    entries, view = None, View()
    if min(row.numel(), column.numel(), value.numel()) > 0:
        if pruned and kind == "distance" and threshold is not None and stretch is not None:
            entries = _entries(row, column, threshold, stretch, visibility)
            view = arranged_view(visibility, entries)
            heads = row.shape[:2]
            row, column, value, threshold = (
                order.take(x.flatten(0, 1)).flatten(1, 2).unflatten(0, heads)
                for order, x in (
                    (entries.queries, row),
                    (entries.keys, column),
                    (entries.keys, value),
                    (entries.queries, threshold),
                )
            )
        else:
            view = view_of(visibility, row.device)
    row, column, value = (dense_last(x) for x in (row, column, value))
    stretch = None if stretch is None else stretch.float().contiguous()
    sink = None if sink is None else sink.float().contiguous()
    pairs = Pairs(
        row, column, value, threshold, stretch, sink, view, kind, scale, power, smoothing,
        edge_floor, join_self,
    )  # fmt: skip
    return pairs, entries


def _entries(
    row: Tensor, column: Tensor, threshold: Tensor, stretch: Tensor, visibility: Visibility
) -> Entries:
    root = stretch.float().sqrt()[:, None, None]
    column = column.float()
    if visibility.key_mask is not None:
        column = torch.where(visibility.key_mask[:, None, :, None], column, 0.0)
    query, key = ((root * x.float()).flatten(0, 1) for x in (row, column))
    radius = cutoff(threshold).sqrt().flatten(0, 1)
    return live_leaves(query, key, radius, visibility, method="pruned", coordinate=0)


def chunks(pairs: Pairs, *others: Tensor) -> list[tuple[Tensor, ...]]:
    """Returns values and what lies beside them in pieces that a kernel can hold.

    Args:
        pairs: The operands.
        *others: Tensors as wide as the values.
    """
    tensors = (pairs.value, *others)
    return list(zip(*(x.split(WIDEST_VALUE, -1) for x in tensors), strict=True))


def put(order: Arrangement, x: Tensor) -> Tensor:
    """Returns rows of leaves in the order of the tokens, ``(batch, heads, tokens, ...)``.

    Args:
        order: The leaves.
        x: ``(batch, heads, places, ...)``.
    """
    heads = x.shape[:2]
    flat = x.flatten(0, 1).unflatten(1, (order.leaves, order.size))
    return order.put(flat).unflatten(0, heads)


def take(order: Arrangement, x: Tensor) -> Tensor:
    """Returns rows in leaves, 0 in the copies that fill them.

    Args:
        order: The leaves.
        x: ``(batch, heads, tokens)`` or ``(batch, heads, tokens, width)``.
    """
    real = order.weights()
    heads = x.shape[:2]
    taken = order.take(x.flatten(0, 1))
    weight = real if taken.dim() == 4 else real[..., 0]
    return (taken * weight.to(taken.dtype)).flatten(1, 2).unflatten(0, heads).contiguous()
