"""The tile engine of selective synchronization: one loop forward, one backward, over any tiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch

from syncattn._masks import Visibility
from syncattn._typing import Float, Int, Tensor
from syncattn.kernels.selective_synchronization_tiles import Entries, dense_blocks

__all__ = ["Gradients", "Lock", "Side", "Workspace", "backward", "dense_tiles", "forward"]
__all__ += ["leaf_tiles"]

_CPU_PAIRS = 1 << 18
_ACCELERATOR_PAIRS = 1 << 24


class Lock(NamedTuple):
    """How a squared detuning becomes a strength.

    Attributes:
        smoothing: 0 for the sharp square root; otherwise the strength at which it rounds off.
        edge_floor: Smallest strength that the gradient divides by.
        self_pairs: Query i is key ``i + S - L``, whose squared detuning is exactly 0.
    """

    smoothing: float
    edge_floor: float
    self_pairs: bool


class Side(NamedTuple):
    """The tensors of one pass, all in the accumulation dtype.

    Attributes:
        query: Scaled frequencies of the queries.
        inverse_threshold: 1 / Gamma of each query.
        key: Scaled frequencies of the keys.
        value: Values, with the multiplicity as the last column.
    """

    query: Float[Tensor, "*query_places dim"]
    inverse_threshold: Float[Tensor, "*query_places"]
    key: Float[Tensor, "*key_places dim"]
    value: Float[Tensor, "*key_places value_dim_plus_1"]


class Workspace:
    """Buffers that all tiles of a pass share, because fresh pages cost as much as the work."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._buffers: dict[str, Tensor] = {}

    def get(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Returns an uninitialised tensor, valid until the same name is asked for again."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = self._like.new_empty(size)
        return buffer[:size].view(shape)


class DenseTile(NamedTuple):
    """A rectangle of queries and keys for a range of groups; everything is a view."""

    groups: slice
    queries: slice
    keys: slice
    offset: int
    crossed: bool
    exclude_self: bool
    mask: Tensor | None
    classes: tuple[Tensor, Tensor] | None

    def rows(self, x: Tensor) -> Tensor:
        """Returns the tile's queries, ``(tiles, queries, ...)``."""
        return x[self.groups, self.queries]

    def columns(self, x: Tensor) -> Tensor:
        """Returns the tile's keys, ``(tiles, keys, ...)``."""
        return x[self.groups, self.keys]

    def add_rows(self, total: Tensor, x: Tensor) -> None:
        """Adds to the queries' places."""
        total[self.groups, self.queries].add_(x)

    def add_columns(self, total: Tensor, x: Tensor) -> None:
        """Adds to the keys' places."""
        total[self.groups, self.keys].add_(x)

    @property
    def _diagonal(self) -> int:
        return self.queries.start + self.offset - self.keys.start

    def _own(self, x: Tensor) -> Tensor | None:
        """Returns the view of the pairs of a token with itself; None where there are none."""
        if -x.shape[1] < self._diagonal < x.shape[2]:
            return x.diagonal(self._diagonal, 1, 2)
        return None

    def join_self(self, negative_distance: Tensor) -> None:
        """Sets the squared detuning of a token with itself to 0, in place."""
        if self.classes is not None:
            same = self.rows(self.classes[0])[:, :, None] == self.columns(self.classes[1])[:, None]
            negative_distance.masked_fill_(same, 0.0)
        elif (own := self._own(negative_distance)) is not None:
            own.zero_()

    def hide(self, strength: Tensor, work: Workspace) -> None:
        """Sets the strength of pairs that may not see each other to 0, in place."""
        if self.crossed:
            strength.tril_(self._diagonal)
        if self.exclude_self and (own := self._own(strength)) is not None:
            own.zero_()
        if self.mask is not None:
            strength.mul_(self.mask.to(strength.dtype))


class LeafLayout(NamedTuple):
    """What leaf tiles know about their tokens.

    Attributes:
        position: ``(query_leaves, size)`` place of each query among the keys of the sequence.
        key: ``(key_leaves + 1, size)`` place of each key; the last leaf is empty.
        own_leaf: ``(query_leaves, size)`` key leaf of each query's own token.
        own_slot: ``(query_leaves, size)`` its slot there.
        query_leaves: Query leaves in a group.
        heads: Heads in a batch element.
        visibility: Who may see whom.
    """

    position: Int[Tensor, "query_leaves size"]
    key: Int[Tensor, "key_leaves_plus_1 key_size"]
    own_leaf: Int[Tensor, "query_leaves size"]
    own_slot: Int[Tensor, "query_leaves size"]
    query_leaves: int
    heads: int
    visibility: Visibility


class LeafTile(NamedTuple):
    """Query leaves, each against its own list of key leaves; everything is gathered."""

    leaves: Int[Tensor, " tiles"]
    key_leaves: Int[Tensor, "tiles list"]
    layout: LeafLayout

    def rows(self, x: Tensor) -> Tensor:
        """Returns the tile's queries, ``(tiles, queries, ...)``."""
        return x[self.leaves]

    def columns(self, x: Tensor) -> Tensor:
        """Returns the tile's keys, ``(tiles, keys, ...)``."""
        return x.index_select(0, self.key_leaves.flatten()).reshape(
            len(self.leaves), -1, *x.shape[2:]
        )

    def add_rows(self, total: Tensor, x: Tensor) -> None:
        """Adds to the queries' places."""
        total.index_add_(0, self.leaves, x)

    def add_columns(self, total: Tensor, x: Tensor) -> None:
        """Adds to the keys' places."""
        total.index_add_(0, self.key_leaves.flatten(), x.reshape(-1, *total.shape[1:]))

    def join_self(self, negative_distance: Tensor) -> None:
        """Sets the squared detuning of a token with itself to 0, in place."""
        leaf = self.layout.own_leaf[self.leaves]
        place = torch.searchsorted(self.key_leaves, leaf).clamp_(max=self.key_leaves.shape[1] - 1)
        found = self.key_leaves.gather(1, place) == leaf
        found &= self.layout.position[self.leaves] >= 0
        column = place * self.layout.key.shape[1] + self.layout.own_slot[self.leaves]
        column = column[..., None]
        value = negative_distance.gather(2, column).masked_fill_(found[..., None], 0.0)
        negative_distance.scatter_(2, column, value)

    def hide(self, strength: Tensor, work: Workspace) -> None:
        """Sets the strength of pairs that may not see each other to 0, in place."""
        visibility = self.layout.visibility
        query = self.layout.position[self.leaves][:, :, None]
        key = self.columns(self.layout.key)[:, None, :]
        # A difference of places clamped to 0..1 is the mask itself, several times cheaper on a
        # CPU than a comparison and its conversion; places are exact up to 2**24 tokens.
        mask = work.get("mask", tuple(strength.shape))
        if visibility.is_causal:
            dtype = strength.dtype
            torch.sub((query + 1).to(dtype), key.to(dtype), out=mask)
            strength.mul_(mask.clamp_(0.0, 1.0))
        if visibility.exclude_self:
            strength.mul_((query != key).to(strength.dtype))
        if visibility.segment is not None:
            same = visibility.segment[query] == visibility.segment[key]
            strength.mul_(same.to(strength.dtype))
        if visibility.attn_mask is not None:
            full = visibility.attn_mask
            group = (self.leaves // self.layout.query_leaves)[:, None, None]
            at = (group // self.layout.heads, group % self.layout.heads)
            at += (query - visibility.offset, key)
            at = [i if n > 1 else torch.zeros_like(i) for i, n in zip(at, full.shape, strict=True)]
            strength.mul_(full[at[0], at[1], at[2], at[3]].to(strength.dtype))


Tile = DenseTile | LeafTile


def _pairs_at_once(device: torch.device) -> int:
    return _CPU_PAIRS if device.type == "cpu" else _ACCELERATOR_PAIRS


def dense_tiles(
    visibility: Visibility,
    batch: int,
    heads: int,
    device: torch.device,
    classes: tuple[Tensor, Tensor] | None = None,
) -> Iterator[DenseTile]:
    """Yields tiles over the sequence as it is, several (batch, head) pairs at once if short.

    Args:
        visibility: Who may see whom; a key mask belongs in the multiplicities instead.
        batch: Batch size.
        heads: Number of heads.
        device: Where masks are built; it also decides the size of a tile.
        classes: Numbers of queries and keys, ``(groups, tokens)``: equal numbers are self pairs.
    """
    pairs = _pairs_at_once(device)
    masked = visibility.attn_mask is not None or visibility.segment is not None
    for block in dense_blocks(visibility, math.isqrt(pairs)):
        size = (block.rows.stop - block.rows.start) * (block.columns.stop - block.columns.start)
        for batches, head_range in _group_ranges(batch, heads, max(1, pairs // size)):
            mask = None
            if masked and (block.mixed or visibility.attn_mask is not None):
                part = visibility._replace(is_causal=False, exclude_self=False, key_mask=None)
                mask = part.tile(
                    torch.arange(block.rows.start, block.rows.stop, device=device),
                    torch.arange(block.columns.start, block.columns.stop, device=device),
                    batches,
                    head_range,
                )
            sizes = (batches.stop - batches.start, head_range.stop - head_range.start)
            if mask is not None:
                mask = mask.expand(*sizes, -1, -1).flatten(0, 1)
            start = batches.start * heads + head_range.start
            groups = slice(start, start + sizes[0] * sizes[1])
            yield DenseTile(
                groups,
                block.rows,
                block.columns,
                visibility.offset,
                block.crossed,
                visibility.exclude_self,
                mask,
                classes,
            )


def _group_ranges(batch: int, heads: int, at_once: int) -> Iterator[tuple[slice, slice]]:
    """Yields rectangles of batch elements and heads that together cover all groups."""
    step = max(1, at_once // heads)
    head_step = min(heads, at_once)
    for b in range(0, batch, step):
        for h in range(0, heads, head_step):
            yield slice(b, min(b + step, batch)), slice(h, min(h + head_step, heads))


def leaf_tiles(entries: Entries, visibility: Visibility, heads: int) -> list[LeafTile]:
    """Returns tiles over the live leaves, batched so that lists of like length go together.

    Args:
        entries: The live leaves.
        visibility: Who may see whom; a key mask belongs in the multiplicities instead.
        heads: Number of heads in a batch element.
    """
    queries, keys = entries.queries, entries.keys
    size, device = keys.size, entries.row.device
    groups = torch.arange(queries.index.shape[0], device=device)[:, None]
    place = keys.place.gather(1, (queries.index + visibility.offset).clamp(min=0))
    empty = keys.index.new_zeros(1, size)
    layout = LeafLayout(
        (queries.index + visibility.offset).reshape(-1, queries.size),
        torch.cat([keys.index.reshape(-1, size), empty]),
        (place // size + groups * keys.leaves).reshape(-1, queries.size),
        (place % size).reshape(-1, queries.size),
        queries.leaves,
        heads,
        visibility,
    )
    count = torch.bincount(entries.row, minlength=len(layout.position))
    start = count.cumsum(0) - count
    longest_first = count.argsort(descending=True, stable=True)
    counts: list[int] = count[longest_first].tolist()
    tiles: list[LeafTile] = []
    top, pairs = 0, _pairs_at_once(device)
    while top < len(counts) and counts[top] > 0:
        at_once = max(1, pairs // (counts[top] * size * queries.size))
        leaves = longest_first[top : top + at_once]
        step = torch.arange(counts[top], device=device)
        listed = step < count[leaves][:, None]
        at = (start[leaves][:, None] + step).clamp_(max=len(entries.column) - 1)
        # The empty leaf comes last, so that lists stay ascending for the search of self pairs.
        key_leaves = torch.where(listed, entries.column[at], len(layout.key) - 1)
        tiles.append(LeafTile(leaves, key_leaves, layout))
        top += at_once
    return tiles


def _negative_distance(query: Tensor, key: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Writes minus the squared distances; returns the points as centred for them.

    Centring on each block of queries keeps far tokens, such as late positions, from cancelling.
    """
    centre = query.mean(1, keepdim=True)
    query, key = query - centre, key - centre
    left = torch.cat([2 * query, query.square().sum(-1, keepdim=True), query[..., :1]], -1)
    right = torch.cat([key, key[..., :1], key.square().sum(-1, keepdim=True)], -1)
    left[..., -2].neg_()
    left[..., -1].fill_(-1.0)
    right[..., -2].fill_(1.0)
    torch.bmm(left, right.mT, out=out)
    return query, key


def _excess(y: Tensor, g: Tensor, coupling: Tensor, out: Tensor) -> Tensor:
    """Writes the squared strength ``exp(y) + g y``, at least a number that roots exactly.

    The exponent is clamped and the result floored because both library routines leave their
    fast path by a factor of 50, exp where it underflows and sqrt at exact zeros.
    """
    lowest, floor = (-700.0, 2.0**-1000) if y.dtype == torch.float64 else (-83.5, 2.0**-120)
    y.clamp_(lowest, 0.0)
    torch.exp(y, out=coupling)
    torch.mul(y, g, out=out)
    return out.add_(coupling).clamp_(min=floor)


def _strength(excess: Tensor, lock: Lock) -> Tensor:
    """Turns the squared strength into the strength, in place; the floor becomes exactly 0."""
    floor = 2.0**-1000 if excess.dtype == torch.float64 else 2.0**-120
    if lock.smoothing == 0:
        return torch.nn.functional.threshold_(excess.sqrt_(), math.sqrt(floor), 0.0)
    d = lock.smoothing
    # (sqrt(q + d d) - d) / (sqrt(1 + d d) - d) without the cancellation at small q.
    torch.nn.functional.threshold_(excess, floor, 0.0)
    root = excess.add(d * d).sqrt_().add_(d)
    return excess.mul_(math.sqrt(1 + d * d) + d).div_(root).clamp_(max=1.0)


def _divide_by_slope(gradient: Tensor, strength: Tensor, lock: Lock) -> None:
    """Multiplies by twice the derivative of the strength by its square, in place.

    Outside the support, and at a squared detuning of 0 where the geometry has no gradient, the
    result is exactly 0. The strength is overwritten.
    """
    # The gate is 1 for strengths strictly between 0 and 1.
    torch.ops.aten.hardtanh_backward(gradient, strength, 0.0, 1.0, grad_input=gradient)
    if lock.smoothing == 0:
        gradient.div_(strength.clamp_(min=lock.edge_floor))
        return
    d = lock.smoothing
    scale = math.sqrt(1 + d * d) - d
    # sqrt(q + d d) is the strength put back on its scale.
    gradient.div_(strength.mul_(scale).add_(d).mul_(scale))


def forward(
    side: Side, tiles: Iterable[Tile], lock: Lock, *, weighted: bool = True
) -> tuple[Float[Tensor, "*query_places value_dim"], Float[Tensor, "*query_places"]]:
    """Returns the sums of strengths times values and of strengths times multiplicities.

    Args:
        side: The tensors of the pass.
        tiles: The pairs to compute, each at most once.
        lock: How a squared detuning becomes a strength.
        weighted: False if all multiplicities are 1.
    """
    work = Workspace(side.query)
    width = side.value.shape[-1] - 1
    sums = side.query.new_zeros(*side.query.shape[:-1], width)
    total = torch.zeros_like(side.inverse_threshold)
    for tile in tiles:
        query, key = tile.rows(side.query), tile.columns(side.key)
        shape = (len(query), query.shape[1], key.shape[1])
        y, coupling = work.get("y", shape), work.get("coupling", shape)
        _negative_distance(query, key, y)
        if lock.self_pairs:
            tile.join_self(y)
        g = tile.rows(side.inverse_threshold)[..., None]
        strength = _strength(_excess(y, g, coupling, y), lock)
        tile.hide(strength, work)
        value = tile.columns(side.value)
        tile.add_rows(sums, torch.bmm(strength, value[..., :-1]))
        tile.add_rows(
            total,
            torch.bmm(strength, value[..., -1:])[..., 0] if weighted else strength.sum(-1),
        )
    return sums, total


class Gradients(NamedTuple):
    """The gradients of one pass; None where it was not asked for."""

    query: Tensor | None
    inverse_threshold: Tensor | None
    key: Tensor | None
    value: Tensor | None


def backward(
    side: Side,
    weight: Float[Tensor, "*query_places value_dim_plus_1"],
    tiles: Iterable[Tile],
    lock: Lock,
    *,
    points: bool = True,
    threshold: bool = True,
    values: bool = True,
) -> Gradients:
    """Recomputes the strengths of each tile and returns the gradients of the forward sums.

    Args:
        side: The tensors of the forward pass.
        weight: Gradient of the sums; its last column that of the total.
        tiles: The pairs to compute, each at most once.
        lock: How a squared detuning becomes a strength.
        points: Whether the gradients of query and key are wanted.
        threshold: Whether that of the inverse threshold is.
        values: Whether that of the values is.
    """
    work = Workspace(side.query)
    d_query = torch.zeros_like(side.query) if points else None
    d_key = torch.zeros_like(side.key) if points else None
    d_threshold = torch.zeros_like(side.inverse_threshold) if threshold else None
    d_value = side.value.new_zeros(*side.value.shape[:-1], side.value.shape[-1] - 1)
    for tile in tiles:
        query, key = tile.rows(side.query), tile.columns(side.key)
        shape = (len(query), query.shape[1], key.shape[1])
        y, coupling = work.get("y", shape), work.get("coupling", shape)
        query, key = _negative_distance(query, key, y)
        if lock.self_pairs:
            tile.join_self(y)
        g = tile.rows(side.inverse_threshold)[..., None]
        strength = _strength(_excess(y, g, coupling, work.get("strength", shape)), lock)
        tile.hide(strength, work)
        row_weight = tile.rows(weight)
        if values:
            tile.add_columns(d_value, torch.bmm(strength.mT, row_weight[..., :-1]))
        if not (points or threshold):
            continue
        gradient = work.get("gradient", shape)
        torch.bmm(row_weight, tile.columns(side.value).mT, out=gradient)
        _divide_by_slope(gradient, strength, lock)
        if d_threshold is not None:
            tile.add_rows(d_threshold, torch.mul(gradient, y, out=y).sum(-1).mul_(0.5))
        if d_query is not None and d_key is not None:
            gradient.mul_(coupling.add_(g))
            rows, columns = gradient.sum(-1), gradient.sum(-2)
            tile.add_rows(
                d_query, torch.bmm(gradient, key).addcmul_(query, rows[..., None], value=-1)
            )
            tile.add_columns(
                d_key, torch.bmm(gradient.mT, query).addcmul_(key, columns[..., None], value=-1)
            )
    return Gradients(d_query, d_threshold, d_key, d_value if values else None)
