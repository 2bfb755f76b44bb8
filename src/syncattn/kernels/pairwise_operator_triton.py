"""Sums over pairs through Triton as a custom operator: checked, differentiable, traceable."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch

from syncattn._autocast import without_autocast
from syncattn._masks import Visibility
from syncattn._typing import Float, Keys, Queries, Tensor, Values
from syncattn.kernels.first_order import first_order
from syncattn.kernels.pairwise_launch_triton import (
    NORMALISED,
    launch_columns,
    launch_forward,
    launch_rows,
    point_norms,
    row_dots,
)
from syncattn.kernels.pairwise_operands_triton import chunks, dense_last, pairs_of, put, take
from syncattn.kernels.registration import Form, register

__all__ = ["Kernel", "pair_sums"]

_LOG2E = 1.4426950408889634

_ARGUMENTS = (
    "Tensor row, Tensor column, Tensor value, Tensor? threshold, Tensor? stretch, Tensor? sink, "
    "Tensor? key_mask, Tensor? segment, bool is_causal, bool exclude_self, bool join_self, "
    "str kind, float scale, int power, float smoothing, float edge_floor, bool pruned"
)


class Kernel(NamedTuple):
    r"""How a pair becomes a strength.

    Attributes:
        kind: ``"distance"`` (:math:`\sqrt{e^{-x} - g x}` of the stretched squared distance), or of
            the scaled product ``"softplus"``, ``"relu"`` (plus 1e-3), ``"elu"`` (plus 1),
            ``"readout"`` (:math:`\max(0, 1 + x)^p`) and ``"softmax"`` (:math:`e^x`). Distances,
            read-out and softmax are divided by the total strength of their row.
        scale: Factor of the product.
        power: :math:`p`: 1, 2 or 4.
        smoothing: Where the square root rounds off.
        edge_floor: Smallest strength by which the sharp gradient divides.
        join_self: The squared distance of a row to its own column is exactly 0.
        pruned: Visit only blocks of tokens that can lock, for distances.
    """

    kind: str
    scale: float = 1.0
    power: int = 1
    smoothing: float = 0.0
    edge_floor: float = 1e-3
    join_self: bool = False
    pruned: bool = False


def pair_sums(
    row: Queries,
    column: Keys,
    value: Values,
    kernel: Kernel,
    visibility: Visibility,
    *,
    threshold: Float[Tensor, "batch heads queries"] | None = None,
    stretch: Float[Tensor, " heads"] | None = None,
    sink: Float[Tensor, " heads"] | None = None,
) -> tuple[Float[Tensor, "batch heads queries value_dim"], Float[Tensor, "batch heads queries"]]:
    r"""Returns :math:`\sum_j S_{ij} V_j`, divided by the total where the kind is, and the total.

    Memory is linear in the length, forward and backward. Strengths, distances and sums are
    float32; products are of the dtype of their operands, and of float32 as exact as float32.

    Args:
        row: Points of the rows; float32, bfloat16 or float16, at most 256 wide.
        column: Points of the columns, in the same dtype.
        value: Values, in any of the three dtypes.
        kernel: How a pair becomes a strength.
        visibility: Who may see whom, without attention mask. What padding holds is never read.
        threshold: :math:`g_i = 1/\Gamma_i`, at least 0, for distances.
        stretch: Factor of squared distances of each head, for distances.
        sink: Logit of attending to nothing of each head, for softmax.

    Returns:
        The sums, in the dtype of `value` where they are divided and else in float32; and the
        totals in float32, for softmax the log-sum in base 2. Both are differentiable, once, in
        every floating argument.

    Raises:
        TypeError: If dtypes are others.
        ValueError: If a width or a length is too large, or the attention mask is not None.
    """
    if visibility.attn_mask is not None:
        raise ValueError(
            "`attn_mask` must be None for the Triton kernels, which know intervals of places; got "
            "one. Use another backend."
        )
    return cast(
        "tuple[Tensor, Tensor]",
        torch.ops.syncattn.pair_sums(
            row, column, value, threshold, stretch, sink, visibility.key_mask, visibility.segment,
            visibility.is_causal, visibility.exclude_self, kernel.join_self, kernel.kind,
            kernel.scale, kernel.power, kernel.smoothing, kernel.edge_floor, kernel.pruned,
        ),
    )  # fmt: skip


def _out_dtype(value: Tensor, kind: str) -> torch.dtype:
    return value.dtype if kind in NORMALISED else torch.float32


def _forward(row: Tensor, column: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    # Autocast would run what surrounds the kernels in half precision.
    with without_autocast(row):
        pairs, entries = pairs_of(row, column, value, *rest)
        shape, dtype = pairs.row.shape[:3], _out_dtype(value, pairs.kind)
        out = torch.empty(*shape, value.shape[-1], dtype=dtype, device=value.device)
        total = torch.empty(shape, dtype=torch.float32, device=value.device)
        if min(row.numel(), column.numel(), value.numel()) == 0:
            total.fill_(-torch.inf if pairs.kind == "softmax" else 0.0)
            if pairs.sink is not None:
                total.copy_((pairs.sink * _LOG2E).unsqueeze(-1).expand(shape))
            return out.zero_(), total
        norms = point_norms(pairs)
        for held, part in chunks(pairs, out):
            launch_forward(pairs._replace(value=held), norms, part, total)
        if entries is not None:
            out, total = put(entries.queries, out), put(entries.queries, total)
    return out, total


def _backward(
    d_out: Tensor,
    d_total: Tensor,
    out: Tensor,
    total: Tensor,
    needs_rows: bool,
    needs_columns: bool,
    needs_value: bool,
    *operands: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    row, column, value = operands[:3]
    found: list[Tensor] = [_empty_gradient(x, row) for x in operands[:6]]
    if min(row.numel(), column.numel(), value.numel()) == 0:
        return _six(found)
    with without_autocast(row):
        needs = (needs_rows, needs_columns, needs_value)
        return _gradients(d_out, d_total, out, total, needs, found, *operands)


def _gradients(
    d_out: Tensor,
    d_total: Tensor,
    out: Tensor,
    total: Tensor,
    needs: tuple[bool, bool, bool],
    found: list[Tensor],
    *operands: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns the gradients of the operands, `found` where they are not wanted."""
    threshold, stretch, sink = operands[3:6]
    needs_rows, needs_columns, needs_value = needs
    pairs, entries = pairs_of(*operands)
    factor, last = _weights(pairs.kind, d_out, d_total, out, total)
    if pairs.sink is not None:
        share = torch.exp2((pairs.sink * _LOG2E).unsqueeze(-1) - total) * last
        found[5] = share.sum((0, 2)).to(sink.dtype)
    if pairs.kind == "softmax":
        pairs = pairs._replace(threshold=total)
    d_out = dense_last(d_out.to(out.dtype))
    if entries is not None:
        # Copies of a query that fill its leaf must add nothing to the keys.
        d_out, factor, last = (take(entries.queries, x) for x in (d_out, factor, last))
    norms = point_norms(pairs)
    d_row = _zeros(pairs.row) if needs_rows else None
    d_column = _zeros(pairs.column) if needs_columns else None
    d_value = _zeros(pairs.value) if needs_value else None
    d_threshold, d_stretch = torch.zeros_like(factor), torch.zeros_like(factor)
    values: list[Tensor] = []
    for number, (held, part) in enumerate(chunks(pairs, d_out)):
        piece = pairs._replace(value=held)
        incoming = (part, factor, last if number == 0 else torch.zeros_like(last))
        if d_row is not None:
            some = [torch.zeros_like(x) for x in (d_row, d_threshold, d_stretch)]
            launch_rows(piece, norms, incoming, (some[0], some[1], some[2]))
            for gradient, more in zip((d_row, d_threshold, d_stretch), some, strict=True):
                gradient.add_(more)
        if d_column is not None or d_value is not None:
            points = None if d_column is None else torch.zeros_like(d_column)
            mine = None if d_value is None else _zeros(held)
            launch_columns(piece, norms, incoming, (points, mine))
            if d_column is not None and points is not None:
                d_column.add_(points)
            if mine is not None:
                values.append(mine)
    if values:
        d_value = torch.cat(values, -1) if len(values) > 1 else values[0]
    if entries is not None:
        queries, keys = entries.queries, entries.keys
        d_row = None if d_row is None else put(queries, d_row)
        d_column = None if d_column is None else put(keys, d_column)
        d_value = None if d_value is None else put(keys, d_value)
        d_threshold, d_stretch = put(queries, d_threshold), put(queries, d_stretch)
    if pairs.kind == "distance":
        found[3], found[4] = d_threshold.to(threshold.dtype), d_stretch.sum((0, 2))
        found[4] = found[4].to(stretch.dtype)
    for place, gradient in enumerate((d_row, d_column, d_value)):
        if gradient is not None:
            found[place] = gradient.contiguous()
    return _six(found)


def _six(x: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return x[0], x[1], x[2], x[3], x[4], x[5]


def _zeros(x: Tensor) -> Tensor:
    return torch.zeros(x.shape, dtype=x.dtype, device=x.device)


def _empty_gradient(x: Tensor | None, row: Tensor) -> Tensor:
    """Returns a gradient of zeros, which an operand without tokens has."""
    return row.new_zeros(0) if x is None else _zeros(x)


def _weights(
    kind: str, d_out: Tensor, d_total: Tensor, out: Tensor, total: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the factor of each row's incoming gradient, and what its total adds to each pair."""
    if kind not in NORMALISED:
        return torch.ones_like(total), d_total.float().contiguous()
    delta = row_dots(dense_last(d_out.to(out.dtype)), dense_last(out))
    if kind == "softmax":
        # The kernels read rows one after another, whatever strides the gradient came with.
        return torch.ones_like(total), (d_total.float() * _LOG2E - delta).contiguous()
    some = total > 0
    factor = torch.where(some, 1.0 / torch.where(some, total, 1.0), 0.0)
    return factor, torch.where(some, d_total.float() - factor * delta, 0.0).contiguous()


def _forward_fake(row: Tensor, column: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    dtype = _out_dtype(value, rest[8])
    out = value.new_empty(*row.shape[:3], value.shape[-1], dtype=dtype)
    return out, row.new_empty(row.shape[:3], dtype=torch.float32)


def _backward_fake(
    d_out: Tensor,
    d_total: Tensor,
    out: Tensor,
    total: Tensor,
    needs_rows: bool,
    needs_columns: bool,
    needs_value: bool,
    *operands: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    row = operands[0]
    return _six([row.new_empty(0) if x is None else x.new_empty(x.shape) for x in operands[:6]])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:8], *output)
    ctx.settings = inputs[8:]


@first_order
def _differentiate(ctx: Any, d_out: Tensor, d_total: Tensor) -> tuple[Any, ...]:
    *tensors, out, total = ctx.saved_tensors
    wanted = ctx.needs_input_grad[:6]
    rows = wanted[0] or wanted[3] or wanted[4]
    gradients = torch.ops.syncattn.pair_sums_backward(
        d_out, d_total, out, total, rows, wanted[1], wanted[2], *tensors, *ctx.settings
    )
    known = tuple(g if want else None for g, want in zip(gradients, wanted, strict=True))
    return known + (None,) * 11


register(
    "pair_sums",
    forward=Form(f"({_ARGUMENTS}) -> (Tensor, Tensor)", _forward, _forward_fake),
    backward=Form(
        "(Tensor d_out, Tensor d_total, Tensor out, Tensor total, bool needs_rows, "
        f"bool needs_columns, bool needs_value, {_ARGUMENTS}) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
        _backward,
        _backward_fake,
    ),
    save=_save,
    differentiate=_differentiate,
)
