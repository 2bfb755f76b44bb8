"""Which pairs of selective synchronization are computed: cutoff, orders and live leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch

from syncattn._masks import Visibility
from syncattn._typing import Bool, Float, Int, Tensor

__all__ = [
    "LEAF",
    "Arrangement",
    "DenseBlock",
    "Entries",
    "Method",
    "cutoff",
    "dense_blocks",
    "equality_classes",
    "lambert_w0",
    "live_leaves",
    "planned_pairs",
    "row_blocks",
]

Method = Literal["blockwise", "window", "pruned", "repeats"]

LEAF = 64
"""Tokens in a leaf, the unit in which 'window' and 'pruned' keep or skip keys."""

_DENSE_BLOCK = 512
_BOUNDS_AT_ONCE = 1 << 22


def lambert_w0(z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Returns the principal Lambert function, the solution of :math:`w e^w = z`.

    Three steps of the iteration :math:`w \leftarrow w (1 + \ln(z / w)) / (1 + w)` from a start
    within 12 percent; the relative error is that of the dtype for z from 1e-30 to 1e30.

    Args:
        z: Any float dtype, at least 0; infinity gives infinity.
    """
    tiny = torch.finfo(z.dtype).tiny
    with torch.no_grad():
        positive = z.clamp(min=tiny, max=torch.finfo(z.dtype).max)
        log = positive.log1p()
        w = log * (1 - log.log1p() / (2 + log))
        for _ in range(3):
            w = w / (1 + w) * (1 + torch.log(positive / w))
        w = torch.where((z > tiny) & torch.isfinite(z), w, z)
        slope = torch.exp(-w) / (1 + w)
    # The iteration is not differentiated: W'(z) = exp(-W) / (1 + W) is exact.
    return torch.where(torch.isfinite(z), w + (z - z.detach()) * slope, w)


def cutoff(inverse_threshold: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """Returns the largest squared detuning that can lock, slightly enlarged against rounding.

    Args:
        inverse_threshold: 1 / Gamma (theory: SS-9) of each row, at least 0; 0 gives infinity.
    """
    return lambert_w0(1 / inverse_threshold.clamp(max=1e30)) * (1 + 1e-3) + 1e-30


class Arrangement(NamedTuple):
    """An order of the tokens of each group, cut into leaves of one size.

    The order is padded with copies of tokens so that all leaves are full.

    Attributes:
        token: ``(groups, leaves * size)`` token at each place.
        real: ``(groups, leaves * size)``, False where the place holds a copy.
        place: ``(groups, tokens)`` place of each token.
        size: Places in a leaf.
    """

    token: Int[Tensor, "groups places"]
    real: Bool[Tensor, "groups places"]
    place: Int[Tensor, "groups tokens"]
    size: int

    @property
    def leaves(self) -> int:
        """Leaves in each group."""
        return self.token.shape[1] // self.size

    def take(self, x: Tensor) -> Tensor:
        """Returns ``(groups, tokens, ...)`` as ``(groups, leaves, size, ...)``."""
        return _rows(x, self.token).unflatten(1, (self.leaves, self.size))

    def weights(self) -> Tensor:
        """Returns 0 for copies and 1 for tokens, ``(groups, leaves, size, 1)``."""
        return self.real.reshape(-1, self.leaves, self.size, 1)

    def put(self, x: Tensor) -> Tensor:
        """Returns ``(groups, leaves, size, ...)`` in the order of the tokens."""
        return _rows(x.flatten(1, 2), self.place)


def _rows(x: Tensor, index: Int[Tensor, "groups places"]) -> Tensor:
    """Returns rows of each group, ``(groups, places, ...)``."""
    start = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, (index + start).flatten()).unflatten(0, index.shape)


def _sorted_arrangement(x: Float[Tensor, "groups tokens"], leaf: int) -> Arrangement:
    """Sorts each group by its value; ties keep their order."""
    groups, tokens = x.shape
    order = x.sort(dim=1, stable=True).indices
    size = min(leaf, tokens)
    places = torch.arange(-(-tokens // size) * size, device=x.device).expand(groups, -1)
    place = torch.empty_like(order).scatter_(1, order, places[:, :tokens])
    # Copies of the last token keep the bounds of its leaf.
    copies = order[:, -1:].expand(-1, places.shape[1] - tokens)
    return Arrangement(torch.cat([order, copies], 1), places < tokens, place, size)


def _balanced_arrangement(x: Float[Tensor, "groups tokens dim"]) -> Arrangement:
    """Halves each group at the median of its widest coordinate until leaves are small."""
    groups, tokens, dim = x.shape
    leaves = 1
    while leaves * LEAF < tokens:
        leaves *= 2
    size = -(-tokens // leaves)
    order = torch.arange(leaves * size, device=x.device).expand(groups, -1).contiguous()
    nodes = 1
    while nodes < leaves:
        index = (order % tokens)[..., None].expand(-1, -1, dim)
        points = x.gather(1, index).reshape(groups * nodes, -1, dim)
        extent = points.amax(1) - points.amin(1)
        widest = extent.argmax(-1)[:, None, None].expand(-1, points.shape[1], 1)
        rank = points.gather(2, widest)[..., 0].argsort(dim=1)
        order = order.reshape(groups * nodes, -1).gather(1, rank).reshape(groups, -1)
        nodes *= 2
    places = torch.arange(order.shape[1], device=x.device).expand_as(order)
    place = torch.empty_like(order).scatter_(1, order, places)[:, :tokens]
    return Arrangement(order % tokens, order < tokens, place, size)


class Entries(NamedTuple):
    """The live pairs of leaves, grouped by query leaf.

    Attributes:
        queries: Order of the queries.
        keys: Order of the keys.
        row: ``(entries,)`` query leaf, counted over all groups, ascending.
        column: ``(entries,)`` key leaf, counted over all groups, ascending within a row.
    """

    queries: Arrangement
    keys: Arrangement
    row: Int[Tensor, " entries"]
    column: Int[Tensor, " entries"]

    @property
    def pairs(self) -> int:
        """Pairs of tokens that the entries compute."""
        return self.row.numel() * self.queries.size * self.keys.size


def live_leaves(
    query: Float[Tensor, "groups queries dim"],
    key: Float[Tensor, "groups keys dim"],
    radius: Float[Tensor, "groups queries"],
    visibility: Visibility,
    *,
    method: Literal["window", "pruned"],
    coordinate: int,
) -> Entries:
    """Returns the pairs of leaves that can hold a locked pair; no other pair can lock.

    Args:
        query: Scaled frequencies of the queries.
        key: Scaled frequencies of the keys.
        radius: Largest distance at which each query can lock.
        visibility: Who may see whom; leaves entirely in the future or in other segments go.
        method: How tokens are ordered and leaves are bounded.
        coordinate: The coordinate that 'window' sorts by.
    """
    if method == "window":
        # A window is much wider than a leaf, so twice as many queries share what they gather.
        queries = _sorted_arrangement(query[..., coordinate], 2 * LEAF)
        keys = _sorted_arrangement(key[..., coordinate], LEAF)
    else:
        queries, keys = _balanced_arrangement(query), _balanced_arrangement(key)
    reach = queries.take(radius).amax(-1)
    own = _own_leaves(queries, keys, visibility.offset)
    if method == "window":
        places = queries.take(query[..., coordinate]), keys.take(key[..., coordinate])
        row, column = _window(*places, reach, own)
    else:
        row, column = _near_boxes(queries.take(query), keys.take(key), reach, own)
    entries = Entries(queries, keys, row, column)
    alive = _visible_leaves(entries, visibility)
    return entries if alive is None else entries._replace(row=row[alive], column=column[alive])


def _own_leaves(queries: Arrangement, keys: Arrangement, offset: int) -> Tensor:
    """Returns the key leaf of each query's own token, ``(groups, query_leaves, size)``.

    It is always computed: at a vanishing radius rounding may put it out of reach.
    """
    own = (queries.token + offset).clamp(min=0)
    return (keys.place.gather(1, own) // keys.size).unflatten(1, (queries.leaves, queries.size))


def _window(query: Tensor, key: Tensor, reach: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Live leaves of sorted values ``(groups, leaves, size)``: one run per query leaf."""
    reach = reach + _rounding(query[..., None], key[..., None])
    first = torch.searchsorted(key.amax(-1), (query.amin(-1) - reach).contiguous())
    last = torch.searchsorted(key.amin(-1), (query.amax(-1) + reach).contiguous(), right=True)
    first = torch.minimum(first, own.amin(-1))
    last = torch.maximum(last, own.amax(-1) + 1)
    group = torch.arange(key.shape[0], device=key.device)[:, None] * key.shape[1]
    first, count = (first + group).flatten(), (last - first).flatten()
    row = torch.repeat_interleave(count)
    place = torch.arange(row.numel(), device=row.device) - (count.cumsum(0) - count)[row]
    return row, first[row] + place


def _rounding(query: Tensor, key: Tensor) -> Tensor:
    """Returns what rounding of coordinates, moved or scaled, can add to a distance of a group."""
    largest = torch.maximum(*(x.abs().amax((1, 2, 3)) for x in (query, key)))
    return 8 * torch.finfo(query.dtype).eps * query.shape[-1] ** 0.5 * largest[:, None]


def _near_boxes(query: Tensor, key: Tensor, reach: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Live leaves of points ``(groups, leaves, size, dim)`` by boxes and by balls."""
    groups, query_leaves, key_leaves = query.shape[0], query.shape[1], key.shape[1]
    reach = reach + _rounding(query, key)
    step = max(1, _BOUNDS_AT_ONCE // (query_leaves * key_leaves))
    live = torch.empty(groups, query_leaves, key_leaves, dtype=torch.bool, device=query.device)
    for start in range(0, groups, step):
        part = slice(start, start + step)
        q, k, limit = query[part], key[part], reach[part, :, None]
        gap = q.new_zeros(q.shape[0], query_leaves, key_leaves)
        low, high = q.amin(2), q.amax(2)
        key_low, key_high = k.amin(2), k.amax(2)
        for d in range(q.shape[-1]):
            above = low[:, :, None, d] - key_high[:, None, :, d]
            below = key_low[:, None, :, d] - high[:, :, None, d]
            gap += torch.maximum(above, below).clamp_(min=0).square_()
        middle = q.mean((1, 2), keepdim=True)
        near = _centres_near(q - middle, k - middle, limit)
        live[part] = (gap <= limit.square()) & near
    live.scatter_(2, own, True)
    group, row, column = live.nonzero(as_tuple=True)
    return row + group * query_leaves, column + group * key_leaves


def _centres_near(query: Tensor, key: Tensor, limit: Tensor) -> Tensor:
    """True where the balls around two leaves come closer than the limit."""
    query_centre, key_centre = query.mean(2), key.mean(2)
    query_radius = (query - query_centre[:, :, None]).norm(dim=-1).amax(-1)
    key_radius = (key - key_centre[:, :, None]).norm(dim=-1).amax(-1)
    # The matrix-product form of the distance would cancel between near centres.
    mode = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(query_centre, key_centre, compute_mode=mode)
    radii = query_radius[:, :, None] + key_radius[:, None, :]
    return distance - radii <= limit + 1e-5 * (distance + radii)


def _visible_leaves(entries: Entries, visibility: Visibility) -> Tensor | None:
    """True for entries in which some query may see some key; None when all may."""
    if not visibility.is_causal and visibility.segment is None:
        return None
    position = entries.queries.token.reshape(-1, entries.queries.size) + visibility.offset
    keys = entries.keys.token.reshape(-1, entries.keys.size)
    alive = torch.ones_like(entries.row, dtype=torch.bool)
    if visibility.is_causal:
        alive &= keys.amin(1)[entries.column] <= position.amax(1)[entries.row]
    if visibility.segment is not None:
        here, there = visibility.segment[position], visibility.segment[keys]
        alive &= there.amin(1)[entries.column] <= here.amax(1)[entries.row]
        alive &= there.amax(1)[entries.column] >= here.amin(1)[entries.row]
    return alive


class DenseBlock(NamedTuple):
    """A block of queries against a block of keys, in the order of the sequence.

    Attributes:
        rows: The queries.
        columns: The keys.
        crossed: True when the causal diagonal crosses the block.
        mixed: True when it holds more than one segment.
    """

    rows: slice
    columns: slice
    crossed: bool
    mixed: bool


def row_blocks(visibility: Visibility, pairs: int) -> Iterator[DenseBlock]:
    """Yields blocks of queries, each against all keys from the first to the last it may see.

    Args:
        visibility: Who may see whom.
        pairs: Pairs in a block, about; a block has one query at least.
    """
    segment = visibility.segment
    block = max(1, min(_DENSE_BLOCK, pairs // max(1, visibility.num_keys)))
    for top in range(0, visibility.num_queries, block):
        bottom = min(top + block, visibility.num_queries)
        first, last = top + visibility.offset, bottom - 1 + visibility.offset
        left, right, mixed = 0, visibility.num_keys, False
        if segment is not None:
            left = int(torch.searchsorted(segment, segment[first]))
            right = int(torch.searchsorted(segment, segment[last], right=True))
            mixed = bool(segment[left] != segment[right - 1])
        if visibility.is_causal:
            right = min(right, last + 1)
        if left < right:
            crossed = visibility.is_causal and right - 1 > first
            yield DenseBlock(slice(top, bottom), slice(left, right), crossed, mixed)


def dense_blocks(visibility: Visibility, block: int = _DENSE_BLOCK) -> Iterator[DenseBlock]:
    """Yields the blocks in which some query may see some key."""
    segment = None if visibility.segment is None else visibility.segment.tolist()
    for top in range(0, visibility.num_queries, block):
        bottom = min(top + block, visibility.num_queries)
        first, last = top + visibility.offset, bottom - 1 + visibility.offset
        for left in range(0, visibility.num_keys, block):
            right = min(left + block, visibility.num_keys)
            if visibility.is_causal and left > last:
                break
            mixed = False
            if segment is not None:
                if segment[right - 1] < segment[first] or segment[left] > segment[last]:
                    continue
                ends = {segment[first], segment[last], segment[left], segment[right - 1]}
                mixed = len(ends) > 1
            crossed = visibility.is_causal and right - 1 > first
            yield DenseBlock(slice(top, bottom), slice(left, right), crossed, mixed)


def equality_classes(
    points: Float[Tensor, "groups tokens dim"],
) -> tuple[Int[Tensor, "groups tokens"], int]:
    """Returns a number per token, equal exactly for equal rows, and how many numbers there are.

    Rows are compared as bits. Groups count from 0 each; the second value is the largest count.
    """
    dtype = {2: torch.int16, 4: torch.int32, 8: torch.int64}[points.element_size()]
    bits = points.contiguous().view(dtype)
    generator = torch.Generator().manual_seed(bits.shape[-1])
    factor = torch.randint(-(2**62), 2**62, (bits.shape[-1],), generator=generator) * 2 + 1
    digest = (bits.long() * factor.to(bits.device)).sum(-1)
    value, order = digest.sort(dim=1, stable=True)
    fresh = torch.ones_like(value)
    fresh[:, 1:] = value[:, 1:] != value[:, :-1]
    number = fresh.cumsum(1) - 1
    # Equal digests of unequal rows would merge them: compare each row with the one before.
    rows = bits.gather(1, order[..., None].expand_as(bits))
    differs = (rows[:, 1:] != rows[:, :-1]).any(-1)
    if bool((differs & (fresh[:, 1:] == 0)).any()):
        everyone = torch.arange(value.shape[1], device=value.device).expand_as(value)
        return everyone, value.shape[1]
    classes = torch.empty_like(number).scatter_(1, order, number)
    return classes, int(number.max()) + 1


def planned_pairs(
    query: Float[Tensor, "batch heads queries dim"],
    key: Float[Tensor, "batch heads keys dim"],
    inverse_threshold: Float[Tensor, "batch heads queries"],
    visibility: Visibility,
    method: Method,
    coordinate: int = 0,
) -> int:
    """Returns how many pairs a method would compute in its forward pass, without computing any.

    Args:
        query: Scaled frequencies of the queries.
        key: Scaled frequencies of the keys.
        inverse_threshold: 1 / Gamma of each query.
        visibility: Who may see whom.
        method: The method to count.
        coordinate: The coordinate that 'window' sorts by.
    """
    groups = query.shape[0] * query.shape[1]
    if method == "blockwise":
        return groups * sum(
            (block.rows.stop - block.rows.start) * (block.columns.stop - block.columns.start)
            for block in dense_blocks(visibility)
        )
    flat_query, flat_key = query.detach().flatten(0, 1), key.detach().flatten(0, 1)
    rows = inverse_threshold.detach().flatten(0, 1)
    if method == "repeats":
        joined = torch.cat([flat_query, rows[..., None].to(flat_query.dtype)], -1)
        return groups * equality_classes(joined)[1] * equality_classes(flat_key)[1]
    radius = cutoff(rows.float()).sqrt().to(flat_query.dtype)
    return live_leaves(
        flat_query, flat_key, radius, visibility, method=method, coordinate=coordinate
    ).pairs
