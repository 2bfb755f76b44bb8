"""Launching the Triton kernels of sums over pairs: sizes of tiles, strides and visibility."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from triton import knobs

from syncattn._masks import Visibility
from syncattn._typing import Int, Tensor
from syncattn.kernels.native import _intervals
from syncattn.kernels.pairwise_backward_triton import pair_column_gradients, pair_row_gradients
from syncattn.kernels.pairwise_forward_triton import pair_forward, row_products
from syncattn.kernels.selective_synchronization_pairs import Arrangement, Entries

KINDS = ("distance", "softplus", "relu", "elu", "readout", "softmax")
NORMALISED = ("distance", "readout", "softmax")

WIDEST_POINT = 256
WIDEST_VALUE = 256
"""Wider values are computed in several passes, each with its own strengths."""

_MOST = 2**31 - 1024


class Tile(NamedTuple):
    """How a kernel cuts its work.

    Attributes:
        rows: Rows in a tile.
        columns: Columns in a tile.
        num_warps: Warps that share it.
        num_stages: Tiles that are in flight between memory and the multipliers.
    """

    rows: int
    columns: int
    num_warps: int
    num_stages: int


class Lists(NamedTuple):
    """Which blocks meet, by the blocks of one side.

    Attributes:
        start: ``(groups * blocks + 1,)`` where each block's list begins.
        listed: The blocks of the other side, counted within their group.
    """

    start: Int[Tensor, " blocks_plus_1"]
    listed: Int[Tensor, " entries"]


class View(NamedTuple):
    """Who sees whom as the kernels read it: intervals of places.

    Attributes:
        first: First place that each row sees, ``(rows,)``, or ``(groups, rows)`` when arranged.
        end: End of what it sees.
        own: Its own place; None when it is row plus offset.
        column_first: First row that sees each column, ``(columns,)``; None when arranged.
        column_end: End of those rows.
        place: ``(groups, columns)`` place of each column, -1 for copies; None when in order.
        by_row: The live blocks of each panel of rows; None for all.
        by_column: The live panels of each block of columns.
        panel: Rows in a panel; 0 when in order.
        size: Columns in a block.
        seen: ``(batch, keys)`` of bytes, 0 for padding; None for all.
        offset: Place of the first row.
        exclude_self: Whether a row is hidden from its own place.
        num_places: Number of keys in the sequence.
    """

    first: Tensor | None = None
    end: Tensor | None = None
    own: Tensor | None = None
    column_first: Tensor | None = None
    column_end: Tensor | None = None
    place: Tensor | None = None
    by_row: Lists | None = None
    by_column: Lists | None = None
    panel: int = 0
    size: int = 0
    seen: Tensor | None = None
    offset: int = 0
    exclude_self: bool = False
    num_places: int = 0


class Pairs(NamedTuple):
    """The operands of a call, each ``(batch, heads, tokens, width)`` with a dense last axis.

    Attributes:
        row: Points of the rows.
        column: Points of the columns, in the same dtype.
        value: Values of the columns.
        threshold: ``(batch, heads, rows)`` inverse thresholds of distances, float32.
        stretch: ``(heads,)`` factor of squared distances, float32.
        sink: ``(heads,)`` logit of attending to nothing, for softmax.
        view: Who sees whom.
        kind: One of `KINDS`.
        scale: Factor of products.
        power: Power of the read-out.
        smoothing: Where the square root of a distance rounds off.
        edge_floor: Smallest strength that a sharp gradient divides by.
        join_self: Whether the distance of a row to its own place is exactly 0.
    """

    row: Tensor
    column: Tensor
    value: Tensor
    threshold: Tensor | None
    stretch: Tensor | None
    sink: Tensor | None
    view: View
    kind: str
    scale: float
    power: int
    smoothing: float
    edge_floor: float
    join_self: bool

    @property
    def direct(self) -> bool:
        """True where distances are sums of squared differences, exact but without matrix units.

        What cancels between products lies below the resolution of bfloat16, not of float16.
        """
        few = self.row.shape[-1] <= 4 or self.row.dtype != torch.bfloat16
        return self.kind == "distance" and few

    @property
    def grouped(self) -> tuple[int, int, int]:
        """Groups, rows and columns."""
        return self.row.shape[0] * self.row.shape[1], self.row.shape[2], self.column.shape[2]


def view_of(visibility: Visibility, device: torch.device) -> View:
    """Returns who sees whom in the order of the sequence.

    Args:
        visibility: Who may see whom, without attention mask.
        device: Where the intervals are wanted.
    """
    seen = None if visibility.key_mask is None else visibility.key_mask.to(torch.uint8).contiguous()
    view = View(
        seen=seen,
        offset=visibility.offset,
        exclude_self=visibility.exclude_self,
        num_places=visibility.num_keys,
    )
    if not visibility.is_causal and visibility.segment is None:
        return view
    bounds = _intervals(visibility, device, None)
    first, end = (bounds[name].contiguous() for name in ("first", "end"))
    place = torch.arange(visibility.num_keys, device=device)
    return view._replace(
        first=first.int(),
        end=end.int(),
        # Both bounds rise with the row, so the rows that see a column are a run too.
        column_first=torch.searchsorted(end, place, right=True).int(),
        column_end=torch.searchsorted(first, place, right=True).int(),
    )


def arranged_view(visibility: Visibility, entries: Entries) -> View:
    """Returns who sees whom where leaves of tokens meet.

    Args:
        visibility: Who may see whom, without attention mask.
        entries: The live leaves.
    """
    queries, keys = entries.queries, entries.keys
    own = queries.token + visibility.offset
    bounds = _intervals(visibility, own.device, own)
    return view_of(visibility._replace(is_causal=False, segment=None), own.device)._replace(
        first=bounds["first"].int().contiguous(),
        end=bounds["end"].int().contiguous(),
        own=own.int().contiguous(),
        place=torch.where(keys.real, keys.token, -1).int().contiguous(),
        by_row=_lists(entries.row, entries.column, queries, keys),
        by_column=_lists(entries.column, entries.row, keys, queries),
        panel=queries.size,
        size=keys.size,
    )


def _lists(here: Tensor, there: Tensor, mine: Arrangement, other: Arrangement) -> Lists:
    blocks = mine.token.shape[0] * mine.leaves
    count = torch.bincount(here, minlength=blocks)
    start = torch.cat([count.new_zeros(1), count.cumsum(0)])
    order = here.argsort(stable=True)
    return Lists(start, (there[order] % other.leaves).int())


def _interpreted() -> bool:
    return bool(knobs.runtime.interpret)


def tile_of(pairs: Pairs, part: str) -> Tile:
    """Returns how a kernel cuts its work: chosen to fit registers and memory, not yet measured.

    Args:
        pairs: The operands.
        part: ``"forward"``, ``"rows"`` or ``"columns"``.
    """
    if _interpreted():
        return Tile(16, 16, 4, 1) if pairs.view.panel == 0 else Tile(64, 64, 4, 1)
    widest = max(pairs.row.shape[-1], pairs.value.shape[-1])
    narrow = pairs.row.element_size() == 2 and pairs.value.element_size() == 2
    if pairs.view.panel:
        rows = _block(pairs.view.panel)
        columns = _block(pairs.view.size)
        return Tile(rows, columns, 4 if widest <= 64 and narrow else 8, 2 if narrow else 1)
    if not narrow:
        side = 64 if widest <= 64 else 32
        return Tile(64 if widest <= 128 else 32, side, 4 if widest <= 64 else 8, 2)
    if part == "forward":
        if widest <= 64:
            return Tile(128, 64, 4, 3)
        return Tile(128, 64, 8, 3) if widest <= 128 else Tile(64, 64, 8, 2)
    if widest <= 64:
        return Tile(128, 64, 8, 2) if part == "rows" else Tile(64, 64, 8, 2)
    if widest <= 128:
        return Tile(64, 64, 8, 2)
    return Tile(64, 32, 8, 1) if part == "rows" else Tile(32, 64, 8, 1)


def _strides(x: Tensor) -> tuple[int, int, int]:
    return x.stride(0), x.stride(1), x.stride(2)


def _block(width: int) -> int:
    return max(16, 1 << (width - 1).bit_length())


def _programs(count: int) -> tuple[int]:
    if count > _MOST:
        raise ValueError(
            f"The batch, heads and length must make fewer than {_MOST} blocks; got {count}. "
            f"Split the batch."
        )
    return (count,)


def _on(x: Tensor) -> AbstractContextManager[Any]:
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def row_dots(a: Tensor, b: Tensor) -> Tensor:
    """Returns the inner products of the rows of two tensors, ``(batch, heads, rows)``, float32.

    Args:
        a: ``(batch, heads, rows, width)`` with a dense last axis.
        b: The same.
    """
    batch, heads, rows, width = a.shape
    out = torch.empty(batch, heads, rows, dtype=torch.float32, device=a.device)
    if out.numel() == 0 or width == 0:
        return out.zero_()
    block = 32 if width <= 256 else 8
    with _on(a):
        row_products[_programs(batch * heads * -(-rows // block))](
            a, *_strides(a), b, *_strides(b), out, heads, rows,
            D=width, BLOCK_D=_block(width), BLOCK=block,
        )  # fmt: skip
    return out


def point_norms(pairs: Pairs) -> tuple[Tensor | None, Tensor | None]:
    """Returns the squared norms of rows and columns where the kernels do not make their own.

    Args:
        pairs: The operands.
    """
    if pairs.kind != "distance" or pairs.direct:
        return None, None
    rows = row_dots(pairs.row, pairs.row)
    return rows, rows if pairs.column is pairs.row else row_dots(pairs.column, pairs.column)


def _interval_stride(pairs: Pairs) -> int:
    first = pairs.view.first
    return 0 if first is None or first.dim() == 1 else first.shape[-1]


def _options(pairs: Pairs, tile: Tile) -> dict[str, Any]:
    view, dim, width = pairs.view, pairs.row.shape[-1], pairs.value.shape[-1]
    return {
        "KIND": KINDS.index(pairs.kind),
        "POWER": pairs.power,
        "SMOOTH": pairs.smoothing > 0,
        "INTERVALS": view.first is not None and view.panel == 0,
        "ARRANGED": view.panel > 0,
        "JOIN": pairs.join_self,
        "EXCLUDE": view.exclude_self,
        "HAS_SEEN": view.seen is not None,
        "DIRECT": pairs.direct,
        "D": dim,
        "DV": width,
        "BLOCK_D": _block(dim),
        "BLOCK_V": _block(width),
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }


def launch_forward(
    pairs: Pairs, norms: tuple[Tensor | None, Tensor | None], out: Tensor, total: Tensor
) -> None:
    """Writes the sums, normalised where the kind is, and the totals.

    Args:
        pairs: The operands; values at most `WIDEST_VALUE` wide.
        norms: See `point_norms`.
        out: ``(batch, heads, rows, value_dim)``.
        total: ``(batch, heads, rows)``, float32; for softmax the log-sum in base 2.
    """
    tile, view = tile_of(pairs, "forward"), pairs.view
    groups, rows, columns = pairs.grouped
    panel = view.panel or tile.rows
    lists = view.by_row or Lists(total, total)
    with _on(out):
        pair_forward[_programs(groups * -(-rows // panel))](
            pairs.row, *_strides(pairs.row), pairs.column, *_strides(pairs.column),
            pairs.value, *_strides(pairs.value), out, *_strides(out), total,
            *norms, pairs.threshold, pairs.stretch, pairs.sink, view.seen,
            view.first, view.end, view.own, _interval_stride(pairs), view.place, *lists,
            pairs.row.shape[1], rows, columns, view.num_places, view.offset, panel, view.size,
            pairs.scale, pairs.smoothing,
            NORMALISE=pairs.kind in NORMALISED, HAS_SINK=pairs.sink is not None,
            PRECISE=pairs.row.dtype == torch.float32, **_options(pairs, tile),
        )  # fmt: skip


def launch_rows(
    pairs: Pairs,
    norms: tuple[Tensor | None, Tensor | None],
    incoming: tuple[Tensor, Tensor, Tensor],
    out: tuple[Tensor, Tensor | None, Tensor | None],
) -> None:
    """Writes the gradients of rows, inverse thresholds and, per row, of the stretch.

    Args:
        pairs: The operands; `threshold` holds the log-sum for softmax.
        norms: See `point_norms`.
        incoming: Gradient of the output, its factor per row, and what the total adds per row.
        out: Contiguous tensors for the three gradients; the last two of distances alone.
    """
    tile, view = tile_of(pairs, "rows"), pairs.view
    groups, rows, columns = pairs.grouped
    panel = view.panel or tile.rows
    d_out, factor, last = incoming
    lists = view.by_row or Lists(factor, factor)
    with _on(d_out):
        pair_row_gradients[_programs(groups * -(-rows // panel))](
            pairs.row, *_strides(pairs.row), pairs.column, *_strides(pairs.column),
            pairs.value, *_strides(pairs.value), d_out, *_strides(d_out), factor, last,
            *out, *norms, pairs.threshold, pairs.stretch, view.seen,
            view.first, view.end, view.own, _interval_stride(pairs), view.place, *lists,
            pairs.row.shape[1], rows, columns, view.num_places, view.offset, panel, view.size,
            pairs.scale, pairs.smoothing, pairs.edge_floor, **_options(pairs, tile),
        )  # fmt: skip


def launch_columns(
    pairs: Pairs,
    norms: tuple[Tensor | None, Tensor | None],
    incoming: tuple[Tensor, Tensor, Tensor],
    out: tuple[Tensor | None, Tensor | None],
) -> None:
    """Writes the gradients of columns and values; None where not wanted.

    Args:
        pairs: See `launch_rows`.
        norms: See `point_norms`.
        incoming: See `launch_rows`.
        out: Contiguous tensors for the two gradients.
    """
    tile, view = tile_of(pairs, "columns"), pairs.view
    groups, rows, columns = pairs.grouped
    size, panel = view.size or tile.columns, view.panel or tile.rows
    d_out, factor, last = incoming
    lists = view.by_column or Lists(factor, factor)
    with _on(d_out):
        pair_column_gradients[_programs(groups * -(-columns // size))](
            pairs.row, *_strides(pairs.row), pairs.column, *_strides(pairs.column),
            pairs.value, *_strides(pairs.value), d_out, *_strides(d_out), factor, last,
            *out, *norms, pairs.threshold, pairs.stretch, view.seen,
            view.first, view.end, view.own, _interval_stride(pairs), view.column_first,
            view.column_end, view.place, *lists,
            pairs.row.shape[1], rows, columns, view.num_places, view.offset, panel, size,
            pairs.scale, pairs.smoothing, pairs.edge_floor,
            PRECISE=pairs.row.dtype == torch.float32,
            POINTS=out[0] is not None, VALUES=out[1] is not None, **_options(pairs, tile),
        )  # fmt: skip
