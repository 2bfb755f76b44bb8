"""Oscillator attention in linear memory: sums over pairs of a positive function of a product."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.nn.functional import elu, softplus

from syncattn._autocast import without_autocast
from syncattn._masks import Visibility
from syncattn._typing import Float, Keys, Queries, Tensor
from syncattn.kernels.first_order import first_order
from syncattn.kernels.native import Kind, fits, pair_gradients, pair_sums
from syncattn.kernels.registration import Form, register
from syncattn.kernels.selective_synchronization_tiles import DenseTile, Workspace, dense_tiles

__all__ = ["COUPLING_KINDS", "oscillator_drive", "oscillator_readout"]

COUPLING_KINDS = ("softplus", "relu", "elu")
"""The couplings that have a kernel: softplus, relu plus 1e-3, elu plus 1."""

_ARGUMENTS = (
    "Tensor row, Tensor column, Tensor value, Tensor? key_mask, Tensor? segment, "
    "Tensor? attn_mask, bool is_causal, str kind, float scale, int power"
)


def oscillator_drive(
    query: Queries,
    key: Keys,
    anchor: Float[Tensor, "*#batch keys oscillator_dim"],
    *,
    scale: float,
    coupling: str,
    visibility: Visibility,
) -> tuple[
    Float[Tensor, "batch heads queries oscillator_dim"], Float[Tensor, "batch heads queries"]
]:
    r"""Returns :math:`h_i = \sum_j \sigma(s\,q_i \cdot k_j) r_j` and the sum of the couplings.

    The couplings are positive and not normalised, so blocks add up without a running maximum.
    theory: OA-1

    Args:
        query: One row per free oscillator; float64 is computed in float64, all else in float32.
        key: One row per anchor.
        anchor: Anchors, one batch for all or as many as keys have.
        scale: :math:`s`.
        coupling: One of `COUPLING_KINDS`.
        visibility: Who may see whom.
    """
    anchor = anchor.expand(key.shape[0], -1, -1, -1)
    return _sums(query, key, anchor, visibility, coupling, scale, 1)


def oscillator_readout(
    oscillator: Float[Tensor, "batch heads queries oscillator_dim"],
    anchor: Float[Tensor, "*#batch keys oscillator_dim"],
    value: Float[Tensor, "batch heads keys value_dim"],
    *,
    readout_power: int,
    visibility: Visibility,
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Returns the average of the values with weights :math:`\max(0, 1 + x_i \cdot r_j)^p`.

    Args:
        oscillator: :math:`x_i`, times the gain of the read-out where there is one.
        anchor: Anchors, one batch for all or as many as values have.
        value: Values.
        readout_power: :math:`p`: 1, 2 or 4.
        visibility: Who may see whom.
    """
    anchor = anchor.expand(value.shape[0], -1, -1, -1)
    sums, total = _sums(oscillator, anchor, value, visibility, "readout", 1.0, readout_power)
    return torch.where(total > 0, 1.0 / torch.where(total > 0, total, 1.0), 0.0)[..., None] * sums


def _sums(
    row: Tensor,
    column: Tensor,
    value: Tensor,
    visibility: Visibility,
    kind: str,
    scale: float,
    power: int,
) -> tuple[Tensor, Tensor]:
    return cast(
        "tuple[Tensor, Tensor]",
        torch.ops.syncattn.product_sums(
            row, column, value, visibility.key_mask, visibility.segment, visibility.attn_mask,
            visibility.is_causal, kind, scale, power,
        ),
    )  # fmt: skip


def _dtype(row: Tensor) -> torch.dtype:
    return torch.float64 if row.dtype == torch.float64 else torch.float32


class _Pass:
    """The operands of a call with (batch, head) pairs flattened, in the accumulation dtype."""

    def __init__(
        self,
        row: Tensor,
        column: Tensor,
        value: Tensor,
        key_mask: Tensor | None,
        segment: Tensor | None,
        attn_mask: Tensor | None,
        is_causal: bool,
        kind: str,
        scale: float,
        power: int,
    ) -> None:
        dtype = _dtype(row)
        self.batch, self.heads = column.shape[:2]
        self.row, self.column = row.to(dtype).flatten(0, 1), column.to(dtype).flatten(0, 1)
        # What padding holds must not matter, and its couplings count 0 times.
        seen = None if key_mask is None else key_mask[:, None, :, None]
        value = value.to(dtype) if seen is None else torch.where(seen, value.to(dtype), 0.0)
        self.value = value.flatten(0, 1)
        self.count = None
        if key_mask is not None:
            count = key_mask[:, None].expand(-1, self.heads, -1)
            self.count = count.to(dtype).flatten(0, 1).contiguous()
        self.visibility = Visibility(
            row.shape[2], column.shape[2], is_causal, None, segment, attn_mask
        )
        self.kind = Kind(kind, scale=scale, power=power)

    def tiles(self) -> Any:
        return dense_tiles(self.visibility, self.batch, self.heads, self.row.device)

    def product(self, tile: DenseTile, work: Workspace) -> Tensor:
        row, column = tile.rows(self.row), tile.columns(self.column)
        out = work.get("x", (len(row), row.shape[1], column.shape[1]))
        return torch.bmm(row * self.kind.scale, column.mT, out=out)


def _strength(x: Tensor, kind: Kind) -> Tensor:
    """Returns the strengths of scaled products; may overwrite them."""
    if kind.name == "softplus":
        return softplus(x)
    if kind.name == "relu":
        return x.relu_().add_(1e-3)
    if kind.name == "elu":
        return elu(x, inplace=True).add_(1)
    return x.add_(1).clamp_(min=0).pow_(kind.power)


def _slope(x: Tensor, kind: Kind) -> Tensor:
    """Returns the derivative of the strength."""
    if kind.name == "softplus":
        return torch.sigmoid(x)
    if kind.name == "relu":
        return (x > 0).to(x.dtype)
    if kind.name == "elu":
        return x.clamp(max=0).exp_()
    base = (1 + x).clamp_(min=0)
    # pow(0, 0) is 1: at power 1 the slope of the dead side needs its own gate.
    return kind.power * base.pow(kind.power - 1) * (base > 0)


def _forward(row: Tensor, column: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    shape = row.shape[:3]
    # Autocast would run the products inside in half precision.
    with without_autocast(row):
        call = _Pass(row, column, value, *rest)
        if fits(call.row, call.value, call.visibility):
            sums, total = pair_sums(
                call.row, call.column, call.value, call.kind, call.visibility, count=call.count
            )
            return sums.to(value.dtype).unflatten(0, shape[:2]), total.unflatten(0, shape[:2])
        work = Workspace(call.row)
        sums = call.row.new_zeros(*call.row.shape[:2], value.shape[-1])
        total = call.row.new_zeros(call.row.shape[:2])
        for tile in call.tiles():
            strength = _strength(call.product(tile, work), call.kind)
            tile.hide(strength, work)
            tile.add_rows(sums, torch.bmm(strength, tile.columns(call.value)))
            if call.count is None:
                tile.add_rows(total, strength.sum(-1))
            else:
                count = tile.columns(call.count)[..., None]
                tile.add_rows(total, torch.bmm(strength, count)[..., 0])
    return sums.to(value.dtype).unflatten(0, shape[:2]), total.unflatten(0, shape[:2])


def _backward(
    d_sums: Tensor, d_total: Tensor, needs_points: bool, needs_value: bool, *operands: Any
) -> tuple[Tensor, Tensor, Tensor]:
    row, column, value = operands[:3]
    with without_autocast(row):
        call = _Pass(*operands)
        joined = torch.cat([d_sums.to(call.row.dtype), d_total.to(call.row.dtype)[..., None]], -1)
        weight = joined.flatten(0, 1)
        if fits(call.row, call.value, call.visibility):
            found = pair_gradients(
                call.row, call.column, call.value, weight, call.kind, call.visibility,
                count=call.count, points=needs_points, values=needs_value,
            )  # fmt: skip
            gradients = (found.row, found.column, found.value)
        else:
            gradients = _tile_gradients(call, weight, needs_points, needs_value)
    key_mask = operands[3]
    d_value = gradients[2]
    if d_value is not None and key_mask is not None:
        seen = key_mask[:, None, :, None]
        d_value = torch.where(seen, d_value.unflatten(0, value.shape[:2]), 0.0)
    like = (row, column, value)
    return tuple(  # pyright: ignore[reportReturnType]
        x.new_empty(0) if g is None else g.to(x.dtype).reshape(x.shape).contiguous()
        for x, g in zip(like, (*gradients[:2], d_value), strict=True)
    )


def _tile_gradients(
    call: _Pass, weight: Tensor, points: bool, values: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    work = Workspace(call.row)
    d_row, d_column = torch.zeros_like(call.row), torch.zeros_like(call.column)
    d_value = torch.zeros_like(call.value)
    for tile in call.tiles():
        x = call.product(tile, work)
        row_weight = tile.rows(weight)
        if values:
            strength = _strength(x.clone(), call.kind)
            tile.hide(strength, work)
            tile.add_columns(d_value, torch.bmm(strength.mT, row_weight[..., :-1]))
        if not points:
            continue
        last = row_weight[..., -1:]
        if call.count is not None:
            last = last * tile.columns(call.count)[:, None]
        gradient = torch.bmm(row_weight[..., :-1], tile.columns(call.value).mT).add_(last)
        gradient.mul_(_slope(x, call.kind)).mul_(call.kind.scale)
        tile.hide(gradient, work)
        tile.add_rows(d_row, torch.bmm(gradient, tile.columns(call.column)))
        tile.add_columns(d_column, torch.bmm(gradient.mT, tile.rows(call.row)))
    return d_row if points else None, d_column if points else None, d_value if values else None


def _forward_fake(row: Tensor, column: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    sums = value.new_empty(*row.shape[:3], value.shape[-1])
    return sums, row.new_empty(row.shape[:3], dtype=_dtype(row))


def _backward_fake(
    d_sums: Tensor, d_total: Tensor, needs_points: bool, needs_value: bool, *operands: Any
) -> tuple[Tensor, Tensor, Tensor]:
    row, column, value = operands[:3]
    needs = ((row, needs_points), (column, needs_points), (value, needs_value))
    found = [x.new_empty(x.shape if need else (0,)) for x, need in needs]
    return found[0], found[1], found[2]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.settings = inputs[6:]


@first_order
def _differentiate(ctx: Any, d_sums: Tensor, d_total: Tensor) -> tuple[Any, ...]:
    points = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
    value = ctx.needs_input_grad[2]
    gradients = torch.ops.syncattn.product_sums_backward(
        d_sums, d_total, points, value, *ctx.saved_tensors, *ctx.settings
    )
    wanted = (points, points, value)
    known = tuple(g if want else None for g, want in zip(gradients, wanted, strict=True))
    return known + (None,) * 7


register(
    "product_sums",
    forward=Form(f"({_ARGUMENTS}) -> (Tensor, Tensor)", _forward, _forward_fake),
    backward=Form(
        "(Tensor d_sums, Tensor d_total, bool needs_points, bool needs_value, "
        f"{_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
        _backward,
        _backward_fake,
    ),
    save=_save,
    differentiate=_differentiate,
)
