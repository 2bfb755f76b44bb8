"""Selective synchronization of sequences with repeats: equal queries and equal keys, once each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from syncattn._masks import Visibility
from syncattn._typing import Float, Int, Tensor
from syncattn.kernels.selective_synchronization_engine import (
    Gradients,
    Lock,
    Side,
    backward,
    forward,
)
from syncattn.kernels.selective_synchronization_pairs import equality_classes
from syncattn.kernels.selective_synchronization_tiles import Tile, dense_tiles

__all__ = ["Repeats", "compress"]


class Repeats(NamedTuple):
    """Equal queries and equal keys, each represented once.

    Attributes:
        full: The operands as they came.
        short: The representatives; values and multiplicities are sums over each class.
        queries: ``(groups, queries)`` class of each query.
        keys: ``(groups, keys)`` class of each key.
        own: ``(groups, queries)`` class of each query's own key; -1 where there is none.
        class_own: ``(groups, query_classes)`` the same for each class.
    """

    full: Side
    short: Side
    queries: Int[Tensor, "groups queries"]
    keys: Int[Tensor, "groups keys"]
    own: Int[Tensor, "groups queries"]
    class_own: Int[Tensor, "groups query_classes"]

    def _numbers(self) -> Tensor:
        groups, count = self.short.key.shape[:2]
        return torch.arange(count, device=self.keys.device).expand(groups, -1)

    def sums(self, lock: Lock) -> tuple[Tensor, Tensor]:
        """Returns the forward sums of every query.

        Args:
            lock: How a squared detuning becomes a strength.
        """
        tiles = _tiles(self.short, self.class_own, self._numbers())
        sums, total = forward(self.short, tiles, lock)
        index = self.queries[..., None].expand(-1, -1, sums.shape[-1])
        return sums.gather(1, index), total.gather(1, self.queries)

    def gradients(
        self,
        weight: Float[Tensor, "groups queries value_dim_plus_1"],
        lock: Lock,
        *,
        points: bool,
        values: bool,
        threshold: bool,
    ) -> Gradients:
        """Returns the gradients of every row, from two passes of one compressed side each.

        Members of a class share their strengths but not their values or incoming gradients, in
        both of which a strength's gradient is linear: so queries may be compressed for the
        gradients of the keys, and keys for those of the queries, but not both at once.

        Args:
            weight: Gradient of the sums; its last column that of the total.
            lock: How a squared detuning becomes a strength.
            points: Whether the gradients of query and key are wanted.
            values: Whether that of the values is.
            threshold: Whether that of the inverse threshold is.
        """
        full, short = self.full, self.short
        by_query = Side(full.query, full.inverse_threshold, short.key, short.value)
        tiles = _tiles(by_query, self.own, self._numbers())
        rows = backward(
            by_query, weight, tiles, lock, points=points, threshold=threshold, values=False
        )
        by_key = Side(short.query, short.inverse_threshold, full.key, full.value)
        tiles = _tiles(by_key, self.class_own, self.keys)
        summed = _class_sums(weight, self.queries, short.query.shape[1])
        columns = backward(
            by_key, summed, tiles, lock, points=points, threshold=False, values=values
        )
        return Gradients(rows.query, rows.inverse_threshold, columns.key, columns.value)


def compress(side: Side) -> Repeats:
    """Finds the classes of a call whose queries are the last of its keys.

    Args:
        side: The operands, ``(groups, tokens, ...)``.
    """
    thresholds = side.inverse_threshold[..., None]
    queries, num_queries = equality_classes(torch.cat([side.query, thresholds], -1))
    keys, num_keys = equality_classes(side.key)
    position = torch.arange(queries.shape[1], device=queries.device)
    position = position + keys.shape[1] - queries.shape[1]
    own = keys[:, position.clamp(min=0)].masked_fill(position < 0, -1)
    class_own = own.new_full((len(own), num_queries), -1).scatter_(1, queries, own)
    short = Side(
        _representatives(side.query, queries, num_queries),
        _representatives(side.inverse_threshold, queries, num_queries),
        _representatives(side.key, keys, num_keys),
        _class_sums(side.value, keys, num_keys),
    )
    return Repeats(side, short, queries, keys, own, class_own)


def _tiles(side: Side, query_class: Tensor, key_class: Tensor) -> Iterable[Tile]:
    groups, num_queries = side.inverse_threshold.shape
    visibility = Visibility(num_queries, side.key.shape[1])
    return dense_tiles(visibility, groups, 1, side.query.device, (query_class, key_class))


def _representatives(x: Tensor, classes: Tensor, count: int) -> Tensor:
    """Returns one member of each class, ``(groups, classes, ...)``."""
    member = classes.new_zeros(len(x), count)
    members = torch.arange(x.shape[1], device=x.device).expand_as(classes)
    member.scatter_(1, classes, members)
    member = member.reshape(member.shape + (1,) * (x.dim() - 2))
    return x.gather(1, member.expand(member.shape[:2] + x.shape[2:]))


def _class_sums(x: Tensor, classes: Tensor, count: int) -> Tensor:
    """Returns the sum over each class, ``(groups, classes, ...)``."""
    sums = x.new_zeros(len(x), count, x.shape[-1])
    return sums.scatter_add_(1, classes[..., None].expand_as(x), x)
