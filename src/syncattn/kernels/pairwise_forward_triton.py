"""The forward Triton kernel of sums over pairs: strengths times values, and their total."""

# pyright: basic, reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportCallIssue=false, reportPossiblyUnboundVariable=false

from typing import no_type_check

import triton
import triton.language as tl

from syncattn.kernels.pairwise_tiles_triton import (
    DISTANCE,
    LOG2E,
    SOFTMAX,
    dot_computed,
    load_tile,
    locked_strength,
    metric,
    product_strength,
    squared_norms,
    store_tile,
)
from syncattn.kernels.pairwise_view_triton import (
    free_columns,
    masked_columns,
    row_panel,
    row_view,
)


@triton.jit
@no_type_check
def row_products(
    a, a_b, a_h, a_l, b, b_b, b_h, b_l, out, heads, rows,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes the inner product of each row of two tensors in float32."""
    group, _, _, i, ok = row_panel(rows, BLOCK, BLOCK)
    batch, head = group // heads, group % heads
    x = load_tile(a + batch * a_b + head * a_h, a_l, i, ok, D, BLOCK_D).to(tl.float32)
    y = load_tile(b + batch * b_b + head * b_h, b_l, i, ok, D, BLOCK_D).to(tl.float32)
    tl.store(out + group * rows + i, tl.sum(x * y, 1), mask=ok)


@triton.jit
@no_type_check
def pair_forward(
    row, row_b, row_h, row_l, column, column_b, column_h, column_l,
    value, value_b, value_h, value_l, out, out_b, out_h, out_l, total,
    row_norm, column_norm, threshold, stretch, sink, seen,
    first, end, own, interval_g, place, start, listed,
    heads, rows, columns, places, offset, panel, size, scale, smoothing,
    KIND: tl.constexpr, POWER: tl.constexpr, SMOOTH: tl.constexpr, NORMALISE: tl.constexpr,
    INTERVALS: tl.constexpr, ARRANGED: tl.constexpr, JOIN: tl.constexpr, EXCLUDE: tl.constexpr,
    HAS_SEEN: tl.constexpr, HAS_SINK: tl.constexpr, DIRECT: tl.constexpr,
    PRECISE: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_V: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sums strengths times values over the columns that a block of rows sees."""
    group, p, entry, i, ok = row_panel(rows, panel, ROWS)
    batch, head = group // heads, group % heads
    row += batch * row_b + head * row_h
    column += batch * column_b + head * column_h
    value += batch * value_b + head * value_h
    g, left, left_norm = 0.0, 0.0, 0.0
    if KIND == DISTANCE:
        g = tl.load(threshold + group * rows + i, mask=ok, other=0.0)[:, None]
        scale = tl.load(stretch + head)
    if not DIRECT:
        left = load_tile(row, row_l, i, ok, D, BLOCK_D)
        left_norm = squared_norms(row_norm, group * rows + i, ok, KIND, DIRECT)
    sees, stops, mine, a, b, c, d, e, free, masked = row_view(
        first, end, own, interval_g, start, group, p, entry, i, ok, offset, panel, columns,
        INTERVALS, ARRANGED, JOIN or EXCLUDE, ROWS, COLUMNS,
    )  # fmt: skip
    sums = tl.zeros((ROWS, BLOCK_V), tl.float32)
    weight = tl.zeros((ROWS,), tl.float32)
    peak = tl.full((ROWS,), float("-inf"), tl.float32)
    if HAS_SINK:
        peak = tl.zeros((ROWS,), tl.float32) + tl.load(sink + head) * LOG2E
        weight += 1.0
    if not ARRANGED:
        for t in range(0, free):
            j, here = free_columns(t, b, c, d, seen, batch * places, columns, HAS_SEEN, COLUMNS)
            sums, weight, peak = _step(
                row, row_l, i, ok, left, left_norm, column, column_l, j, here, value, value_l,
                column_norm, group * columns, g, scale, smoothing, here[None, :],
                here[None, :], sums, weight, peak, KIND, POWER, SMOOTH, HAS_SEEN, False, DIRECT,
                PRECISE, D, DV, BLOCK_D, BLOCK_V, ROWS, COLUMNS,
            )  # fmt: skip
    for t in range(0, masked):
        j, here, visible, same = masked_columns(
            t, a, b, c, d, e, sees, stops, mine, place, group * columns, listed, size, seen,
            batch * places, columns, ARRANGED, EXCLUDE, HAS_SEEN, COLUMNS,
        )  # fmt: skip
        sums, weight, peak = _step(
            row, row_l, i, ok, left, left_norm, column, column_l, j, here, value, value_l,
            column_norm, group * columns, g, scale, smoothing, visible, same, sums,
            weight, peak, KIND, POWER, SMOOTH, True, JOIN, DIRECT, PRECISE, D, DV,
            BLOCK_D, BLOCK_V, ROWS, COLUMNS,
        )  # fmt: skip
    if NORMALISE:
        sums = sums / tl.where(weight > 0.0, weight, 1.0)[:, None]
    if KIND == SOFTMAX:
        some = weight > 0.0
        weight = tl.where(some, peak + tl.log2(tl.where(some, weight, 1.0)), float("-inf"))
    store_tile(out + batch * out_b + head * out_h, out_l, i, ok, sums, DV, BLOCK_V)
    tl.store(total + group * rows + i, weight, mask=ok)


@triton.jit
@no_type_check
def _step(
    row, row_l, i, ok, left, left_norm, column, column_l, j, here, value, value_l,
    column_norm, norm_at, g, scale, smoothing, visible, same, sums, weight, peak,
    KIND: tl.constexpr, POWER: tl.constexpr, SMOOTH: tl.constexpr, MASKED: tl.constexpr,
    JOIN: tl.constexpr, DIRECT: tl.constexpr, PRECISE: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Adds one block of columns."""
    right, right_norm = 0.0, 0.0
    if not DIRECT:
        right = load_tile(column, column_l, j, here, D, BLOCK_D)
        right_norm = squared_norms(column_norm, norm_at + j, here, KIND, DIRECT)
    x = metric(
        row, row_l, i, ok, left, left_norm, column, column_l, j, here, right, right_norm, scale,
        KIND, DIRECT, D, ROWS, COLUMNS,
    )  # fmt: skip
    if KIND == SOFTMAX:
        x = x * LOG2E
        if MASKED:
            x = tl.where(visible, x, float("-inf"))
        higher = tl.maximum(peak, tl.max(x, 1))
        level = tl.where(higher == float("-inf"), 0.0, higher)
        s = tl.exp2(x - level[:, None])
        fade = tl.exp2(peak - level)
        sums = sums * fade[:, None]
        weight = weight * fade
        peak = higher
    else:
        if KIND == DISTANCE:
            if JOIN:
                x = tl.where(same, 0.0, x)
            s = locked_strength(x, g, smoothing, SMOOTH)
        else:
            s = product_strength(x, KIND, POWER, PRECISE)
        if MASKED:
            s = tl.where(visible, s, 0.0)
    weight += tl.sum(s, 1)
    held = load_tile(value, value_l, j, here, DV, BLOCK_V)
    return dot_computed(s, held, sums), weight, peak
