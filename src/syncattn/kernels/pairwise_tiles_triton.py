"""What the Triton kernels of sums over pairs compute: products, strengths and their slopes."""

# pyright: basic, reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportCallIssue=false, reportOptionalMemberAccess=false
# The body of a kernel is a language of its own, which a type checker of Python cannot follow.

from typing import no_type_check

import triton
import triton.language as tl

DISTANCE = tl.constexpr(0)
SOFTPLUS = tl.constexpr(1)
RELU = tl.constexpr(2)
ELU = tl.constexpr(3)
READOUT = tl.constexpr(4)
SOFTMAX = tl.constexpr(5)

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)

# The interpreter keeps bfloat16 as bare bits, so there operands are rounded and then widened.
INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


@triton.jit
@no_type_check
def load_tile(base, stride, index, ok, D: tl.constexpr, BLOCK: tl.constexpr):
    """Loads rows of D numbers into ``(index, BLOCK)``; 0 beyond the width and where not ok."""
    d = tl.arange(0, BLOCK)
    pointers = base + index.to(tl.int64)[:, None] * stride + d[None, :]
    if D == BLOCK:
        return tl.load(pointers, mask=ok[:, None], other=0.0)
    else:
        return tl.load(pointers, mask=ok[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
@no_type_check
def store_tile(base, stride, index, ok, x, D: tl.constexpr, BLOCK: tl.constexpr):
    """Stores ``(index, BLOCK)`` as rows of D numbers in the dtype of the target."""
    d = tl.arange(0, BLOCK)
    pointers = base + index.to(tl.int64)[:, None] * stride + d[None, :]
    x = x.to(base.dtype.element_ty)
    if D == BLOCK:
        tl.store(pointers, x, mask=ok[:, None])
    else:
        tl.store(pointers, x, mask=ok[:, None] & (d < D)[None, :])


@triton.jit
@no_type_check
def dot_stored(a, b, acc):
    """Adds the product of two stored operands of one dtype; float32 as accurate as float32."""
    if a.dtype == tl.float32:
        return tl.dot(a, b, acc, input_precision="tf32x3")
    elif INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc)
    else:
        return tl.dot(a, b, acc)


@triton.jit
@no_type_check
def dot_computed(a, b, acc):
    """Adds the product of computed float32 numbers and a stored operand.

    float16 has too small a range for gradients and for unbounded strengths: there the product is
    in TF32, which has the same mantissa.
    """
    if b.dtype == tl.float32:
        return tl.dot(a, b, acc, input_precision="tf32x3")
    elif b.dtype == tl.float16:
        return tl.dot(a, b.to(tl.float32), acc, input_precision="tf32")
    elif INTERPRETED:
        return tl.dot(a.to(tl.bfloat16).to(tl.float32), b.to(tl.float32), acc)
    else:
        return tl.dot(a.to(tl.bfloat16), b, acc)


@triton.jit
@no_type_check
def finite(x):
    """Returns 0 for NaN and infinity: one strange token must not move its neighbours."""
    return tl.where(tl.abs(x) < 1e30, x, 0.0)


@triton.jit
@no_type_check
def widened(x, centre):
    """Returns points relative to a centre in float32; bfloat16 stays, its products are exact."""
    if x.dtype == tl.bfloat16:
        return x
    else:
        return x.to(tl.float32) - centre[None, :]


@triton.jit
@no_type_check
def as_multiplied(x, like):
    """Returns float32 numbers as `dot_computed` will see them beside an operand like that."""
    if like.dtype == tl.bfloat16:
        return x.to(tl.bfloat16).to(tl.float32)
    else:
        return x


@triton.jit
@no_type_check
def direct_distance(
    left, left_stride, i, left_ok, right, right_stride, j, right_ok,
    D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Returns squared distances by differences, coordinate by coordinate."""
    u = tl.zeros((ROWS, COLUMNS), tl.float32)
    i, j = i.to(tl.int64) * left_stride, j.to(tl.int64) * right_stride
    # Sums of eight at a time: rounding grows with the length of a chain of additions.
    for start in range(0, D, 8):
        part = tl.zeros((ROWS, COLUMNS), tl.float32)
        for step in tl.static_range(8 if D > 8 else D):
            d = start + step
            a = tl.load(left + i + d, mask=left_ok & (d < D), other=0.0).to(tl.float32)
            b = tl.load(right + j + d, mask=right_ok & (d < D), other=0.0).to(tl.float32)
            difference = a[:, None] - b[None, :]
            part += difference * difference
        u += part
    return u


@triton.jit
@no_type_check
def squared_norms(norm, at, ok, KIND: tl.constexpr, DIRECT: tl.constexpr):
    """Returns the squared norms of a block of points, for distances from products."""
    if KIND == DISTANCE and not DIRECT:
        return tl.load(norm + at, mask=ok, other=0.0)
    else:
        return 0.0


@triton.jit
@no_type_check
def metric(
    left, left_stride, i, left_ok, left_tile, left_norm,
    right, right_stride, j, right_ok, right_tile, right_norm, scale,
    KIND: tl.constexpr, DIRECT: tl.constexpr, D: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Returns scaled squared distances or scaled products of two blocks of points."""
    if DIRECT:
        u = direct_distance(
            left, left_stride, i, left_ok, right, right_stride, j, right_ok, D, ROWS, COLUMNS
        )
    else:
        u = dot_stored(left_tile, tl.trans(right_tile), tl.zeros((ROWS, COLUMNS), tl.float32))
        if KIND == DISTANCE:
            u = tl.maximum(left_norm[:, None] + right_norm[None, :] - 2.0 * u, 0.0)
    return scale * u


@triton.jit
@no_type_check
def log1p_of_unit(e, PRECISE: tl.constexpr):
    """Returns ``log(1 + e)`` for e in [0, 1]."""
    if PRECISE:
        # 2 artanh(e / (2 + e)): its argument is at most 1/3, the first term left out below 2e-8.
        z = e / (2.0 + e)
        w = z * z
        series = 1.0 / 15.0
        series = series * w + 1.0 / 13.0
        series = series * w + 1.0 / 11.0
        series = series * w + 1.0 / 9.0
        series = series * w + 1.0 / 7.0
        series = series * w + 1.0 / 5.0
        series = series * w + 1.0 / 3.0
        return 2.0 * z * (series * w + 1.0)
    else:
        short = e * (1.0 - e * (0.5 - e * 0.33333333))
        return tl.where(e < 0.015625, short, tl.log2(1.0 + e) * LN2)


@triton.jit
@no_type_check
def product_strength(x, KIND: tl.constexpr, POWER: tl.constexpr, PRECISE: tl.constexpr):
    """Returns the strength of a scaled product."""
    if KIND == SOFTPLUS:
        return tl.maximum(x, 0.0) + log1p_of_unit(tl.exp2(-tl.abs(x) * LOG2E), PRECISE)
    elif KIND == RELU:
        return tl.maximum(x, 0.0) + 1e-3
    elif KIND == ELU:
        return tl.where(x > 0.0, x + 1.0, tl.exp2(tl.minimum(x, 0.0) * LOG2E))
    else:
        s = tl.maximum(1.0 + x, 0.0)
        if POWER >= 2:
            s = s * s
        if POWER == 4:
            s = s * s
        return s


@triton.jit
@no_type_check
def product_slope(x, KIND: tl.constexpr, POWER: tl.constexpr):
    """Returns the derivative of the strength by the scaled product."""
    if KIND == SOFTPLUS:
        e = tl.exp2(-tl.abs(x) * LOG2E)
        return tl.where(x > 0.0, 1.0, e) / (1.0 + e)
    elif KIND == RELU:
        return tl.where(x > 0.0, 1.0, 0.0)
    elif KIND == ELU:
        return tl.exp2(tl.minimum(x, 0.0) * LOG2E)
    else:
        base = tl.maximum(1.0 + x, 0.0)
        if POWER == 1:
            # At the very edge torch's clamp has a slope of 1.
            return tl.where(1.0 + x >= 0.0, 1.0, 0.0)
        elif POWER == 2:
            return 2.0 * base
        else:
            return 4.0 * base * base * base


@triton.jit
@no_type_check
def locked_strength(x, g, smoothing, SMOOTH: tl.constexpr):
    """Returns the strength of a dimensionless squared distance, exactly 0 where nothing locks."""
    q = tl.maximum(tl.exp2(-x * LOG2E) - g * x, 0.0)
    if SMOOTH:
        # (sqrt(q + d d) - d) / (sqrt(1 + d d) - d) without the cancellation at small q.
        top = tl.sqrt(1.0 + smoothing * smoothing) + smoothing
        return tl.minimum(q * top / (tl.sqrt(q + smoothing * smoothing) + smoothing), 1.0)
    else:
        return tl.sqrt(q)


@triton.jit
@no_type_check
def locked_slopes(x, g, gradient, smoothing, floor, SMOOTH: tl.constexpr):
    """Returns the gradients of the squared distance and of the inverse threshold of each pair.

    Outside the support, and at distance 0 where the geometry has no gradient, both are 0.
    """
    coupling = tl.exp2(-x * LOG2E)
    q = coupling - g * x
    on = (q > 0.0) & (x > 0.0)
    q = tl.where(on, q, 1.0)
    if SMOOTH:
        root = tl.sqrt(q + smoothing * smoothing)
        half = 0.5 / (root * (tl.sqrt(1.0 + smoothing * smoothing) - smoothing))
    else:
        half = 0.5 / tl.maximum(tl.sqrt(q), floor)
    by_square = tl.where(on, gradient * half, 0.0)
    return -by_square * (coupling + g), -by_square * x


@triton.jit
@no_type_check
def shown_total(g, KIND: tl.constexpr):
    """Returns log-sums under which a row that sees nothing gives 0 to every column."""
    if KIND == SOFTMAX:
        return tl.where(g == float("-inf"), float("inf"), g)
    else:
        return g


@triton.jit
@no_type_check
def pair_gradient(
    x, g, gradient, visible, same, smoothing, floor,
    KIND: tl.constexpr, POWER: tl.constexpr, SMOOTH: tl.constexpr, MASKED: tl.constexpr,
    JOIN: tl.constexpr,
):  # fmt: skip
    """Returns the gradients of the scaled product or distance and of the threshold of each pair.

    The threshold is the inverse one of distances and the log-sum of softmax, in base 2.
    """
    by_threshold = 0.0
    if KIND == DISTANCE:
        if JOIN:
            x = tl.where(same, 0.0, x)
        by_x, by_threshold = locked_slopes(x, g, gradient, smoothing, floor, SMOOTH)
        if MASKED:
            by_threshold = tl.where(visible, by_threshold, 0.0)
    elif KIND == SOFTMAX:
        by_x = gradient * tl.exp2(x * LOG2E - g)
    else:
        by_x = gradient * product_slope(x, KIND, POWER)
    if MASKED:
        by_x = tl.where(visible, by_x, 0.0)
    return by_x, by_threshold
