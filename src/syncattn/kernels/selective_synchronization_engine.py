"""The tile engine of selective synchronization: one loop forward, one backward, over any tiles."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch

from syncattn._typing import Float, Tensor
from syncattn.kernels.selective_synchronization_pairs import Entries
from syncattn.kernels.selective_synchronization_strongest import keep_strongest
from syncattn.kernels.selective_synchronization_tiles import Tile, Workspace

__all__ = ["Gradients", "Lock", "Side", "backward", "forward", "leaved"]

_DIFFERENCE_DIM = 4
_DOUBLE_DIM = 16


class Lock(NamedTuple):
    """How a squared detuning becomes a strength.

    Attributes:
        smoothing: 0 for the sharp square root; otherwise the strength at which it rounds off.
        edge_floor: Smallest strength that the gradient divides by.
        self_pairs: Query i is key ``i + S - L``, whose squared detuning is exactly 0.
        top_k: Only the k strongest keys of each query count; tiles must hold whole rows.
    """

    smoothing: float
    edge_floor: float
    self_pairs: bool
    top_k: int | None = None


class Side(NamedTuple):
    """The tensors of one pass, all in the accumulation dtype.

    Attributes:
        query: Scaled frequencies of the queries.
        inverse_threshold: 1 / Gamma of each query.
        key: Scaled frequencies of the keys.
        value: Values, with the multiplicity as the last column.
    """

    query: Float[Tensor, "*query_places dim"]
    inverse_threshold: Float[Tensor, "*query_places"]
    key: Float[Tensor, "*key_places dim"]
    value: Float[Tensor, "*key_places value_dim_plus_1"]


def leaved(side: Side, entries: Entries) -> Side:
    """Returns the operands in leaves, with copies weighing 0 and an empty key leaf at the end.

    Args:
        side: The operands in the order of the sequence.
        entries: The leaves.
    """
    queries, keys = entries.queries, entries.keys
    key = keys.take(side.key).flatten(0, 1)
    value = (keys.take(side.value) * keys.weights()).flatten(0, 1)
    return Side(
        queries.take(side.query).flatten(0, 1),
        queries.take(side.inverse_threshold).flatten(0, 1),
        torch.cat([key, torch.zeros_like(key[:1])]),
        torch.cat([value, torch.zeros_like(value[:1])]),
    )


def _negative_distance(
    query: Tensor, key: Tensor, out: Tensor, work: Workspace, *, exact: bool = False
) -> None:
    """Writes minus the squared distances; if `exact`, equal keys get equal ones to the last bit.

    The form is the most exact that costs little: differences in few dimensions, then products in
    float64, then products of points centred on each block of queries, which keeps far tokens, such
    as late positions, from cancelling.
    """
    if query.shape[-1] <= _DIFFERENCE_DIM:
        torch.sub(query[..., :1], key[..., 0][:, None], out=out)
        torch.mul(out, out, out=out)
        for d in range(1, query.shape[-1]):
            difference = work.get("difference", tuple(out.shape))
            torch.sub(query[..., d : d + 1], key[..., d][:, None], out=difference)
            out.addcmul_(difference, difference)
        out.neg_()
        return
    if exact:
        # The default form is a product, whose rounding depends on the place of a key.
        distance = torch.cdist(query, key, compute_mode="donot_use_mm_for_euclid_dist")
        torch.mul(distance, distance, out=out).neg_()
        return
    double = query.shape[-1] <= _DOUBLE_DIM and query.device.type != "mps"
    if double:
        query, key = query.double(), key.double()
    centre = query.mean(1, keepdim=True)
    query, key = query - centre, key - centre
    left = torch.cat([2 * query, query.square().sum(-1, keepdim=True), query[..., :1]], -1)
    right = torch.cat([key, key[..., :1], key.square().sum(-1, keepdim=True)], -1)
    left[..., -2].neg_()
    left[..., -1].fill_(-1.0)
    right[..., -2].fill_(1.0)
    if double and out.dtype != torch.float64:
        out.copy_(torch.bmm(left, right.mT, out=work.get("double", tuple(out.shape), left.dtype)))
    else:
        torch.bmm(left, right.mT, out=out)


def _excess(y: Tensor, g: Tensor, coupling: Tensor, out: Tensor) -> Tensor:
    """Writes the squared strength ``exp(y) + g y``, at least a number that roots exactly.

    The exponent is clamped and the result floored because both library routines leave their
    fast path by a factor of 50, exp where it underflows and sqrt at exact zeros.
    """
    lowest, floor = (-700.0, 2.0**-1000) if y.dtype == torch.float64 else (-83.5, 2.0**-120)
    y.clamp_(lowest, 0.0)
    torch.exp(y, out=coupling)
    torch.mul(y, g, out=out)
    return out.add_(coupling).clamp_(min=floor)


def _strength(excess: Tensor, lock: Lock) -> Tensor:
    """Turns the squared strength into the strength, in place; the floor becomes exactly 0."""
    floor = 2.0**-1000 if excess.dtype == torch.float64 else 2.0**-120
    if lock.smoothing == 0:
        return torch.threshold_(excess.sqrt_(), math.sqrt(floor), 0.0)
    d = lock.smoothing
    # (sqrt(q + d d) - d) / (sqrt(1 + d d) - d) without the cancellation at small q.
    torch.threshold_(excess, floor, 0.0)
    root = excess.add(d * d).sqrt_().add_(d)
    return excess.mul_(math.sqrt(1 + d * d) + d).div_(root).clamp_(max=1.0)


def _divide_by_slope(gradient: Tensor, strength: Tensor, lock: Lock) -> None:
    """Multiplies by twice the derivative of the strength by its square, in place.

    Outside the support, and at a squared detuning of 0 where the geometry has no gradient, the
    result is exactly 0. The strength is overwritten.
    """
    # The gate is 1 for strengths strictly between 0 and 1.
    torch.ops.aten.hardtanh_backward(gradient, strength, 0.0, 1.0, grad_input=gradient)
    if lock.smoothing == 0:
        gradient.div_(strength.clamp_(min=lock.edge_floor))
        return
    d = lock.smoothing
    scale = math.sqrt(1 + d * d) - d
    # sqrt(q + d d) is the strength put back on its scale.
    gradient.div_(strength.mul_(scale).add_(d).mul_(scale))


def _strengths(
    side: Side, tile: Tile, lock: Lock, work: Workspace, name: str
) -> tuple[Tensor, Tensor]:
    """Returns the strengths of a tile and minus its squared detunings.

    The strengths lie in the buffer `name`; if that is "y", they overwrite the detunings.
    """
    query, key = tile.rows(side.query), tile.columns(side.key)
    shape = (len(query), query.shape[1], key.shape[1])
    y = work.get("y", shape)
    _negative_distance(query, key, y, work, exact=lock.top_k is not None)
    if lock.self_pairs:
        tile.join_self(y)
    g, strength = tile.rows(side.inverse_threshold), work.get(name, shape)
    _strength(_excess(y, g[..., None], work.get("coupling", shape), strength), lock)
    tile.hide(strength, work)
    if lock.top_k is not None:
        # Padding weighs 0 but has a strength, which must not take a place.
        strength.mul_((tile.columns(side.value)[:, None, :, -1] > 0).to(strength.dtype))
        keep_strongest(strength, tile.key_places(strength.device), lock.top_k)
    return strength, y


def _slopes(
    y: Tensor, g: Tensor, strength: Tensor, gradient: Tensor, lock: Lock, work: Workspace
) -> tuple[Tensor, Tensor]:
    """Turns gradients of strengths into those of half the squared detunings, in place.

    Returns their sum over each row and the gradient of the inverse thresholds. The coupling of
    the tile is still in its buffer; it, the detunings and the strengths are overwritten.
    """
    _divide_by_slope(gradient, strength, lock)
    threshold = torch.mul(gradient, y, out=y).sum(-1).mul_(0.5)
    gradient.mul_(work.get("coupling", tuple(y.shape)).add_(g[..., None]))
    return gradient.sum(-1), threshold


def forward(
    side: Side, tiles: Iterable[Tile], lock: Lock, *, weighted: bool = True
) -> tuple[Float[Tensor, "*query_places value_dim"], Float[Tensor, "*query_places"]]:
    """Returns the sums of strengths times values and of strengths times multiplicities.

    Args:
        side: The tensors of the pass.
        tiles: The pairs to compute, each at most once.
        lock: How a squared detuning becomes a strength.
        weighted: False if all multiplicities are 1.
    """
    work = Workspace(side.query)
    width = side.value.shape[-1] - 1
    sums = side.query.new_zeros(*side.query.shape[:-1], width)
    total = torch.zeros_like(side.inverse_threshold)
    for tile in tiles:
        strength = _strengths(side, tile, lock, work, "y")[0]
        value = tile.columns(side.value)
        tile.add_rows(sums, torch.bmm(strength, value[..., :-1]))
        tile.add_rows(
            total,
            torch.bmm(strength, value[..., -1:])[..., 0] if weighted else strength.sum(-1),
        )
    return sums, total


class Gradients(NamedTuple):
    """The gradients of one pass; None where it was not asked for."""

    query: Tensor | None
    inverse_threshold: Tensor | None
    key: Tensor | None
    value: Tensor | None


def backward(
    side: Side,
    weight: Float[Tensor, "*query_places value_dim_plus_1"],
    tiles: Iterable[Tile],
    lock: Lock,
    *,
    points: bool = True,
    threshold: bool = True,
    values: bool = True,
) -> Gradients:
    """Recomputes the strengths of each tile and returns the gradients of the forward sums.

    Args:
        side: The tensors of the forward pass.
        weight: Gradient of the sums; its last column that of the total.
        tiles: The pairs to compute, each at most once.
        lock: How a squared detuning becomes a strength.
        points: Whether the gradients of query and key are wanted.
        threshold: Whether that of the inverse threshold is.
        values: Whether that of the values is.
    """
    work = Workspace(side.query)
    d_query = torch.zeros_like(side.query) if points else None
    d_key = torch.zeros_like(side.key) if points else None
    d_threshold = torch.zeros_like(side.inverse_threshold) if threshold else None
    d_value = side.value.new_zeros(*side.value.shape[:-1], side.value.shape[-1] - 1)
    for tile in tiles:
        strength, y = _strengths(side, tile, lock, work, "strength")
        row_weight = tile.rows(weight)
        if values:
            tile.add_columns(d_value, torch.bmm(strength.mT, row_weight[..., :-1]))
        if not (points or threshold):
            continue
        gradient = work.get("gradient", tuple(y.shape))
        torch.bmm(row_weight, tile.columns(side.value).mT, out=gradient)
        g = tile.rows(side.inverse_threshold)
        rows, slopes = _slopes(y, g, strength, gradient, lock, work)
        if d_threshold is not None:
            tile.add_rows(d_threshold, slopes)
        if d_query is not None and d_key is not None:
            query, key = tile.rows(side.query), tile.columns(side.key)
            centre = query.mean(1, keepdim=True)
            query, key = query - centre, key - centre
            columns = gradient.sum(-2)
            tile.add_rows(
                d_query, torch.bmm(gradient, key).addcmul_(query, rows[..., None], value=-1)
            )
            tile.add_columns(
                d_key, torch.bmm(gradient.mT, query).addcmul_(key, columns[..., None], value=-1)
            )
    return Gradients(d_query, d_threshold, d_key, d_value if values else None)
