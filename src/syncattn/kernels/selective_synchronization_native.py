"""Selective synchronization through the compiled sums over pairs."""

from __future__ import annotations

import torch

from syncattn._masks import Visibility
from syncattn._typing import Float, Tensor
from syncattn.kernels.native import Blocks, Kind, fits, pair_gradients, pair_sums
from syncattn.kernels.selective_synchronization_engine import Gradients, Lock, Side
from syncattn.kernels.selective_synchronization_pairs import Arrangement, Entries

__all__ = ["fits_native", "native_gradients", "native_sums"]


def fits_native(side: Side, visibility: Visibility, lock: Lock) -> bool:
    """Returns whether a call can go through the compiled sums.

    Args:
        side: The tensors of the pass.
        visibility: Who may see whom.
        lock: How a squared detuning becomes a strength; equal keys of a top-k must tie exactly,
            which a vectorised loop with ends does not promise.
    """
    return lock.top_k is None and fits(side.query, side.value, visibility)


def native_sums(
    side: Side, visibility: Visibility, lock: Lock, entries: Entries | None = None
) -> tuple[Tensor, Tensor]:
    """Returns the forward sums, ``(groups, queries, value_dim)`` and ``(groups, queries)``.

    Args:
        side: The tensors of the pass.
        visibility: Who may see whom; padding is in the multiplicities.
        lock: How a squared detuning becomes a strength.
        entries: The live leaves; all pairs when None.
    """
    side, blocks = _arranged(side, visibility, entries)
    value, count = side.value[..., :-1], side.value[..., -1]
    sums, total = pair_sums(
        side.query, side.key, value, _kind(lock), visibility,
        threshold=side.inverse_threshold, count=count, blocks=blocks,
    )  # fmt: skip
    if entries is None:
        return sums, total
    return _put(entries.queries, sums), _put(entries.queries, total)


def native_gradients(
    side: Side,
    weight: Float[Tensor, "groups queries value_dim_plus_1"],
    visibility: Visibility,
    lock: Lock,
    entries: Entries | None = None,
    *,
    points: bool = True,
    threshold: bool = True,
    values: bool = True,
) -> Gradients:
    """Returns the gradients of the forward sums.

    Args:
        side: The tensors of the forward pass.
        weight: Gradient of the sums; its last column that of the total.
        visibility: Who may see whom.
        lock: How a squared detuning becomes a strength.
        entries: The live leaves; all pairs when None.
        points: Whether the gradients of query and key are wanted.
        threshold: Whether that of the inverse threshold is.
        values: Whether that of the values is.
    """
    if entries is not None:
        # Copies of a query that fill its leaf must add nothing to the keys.
        queries = entries.queries
        weight = (queries.take(weight) * queries.weights()).flatten(1, 2)
    side, blocks = _arranged(side, visibility, entries)
    value, count = side.value[..., :-1], side.value[..., -1]
    result = pair_gradients(
        side.query, side.key, value, weight, _kind(lock), visibility,
        threshold=side.inverse_threshold, count=count, blocks=blocks,
        points=points, values=values, thresholds=threshold,
    )  # fmt: skip
    gradients = Gradients(result.row, result.threshold, result.column, result.value)
    if entries is None:
        return gradients
    queries, keys = entries.queries, entries.keys
    orders = (queries, queries, keys, keys)
    put = [None if g is None else _put(at, g) for g, at in zip(gradients, orders, strict=True)]
    return Gradients(*put)


def _kind(lock: Lock) -> Kind:
    return Kind(
        "distance",
        smoothing=lock.smoothing,
        edge_floor=lock.edge_floor,
        join_self=lock.self_pairs,
    )


def _put(order: Arrangement, x: Tensor) -> Tensor:
    return order.put(x.unflatten(1, (order.leaves, order.size)))


def _arranged(
    side: Side, visibility: Visibility, entries: Entries | None
) -> tuple[Side, Blocks | None]:
    """Returns the operands in the order of the leaves, and which leaves meet."""
    if entries is None:
        return side, None
    queries, keys = entries.queries, entries.keys
    panels = len(side.query) * queries.leaves
    count = torch.bincount(entries.row, minlength=panels)
    start = torch.cat([count.new_zeros(1), count.cumsum(0)])
    blocks = Blocks(
        queries.token + visibility.offset,
        torch.where(keys.real, keys.token, -1),
        start,
        entries.column % keys.leaves,
        queries.size,
        keys.size,
    )
    arranged = Side(
        queries.take(side.query).flatten(1, 2),
        queries.take(side.inverse_threshold).flatten(1, 2),
        keys.take(side.key).flatten(1, 2),
        keys.take(side.value).flatten(1, 2),
    )
    return arranged, blocks
