"""The backward Triton kernels of sums over pairs: one over rows, one over columns, no atomics."""

# pyright: basic, reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportCallIssue=false, reportPossiblyUnboundVariable=false

from typing import no_type_check

import triton
import triton.language as tl

from syncattn.kernels.pairwise_tiles_triton import (
    DISTANCE,
    LOG2E,
    SOFTMAX,
    as_multiplied,
    dot_computed,
    dot_stored,
    finite,
    load_tile,
    locked_strength,
    metric,
    pair_gradient,
    product_strength,
    shown_total,
    squared_norms,
    store_tile,
    widened,
)
from syncattn.kernels.pairwise_view_triton import (
    block_ranges,
    free_columns,
    masked_columns,
    row_panel,
    row_view,
)


@triton.jit
@no_type_check
def pair_row_gradients(
    row, row_b, row_h, row_l, column, column_b, column_h, column_l,
    value, value_b, value_h, value_l, d_out, d_out_b, d_out_h, d_out_l, factor, last,
    d_row, d_threshold, d_stretch, row_norm, column_norm, threshold, stretch, seen,
    first, end, own, interval_g, place, start, listed,
    heads, rows, columns, places, offset, panel, size, scale, smoothing, floor,
    KIND: tl.constexpr, POWER: tl.constexpr, SMOOTH: tl.constexpr,
    INTERVALS: tl.constexpr, ARRANGED: tl.constexpr, JOIN: tl.constexpr, EXCLUDE: tl.constexpr,
    HAS_SEEN: tl.constexpr, DIRECT: tl.constexpr, D: tl.constexpr,
    DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of rows, and of what belongs to them, over the columns they see."""
    group, p, entry, i, ok = row_panel(rows, panel, ROWS)
    batch, head = group // heads, group % heads
    row += batch * row_b + head * row_h
    column += batch * column_b + head * column_h
    value += batch * value_b + head * value_h
    g = 0.0
    if KIND == DISTANCE or KIND == SOFTMAX:
        g = shown_total(tl.load(threshold + group * rows + i, mask=ok, other=0.0), KIND)[:, None]
    left = load_tile(row, row_l, i, ok, D, BLOCK_D)
    centre = tl.zeros((BLOCK_D,), tl.float32)
    if KIND == DISTANCE:
        scale = tl.load(stretch + head)
        # What is subtracted everywhere must not be spoilt by one strange row.
        many = tl.maximum(tl.sum(ok.to(tl.float32), 0), 1.0)
        centre = finite(tl.sum(left.to(tl.float32), 0) / many)
    left_norm = squared_norms(row_norm, group * rows + i, ok, KIND, DIRECT)
    incoming = load_tile(d_out + batch * d_out_b + head * d_out_h, d_out_l, i, ok, DV, BLOCK_V)
    times = tl.load(factor + group * rows + i, mask=ok, other=0.0)
    plus = tl.load(last + group * rows + i, mask=ok, other=0.0)
    sees, stops, mine, a, b, c, d, e, free, masked = row_view(
        first, end, own, interval_g, start, group, p, entry, i, ok, offset, panel, columns,
        INTERVALS, ARRANGED, JOIN or EXCLUDE, ROWS, COLUMNS,
    )  # fmt: skip
    found = tl.zeros((ROWS, BLOCK_D), tl.float32)
    weight = tl.zeros((ROWS,), tl.float32)
    by_threshold = tl.zeros((ROWS,), tl.float32)
    by_stretch = tl.zeros((ROWS,), tl.float32)
    if not ARRANGED:
        for t in range(0, free):
            j, here = free_columns(t, b, c, d, seen, batch * places, columns, HAS_SEEN, COLUMNS)
            found, weight, by_threshold, by_stretch = _row_step(
                row, row_l, i, ok, left, left_norm, column, column_l, j, here, value, value_l,
                column_norm, group * columns, incoming, times, plus, g, scale, smoothing, floor,
                centre, here[None, :], here[None, :], found, weight, by_threshold, by_stretch,
                KIND, POWER, SMOOTH, HAS_SEEN, False, DIRECT, D, DV, BLOCK_D, BLOCK_V,
                ROWS, COLUMNS,
            )  # fmt: skip
    for t in range(0, masked):
        j, here, visible, same = masked_columns(
            t, a, b, c, d, e, sees, stops, mine, place, group * columns, listed, size, seen,
            batch * places, columns, ARRANGED, EXCLUDE, HAS_SEEN, COLUMNS,
        )  # fmt: skip
        found, weight, by_threshold, by_stretch = _row_step(
            row, row_l, i, ok, left, left_norm, column, column_l, j, here, value, value_l,
            column_norm, group * columns, incoming, times, plus, g, scale, smoothing, floor,
            centre, visible, same, found, weight, by_threshold, by_stretch, KIND, POWER, SMOOTH,
            True, JOIN, DIRECT, D, DV, BLOCK_D, BLOCK_V, ROWS, COLUMNS,
        )  # fmt: skip
    if KIND == DISTANCE:
        # Widened only now: in float32 it would have filled registers through both loops.
        moved = widened(left, centre).to(tl.float32)
        found = 2.0 * scale * (moved * weight[:, None] - found)
        tl.store(d_threshold + group * rows + i, by_threshold, mask=ok)
        tl.store(d_stretch + group * rows + i, by_stretch / scale, mask=ok)
    else:
        found = found * scale
    store_tile(d_row + group * rows * D, D, i, ok, found, D, BLOCK_D)


@triton.jit
@no_type_check
def _row_step(
    row, row_l, i, ok, left, left_norm, column, column_l, j, here, value, value_l,
    column_norm, norm_at, incoming, times, plus, g, scale, smoothing, floor, centre, visible, same,
    found, weight, by_threshold, by_stretch,
    KIND: tl.constexpr, POWER: tl.constexpr, SMOOTH: tl.constexpr, MASKED: tl.constexpr,
    JOIN: tl.constexpr, DIRECT: tl.constexpr, D: tl.constexpr,
    DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """Adds one block of columns."""
    right = load_tile(column, column_l, j, here, D, BLOCK_D)
    moved = right
    if KIND == DISTANCE:
        moved = widened(right, centre)
    right_norm = squared_norms(column_norm, norm_at + j, here, KIND, DIRECT)
    x = metric(
        row, row_l, i, ok, left, left_norm, column, column_l, j, here, right, right_norm, scale,
        KIND, DIRECT, D, ROWS, COLUMNS,
    )  # fmt: skip
    held = load_tile(value, value_l, j, here, DV, BLOCK_V).to(incoming.dtype)
    gradient = dot_stored(incoming, tl.trans(held), tl.zeros((ROWS, COLUMNS), tl.float32))
    gradient = gradient * times[:, None] + plus[:, None]
    by_x, by_g = pair_gradient(
        x, g, gradient, visible, same, smoothing, floor, KIND, POWER, SMOOTH, MASKED, JOIN
    )
    if KIND == DISTANCE:
        by_threshold += tl.sum(by_g, 1)
        by_stretch += tl.sum(by_x * x, 1)
        weight += tl.sum(as_multiplied(by_x, moved), 1)
    return dot_computed(by_x, moved, found), weight, by_threshold, by_stretch


@triton.jit
@no_type_check
def pair_column_gradients(
    row, row_b, row_h, row_l, column, column_b, column_h, column_l,
    value, value_b, value_h, value_l, d_out, d_out_b, d_out_h, d_out_l, factor, last,
    d_column, d_value, row_norm, column_norm, threshold, stretch, seen,
    first, end, own, interval_g, column_first, column_end, place, start, listed,
    heads, rows, columns, places, offset, panel, size, scale, smoothing, floor,
    KIND: tl.constexpr, POWER: tl.constexpr, SMOOTH: tl.constexpr,
    INTERVALS: tl.constexpr, ARRANGED: tl.constexpr, JOIN: tl.constexpr, EXCLUDE: tl.constexpr,
    HAS_SEEN: tl.constexpr, DIRECT: tl.constexpr, PRECISE: tl.constexpr,
    POINTS: tl.constexpr, VALUES: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of columns and their values, over the rows that see them."""
    blocks = tl.cdiv(columns, size)
    group = (tl.program_id(0) // blocks).to(tl.int64)
    q = tl.program_id(0) % blocks
    slot = tl.arange(0, COLUMNS)
    j = q * size + slot
    exists = (j < columns) & (slot < size)
    batch, head = group // heads, group % heads
    row += batch * row_b + head * row_h
    column += batch * column_b + head * column_h
    d_out += batch * d_out_b + head * d_out_h
    at = j
    if ARRANGED:
        at = tl.load(place + group * columns + j, mask=exists, other=-1)
    here = exists & (at >= 0)
    if HAS_SEEN:
        here &= tl.load(seen + batch * places + at, mask=here, other=0) != 0
    left = load_tile(column, column_l, j, here, D, BLOCK_D)
    centre = tl.zeros((BLOCK_D,), tl.float32)
    if KIND == DISTANCE:
        scale = tl.load(stretch + head)
        # Any point will do that no mask can hide: the mean of what is visible.
        many = tl.maximum(tl.sum(here.to(tl.float32), 0), 1.0)
        centre = finite(tl.sum(left.to(tl.float32), 0) / many)
    left_norm = squared_norms(column_norm, group * columns + j, here, KIND, DIRECT)
    held = load_tile(value + batch * value_b + head * value_h, value_l, j, here, DV, BLOCK_V)
    held = held.to(d_out.dtype.element_ty)
    sees, stops = tl.zeros((COLUMNS,), tl.int32), tl.zeros((COLUMNS,), tl.int32) + rows
    a, b, c, d, e, free = 0, 0, 0, 0, 0, 0
    if ARRANGED:
        a = tl.load(start + group * blocks + q)
        masked = tl.load(start + group * blocks + q + 1) - a
    else:
        if INTERVALS:
            sees = tl.load(column_first + j, mask=exists, other=0)
            stops = tl.load(column_end + j, mask=exists, other=0)
        own_first, own_last = 1, 0
        if JOIN or EXCLUDE:
            own_first, own_last = q * size - offset, q * size + COLUMNS - 1 - offset
        a, b, c, d, e, f = block_ranges(sees, stops, exists, own_first, own_last, rows, ROWS)
        free, masked = (c - b) + (e - d), (b - a) + (d - c) + (f - e)
    d_points = tl.zeros((COLUMNS, BLOCK_D), tl.float32)
    d_values = tl.zeros((COLUMNS, BLOCK_V), tl.float32)
    weight = tl.zeros((COLUMNS,), tl.float32)
    shown = here[:, None]
    if not ARRANGED:
        for t in range(0, free):
            i, ok = free_columns(t, b, c, d, seen, 0, rows, False, ROWS)
            d_points, d_values, weight = _column_step(
                row, row_l, i, ok, left, left_norm, column, column_l, j, here, held, d_out,
                d_out_l, row_norm, threshold, factor, last, group * rows, scale, smoothing, floor,
                centre, shown, shown, d_points, d_values, weight, KIND, POWER, SMOOTH, HAS_SEEN,
                False, DIRECT, PRECISE, POINTS, VALUES, D, DV, BLOCK_D, BLOCK_V, ROWS,
                COLUMNS,
            )  # fmt: skip
    for t in range(0, masked):
        if ARRANGED:
            local = tl.arange(0, ROWS)
            i = tl.load(listed + a + t) * panel + local
            ok = (local < panel) & (i < rows)
            sees = tl.load(first + group * interval_g + i, mask=ok, other=0)
            stops = tl.load(end + group * interval_g + i, mask=ok, other=0)
            mine = tl.load(own + group * interval_g + i, mask=ok, other=-1)
            visible = (at[:, None] >= sees[None, :]) & (at[:, None] < stops[None, :])
            visible &= here[:, None] & ok[None, :]
            same = at[:, None] == mine[None, :]
            if EXCLUDE:
                visible &= at[:, None] != mine[None, :]
        else:
            # Seen from the columns, an own row lies before its column by the offset.
            i, ok, visible, same = masked_columns(
                t, a, b, c, d, e, sees, stops, j - offset, place, 0, listed, panel, seen, 0, rows,
                False, EXCLUDE, False, ROWS,
            )  # fmt: skip
            visible &= shown
        d_points, d_values, weight = _column_step(
            row, row_l, i, ok, left, left_norm, column, column_l, j, here, held, d_out, d_out_l,
            row_norm, threshold, factor, last, group * rows, scale, smoothing, floor, centre,
            visible, same, d_points, d_values, weight, KIND, POWER, SMOOTH, True, JOIN, DIRECT,
            PRECISE, POINTS, VALUES, D, DV, BLOCK_D, BLOCK_V, ROWS, COLUMNS,
        )  # fmt: skip
    if POINTS:
        if KIND == DISTANCE:
            moved = widened(left, centre).to(tl.float32)
            d_points = 2.0 * scale * (moved * weight[:, None] - d_points)
        else:
            d_points = d_points * scale
        store_tile(d_column + group * columns * D, D, j, exists, d_points, D, BLOCK_D)
    if VALUES:
        store_tile(d_value + group * columns * DV, DV, j, exists, d_values, DV, BLOCK_V)


@triton.jit
@no_type_check
def _column_step(
    row, row_l, i, ok, left, left_norm, column, column_l, j, here, held, d_out, d_out_l,
    row_norm, threshold, factor, last, at, scale, smoothing, floor, centre, visible, same,
    d_points, d_values, weight,
    KIND: tl.constexpr, POWER: tl.constexpr, SMOOTH: tl.constexpr, MASKED: tl.constexpr,
    JOIN: tl.constexpr, DIRECT: tl.constexpr, PRECISE: tl.constexpr,
    POINTS: tl.constexpr, VALUES: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Adds one block of rows; tiles are transposed, columns first."""
    right = load_tile(row, row_l, i, ok, D, BLOCK_D)
    moved = right
    if KIND == DISTANCE:
        moved = widened(right, centre)
    right_norm = squared_norms(row_norm, at + i, ok, KIND, DIRECT)
    g = 0.0
    if KIND == DISTANCE or KIND == SOFTMAX:
        g = shown_total(tl.load(threshold + at + i, mask=ok, other=0.0), KIND)[None, :]
    x = metric(
        column, column_l, j, here, left, left_norm, row, row_l, i, ok, right, right_norm, scale,
        KIND, DIRECT, D, COLUMNS, ROWS,
    )  # fmt: skip
    incoming = load_tile(d_out, d_out_l, i, ok, DV, BLOCK_V)
    times = tl.load(factor + at + i, mask=ok, other=0.0)[None, :]
    if VALUES:
        if KIND == DISTANCE:
            if JOIN:
                x = tl.where(same, 0.0, x)
            s = locked_strength(x, g, smoothing, SMOOTH)
        elif KIND == SOFTMAX:
            s = tl.exp2(x * LOG2E - g)
        else:
            s = product_strength(x, KIND, POWER, PRECISE)
        if MASKED:
            s = tl.where(visible, s, 0.0)
        d_values = dot_computed(s * times, incoming, d_values)
    if POINTS:
        plus = tl.load(last + at + i, mask=ok, other=0.0)[None, :]
        gradient = dot_stored(held, tl.trans(incoming), tl.zeros((COLUMNS, ROWS), tl.float32))
        gradient = gradient * times + plus
        by_x, _ = pair_gradient(
            x, g, gradient, visible, same, smoothing, floor, KIND, POWER, SMOOTH, MASKED, JOIN
        )
        if KIND == DISTANCE:
            weight += tl.sum(as_multiplied(by_x, moved), 1)
        d_points = dot_computed(by_x, moved, d_points)
    return d_points, d_values, weight
