"""Tiles of selective synchronization: batches of pairs, as views of the sequence or gathered."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch

from syncattn._masks import Visibility
from syncattn._typing import Int, Tensor
from syncattn.kernels.selective_synchronization_pairs import (
    Entries,
    dense_blocks,
    row_blocks,
)

__all__ = ["DenseTile", "LeafTile", "Tile", "Workspace", "dense_tiles", "leaf_tiles"]

_CPU_PAIRS = 1 << 18
_ACCELERATOR_PAIRS = 1 << 24


class Workspace:
    """Buffers that all tiles of a pass share, because fresh pages cost as much as the work."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._buffers: dict[str, Tensor] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
        """Returns an uninitialised tensor, valid until the same name is asked for again."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = self._like.new_empty(size, dtype=dtype)
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

    def key_places(self, device: torch.device) -> Tensor:
        """Returns the place of each key in the sequence, ``(1, keys)``."""
        return torch.arange(self.keys.start, self.keys.stop, device=device)[None]

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
        rows = self.key_leaves.shape[1] * x.shape[1]
        return x.index_select(0, self.key_leaves.flatten()).reshape(
            len(self.leaves), rows, *x.shape[2:]
        )

    def key_places(self, device: torch.device) -> Tensor:
        """Returns the place of each key in the sequence, ``(tiles, keys)``."""
        return self.columns(self.layout.key)

    def add_rows(self, total: Tensor, x: Tensor) -> None:
        """Adds to the queries' places."""
        total.index_add_(0, self.leaves, x)

    def add_columns(self, total: Tensor, x: Tensor) -> None:
        """Adds to the keys' places."""
        total.index_add_(0, self.key_leaves.flatten(), x.reshape(-1, *total.shape[1:]))

    def join_self(self, negative_distance: Tensor) -> None:
        """Sets the squared detuning of a token with itself to 0, in place."""
        leaf = self.layout.own_leaf[self.leaves]
        # A token's own leaf is always listed, so the search finds it.
        place = torch.searchsorted(self.key_leaves, leaf)
        column = place * self.layout.key.shape[1] + self.layout.own_slot[self.leaves]
        row = torch.arange(column.numel(), device=column.device) * negative_distance.shape[-1]
        cell = row + column.flatten()
        if self.layout.visibility.offset < 0:
            cell = cell[self.layout.position[self.leaves].flatten() >= 0]
        negative_distance.view(-1).index_fill_(0, cell, 0.0)

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
    *,
    whole_rows: bool = False,
) -> Iterator[DenseTile]:
    """Yields tiles over the sequence as it is, several (batch, head) pairs at once if short.

    Args:
        visibility: Who may see whom; a key mask belongs in the multiplicities instead.
        batch: Batch size.
        heads: Number of heads.
        device: Where masks are built; it also decides the size of a tile.
        classes: Numbers of queries and keys, ``(groups, tokens)``: equal numbers are self pairs.
        whole_rows: Whether each tile holds all visible keys of its queries.
    """
    pairs = _pairs_at_once(device)
    masked = visibility.attn_mask is not None or visibility.segment is not None
    blocks = row_blocks(visibility, pairs) if whole_rows else None
    for block in blocks or dense_blocks(visibility, math.isqrt(pairs)):
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
    groups = torch.arange(queries.token.shape[0], device=device)[:, None]
    place = keys.place.gather(1, (queries.token + visibility.offset).clamp(min=0))
    empty = keys.token.new_zeros(1, size)
    layout = LeafLayout(
        (queries.token + visibility.offset).reshape(-1, queries.size),
        torch.cat([keys.token.reshape(-1, size), empty]),
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
