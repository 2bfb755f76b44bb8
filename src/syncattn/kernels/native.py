"""Sums over pairs by the compiled passes: their arguments, forward and backward."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch

from syncattn._masks import Visibility
from syncattn._typing import Float, Int, Tensor
from syncattn.kernels.compiled import pointer, run, takes

__all__ = ["Blocks", "Kind", "PairGradients", "fits", "pair_gradients", "pair_sums"]

_WIDEST = 512
_BLOCK = 64
_PANEL = 128

_POINTERS = (
    "row threshold column value count weight first end own place start list "
    "sums total d_row d_threshold d_column d_value"
).split()
_COUNTS = (
    "groups rows columns dim width value_stride panel block threads per_group kind power "
    "join_self exclude_self"
).split()
_REALS = ("scale", "smoothing", "edge_floor")


class _Call(ctypes.Structure):
    """The arguments of one call, field by field those of `Call` in the C source."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in _COUNTS),
        *((name, ctypes.c_float) for name in _REALS),
    )


def fits(row: Tensor, value: Tensor, visibility: Visibility) -> bool:
    """Returns whether the compiled sums are on and can take these operands.

    Args:
        row: The rows of a call.
        value: Its values.
        visibility: Who may see whom; an attention mask is no interval of places.
    """
    return (
        takes(row, value)
        and visibility.attn_mask is None
        and max(row.shape[-1], value.shape[-1]) <= _WIDEST
        and min(row.numel(), value.numel()) > 0
    )


class Kind(NamedTuple):
    r"""How a pair becomes a strength.

    Attributes:
        name: ``"distance"`` (:math:`\sqrt{e^{-x} - g x}` of the squared distance), or of the
            scaled product ``"softplus"``, ``"relu"`` (plus 1e-3), ``"elu"`` (plus 1),
            ``"readout"`` (:math:`\max(0, 1 + x)^p`) and ``"exponential"`` (of at most 80 either
            way).
        scale: Factor of the product.
        power: :math:`p`: 1, 2 or 4.
        smoothing: Where the square root rounds off.
        edge_floor: Smallest strength by which the sharp gradient divides.
        join_self: The squared distance of a row to its own column is exactly 0.
    """

    name: str
    scale: float = 1.0
    power: int = 1
    smoothing: float = 0.0
    edge_floor: float = 1e-3
    join_self: bool = False


_KINDS = ("distance", "softplus", "relu", "elu", "readout", "exponential")


class Blocks(NamedTuple):
    """Tokens in another order than that of the sequence, and which blocks of them to visit.

    Attributes:
        row_place: ``(groups, rows)`` place in the sequence of each row among the columns.
        column_place: ``(groups, columns)`` that of each column; -1 for one that no row sees.
        start: ``(groups * panels + 1,)`` where the list of each panel of rows begins.
        list: The blocks of columns to visit, counted within their group.
        panel: Rows in a panel.
        block: Columns in a block.
    """

    row_place: Int[Tensor, "groups rows"]
    column_place: Int[Tensor, "groups columns"]
    start: Int[Tensor, " panels_plus_1"]
    list: Int[Tensor, " entries"]
    panel: int
    block: int


class PairGradients(NamedTuple):
    """Gradients of the sums; None where not asked for."""

    row: Tensor | None
    threshold: Tensor | None
    column: Tensor | None
    value: Tensor | None


def pair_sums(
    row: Float[Tensor, "groups rows dim"],
    column: Float[Tensor, "groups columns dim"],
    value: Float[Tensor, "groups columns value_dim"],
    kind: Kind,
    visibility: Visibility,
    *,
    threshold: Float[Tensor, "groups rows"] | None = None,
    count: Float[Tensor, "groups columns"] | None = None,
    blocks: Blocks | None = None,
) -> tuple[Float[Tensor, "groups rows value_dim"], Float[Tensor, "groups rows"]]:
    r"""Returns :math:`\sum_j S_{ij} V_j` and :math:`\sum_j m_j S_{ij}`.

    Args:
        row: Rows, float32.
        column: Columns.
        value: Values; those of padding are 0 already.
        kind: How a pair becomes a strength.
        visibility: Who may see whom, without attention mask; padding belongs in `count`.
        threshold: Inverse threshold of each row, for distances.
        count: Multiplicity of each column; 1 when None.
        blocks: Another order of the tokens.
    """
    call, keep = _call(row, column, value, kind, visibility, threshold, count, blocks)
    sums, total = row.new_empty(*row.shape[:2], value.shape[-1]), row.new_empty(row.shape[:2])
    call.sums, call.total = (
        pointer(x, name, torch.float32) for x, name in ((sums, "sums"), (total, "total"))
    )
    run("pairwise_forward", call)
    del keep
    return sums, total


def pair_gradients(
    row: Float[Tensor, "groups rows dim"],
    column: Float[Tensor, "groups columns dim"],
    value: Float[Tensor, "groups columns value_dim"],
    weight: Float[Tensor, "groups rows value_dim_plus_1"],
    kind: Kind,
    visibility: Visibility,
    *,
    threshold: Float[Tensor, "groups rows"] | None = None,
    count: Float[Tensor, "groups columns"] | None = None,
    blocks: Blocks | None = None,
    points: bool = True,
    values: bool = True,
    thresholds: bool = False,
) -> PairGradients:
    """Returns the gradients of `pair_sums`.

    Args:
        row: See `pair_sums`.
        column: See `pair_sums`.
        value: See `pair_sums`.
        weight: Gradient of the sums; its last column that of the total.
        kind: See `pair_sums`.
        visibility: See `pair_sums`.
        threshold: See `pair_sums`.
        count: See `pair_sums`.
        blocks: See `pair_sums`.
        points: Whether those of rows and columns are wanted.
        values: Whether that of the values is.
        thresholds: Whether that of the threshold is.
    """
    call, keep = _call(row, column, value, kind, visibility, threshold, count, blocks)
    weight = weight.contiguous()
    call.weight = pointer(weight, "weight", torch.float32)
    result = PairGradients(
        torch.zeros_like(keep[0]) if points else None,
        row.new_zeros(row.shape[:2]) if thresholds else None,
        torch.zeros_like(keep[1]) if points else None,
        value.new_zeros(value.shape) if values else None,
    )
    for name, gradient in zip(("d_row", "d_threshold", "d_column", "d_value"), result, strict=True):
        if gradient is not None:
            setattr(call, name, pointer(gradient, name, torch.float32))
    run("pairwise_backward", call)
    del keep
    return result


def _call(
    row: Tensor,
    column: Tensor,
    value: Tensor,
    kind: Kind,
    visibility: Visibility,
    threshold: Tensor | None,
    count: Tensor | None,
    blocks: Blocks | None,
) -> tuple[_Call, list[Tensor]]:
    """Returns the arguments, and the tensors that must outlive the call."""
    # Values that lie beside a column of counts are read where they are.
    in_rows = value.stride(2) == 1 and value.stride(0) == value.shape[1] * value.stride(1)
    value = value if in_rows else value.contiguous()
    keep = [row.contiguous(), column.contiguous(), value]
    call = _Call(
        groups=row.shape[0],
        rows=row.shape[1],
        columns=column.shape[1],
        dim=row.shape[2],
        width=value.shape[2],
        value_stride=value.stride(1),
        panel=_PANEL if blocks is None else blocks.panel,
        block=_BLOCK if blocks is None else blocks.block,
        threads=torch.get_num_threads(),
        per_group=blocks is not None,
        kind=_KINDS.index(kind.name),
        power=kind.power,
        join_self=kind.join_self,
        exclude_self=visibility.exclude_self,
        scale=kind.scale,
        smoothing=kind.smoothing,
        edge_floor=kind.edge_floor,
    )
    own = None if blocks is None else blocks.row_place
    for name, tensor in zip(("row", "column", "value"), keep, strict=True):
        setattr(call, name, pointer(tensor, name, torch.float32))
    named: dict[str, Tensor | None] = {"threshold": threshold, "count": count}
    named |= _intervals(visibility, row.device, own)
    if blocks is not None:
        named |= {"place": blocks.column_place, "start": blocks.start, "list": blocks.list}
    for name, tensor in named.items():
        if tensor is None:
            continue
        dtype = torch.float32 if name in ("threshold", "count") else torch.int32
        tensor = (tensor.to(dtype) if dtype == torch.int32 else tensor).contiguous()
        keep.append(tensor)
        setattr(call, name, pointer(tensor, name, dtype))
    return call, keep


def _intervals(
    visibility: Visibility, device: torch.device, own: Tensor | None
) -> dict[str, Tensor]:
    """Returns the first place that each row sees, the end of those, and its own place."""
    if own is None:
        own = torch.arange(visibility.num_queries, device=device) + visibility.offset
    first, end = torch.zeros_like(own), torch.full_like(own, visibility.num_keys)
    if visibility.segment is not None:
        mine = visibility.segment[own.clamp(min=0)].contiguous()
        first = torch.searchsorted(visibility.segment.contiguous(), mine)
        end = torch.searchsorted(visibility.segment.contiguous(), mine, right=True)
    if visibility.is_causal:
        end = torch.minimum(end, (own + 1).clamp(min=0))
    return {"first": first, "end": end, "own": own}
