"""Which blocks a block of tokens meets, and which of their pairs are visible."""

# pyright: basic, reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportCallIssue=false, reportPossiblyUnboundVariable=false

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def block_ranges(first, end, ok, own_first, own_last, other, BLOCK: tl.constexpr):
    """Returns the blocks that a block of tokens meets, split by whether they need a mask.

    Blocks ``[a, b)``, ``[c, d)`` and ``[e, f)`` need one, ``[b, c)`` and ``[d, e)`` do not.
    `first` and `end` bound what each token sees, `own_first` to `own_last` (inclusive) are places
    whose pairs are special, such as a token with itself, and `other` is the number of places.
    """
    a = tl.min(tl.where(ok, first, other)) // BLOCK
    f = tl.maximum(tl.cdiv(tl.max(tl.where(ok, end, 0)), BLOCK), a)
    b = tl.minimum(tl.maximum(tl.cdiv(tl.max(tl.where(ok, first, 0)), BLOCK), a), f)
    e = tl.maximum(tl.minimum(tl.min(tl.where(ok, end, other)) // BLOCK, f), b)
    c = tl.minimum(tl.maximum(tl.maximum(own_first, 0) // BLOCK, b), e)
    d = tl.minimum(tl.maximum(tl.maximum(own_last + BLOCK, 0) // BLOCK, c), e)
    return a, b, c, d, e, f


@triton.jit
@no_type_check
def row_panel(rows, panel, ROWS: tl.constexpr):
    """Returns group, panel, rows of the panel and which of them exist.

    Under causality the last rows see most: they begin first.
    """
    panels = tl.cdiv(rows, panel)
    p = panels - 1 - tl.program_id(0) % panels
    local = tl.arange(0, ROWS)
    i = p * panel + local
    group = (tl.program_id(0) // panels).to(tl.int64)
    return group, p, group * panels + p, i, (i < rows) & (local < panel)


@triton.jit
@no_type_check
def row_view(
    first, end, own, interval_g, start, group, p, entry, i, ok, offset, panel, columns,
    INTERVALS: tl.constexpr, ARRANGED: tl.constexpr, SPECIAL: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Returns what rows see: bounds, own places, block ranges, and counts without and with mask."""
    if INTERVALS or ARRANGED:
        sees = tl.load(first + group * interval_g + i, mask=ok, other=0)
        stops = tl.load(end + group * interval_g + i, mask=ok, other=0)
    else:
        sees, stops = tl.zeros((ROWS,), tl.int32), tl.zeros((ROWS,), tl.int32) + columns
    if ARRANGED:
        mine = tl.load(own + group * interval_g + i, mask=ok, other=-1)
        a = tl.load(start + entry)
        masked = tl.load(start + entry + 1) - a
        return sees, stops, mine, a, a, a, a, a, masked * 0, masked
    else:
        own_first, own_last = 1, 0
        if SPECIAL:
            own_first, own_last = p * panel + offset, p * panel + ROWS - 1 + offset
        a, b, c, d, e, f = block_ranges(sees, stops, ok, own_first, own_last, columns, COLUMNS)
        masked = (b - a) + (d - c) + (f - e)
        return sees, stops, i + offset, a, b, c, d, e, (c - b) + (e - d), masked


@triton.jit
@no_type_check
def free_columns(
    t, b, c, d, seen, seen_at, columns, HAS_SEEN: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """Returns the t-th block that no order or diagonal crosses, and which of it are seen."""
    j = tl.where(t < c - b, b + t, d + t - (c - b)) * COLUMNS + tl.arange(0, COLUMNS)
    here = tl.full((COLUMNS,), True, tl.int1)
    if HAS_SEEN:
        here = tl.load(seen + seen_at + j) != 0
    return j, here


@triton.jit
@no_type_check
def masked_columns(
    t, a, b, c, d, e, sees, stops, mine, place, place_at, listed, size, seen, seen_at, columns,
    ARRANGED: tl.constexpr, EXCLUDE: tl.constexpr, HAS_SEEN: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Returns the t-th other block: its columns, which exist, the visible pairs and self pairs."""
    slot = tl.arange(0, COLUMNS)
    if ARRANGED:
        j = tl.load(listed + a + t) * size + slot
        here = (slot < size) & (j < columns)
        at = tl.load(place + place_at + j, mask=here, other=-1)
    else:
        head, middle = b - a, d - c
        late = tl.where(t < head + middle, c + t - head, e + t - head - middle)
        j = tl.where(t < head, a + t, late) * COLUMNS + slot
        here = j < columns
        at = j
    if HAS_SEEN:
        # Padding is in the order of the sequence, like places.
        here &= tl.load(seen + seen_at + at, mask=here & (at >= 0), other=0) != 0
    visible = (at[None, :] >= sees[:, None]) & (at[None, :] < stops[:, None]) & here[None, :]
    same = at[None, :] == mine[:, None]
    if EXCLUDE:
        visible &= at[None, :] != mine[:, None]
    return j, here, visible, same
