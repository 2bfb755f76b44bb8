"""Selective synchronization on any device: all pairs in blocks, or only those that can lock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch

from syncattn._autocast import without_autocast
from syncattn._masks import Visibility
from syncattn._typing import Float, Keys, Order, Queries, Tensor, Values
from syncattn.kernels.first_order import first_order
from syncattn.kernels.registration import Form, register
from syncattn.kernels.selective_synchronization_engine import (
    Gradients,
    Lock,
    Side,
    backward,
    forward,
    leaved,
)
from syncattn.kernels.selective_synchronization_native import (
    fits_native,
    native_gradients,
    native_sums,
)
from syncattn.kernels.selective_synchronization_pairs import (
    Entries,
    Method,
    cutoff,
    live_leaves,
)
from syncattn.kernels.selective_synchronization_repeats import compress
from syncattn.kernels.selective_synchronization_tiles import (
    DenseTile,
    dense_tiles,
    leaf_tiles,
)

__all__ = ["EDGE_FLOOR", "selective_synchronization"]

EDGE_FLOOR = 1e-3
"""Default `edge_floor`.

At the edge of locking the derivative 1 / (2 S) diverges (theory: SS-11). In float32 a strength
below about 3e-4 is rounding noise, the square root of the unit roundoff, so smaller strengths carry
no slope. The divergence is integrable: the floor removes at most a share of 1e-3 of the expected
gradient, while without it the variance is infinite. It is the same in all dtypes, so that they
agree.
"""

_ARGUMENTS = (
    "Tensor query, Tensor key, Tensor value, Tensor inverse_threshold, Tensor? multiplicity, "
    "Tensor? key_mask, Tensor? segment, Tensor? attn_mask, bool is_causal, bool exclude_self, "
    "str method, int coordinate, bool self_pairs, float smoothing, float edge_floor, "
    "int? top_k"
)


class _Pass(NamedTuple):
    """The tensors of a call with (batch, head) pairs flattened, in the accumulation dtype."""

    side: Side
    batch: int
    heads: int
    visibility: Visibility
    lock: Lock
    method: Method
    coordinate: int
    weighted: bool

    @property
    def nothing(self) -> bool:
        """True without queries or keys: there is nothing to sort."""
        return min(self.visibility.num_queries, self.visibility.num_keys) == 0


def selective_synchronization(
    query: Queries,
    key: Keys,
    value: Values,
    inverse_threshold: Order,
    *,
    visibility: Visibility,
    method: Method = "blockwise",
    coordinate: int = 0,
    self_pairs: bool = False,
    smoothing: float = 0.0,
    edge_floor: float = EDGE_FLOOR,
    top_k: int | None = None,
    multiplicity: Float[Tensor, "batch heads keys"] | None = None,
) -> tuple[Float[Tensor, "batch heads queries value_dim"], Order]:
    r"""Returns the average of the values over locked keys, and the total strength of each query.

    .. math::
        S_{ij} = \sqrt{\max(0, e^{-x_{ij}} - g_i x_{ij})}, \qquad
        t_i = \sum_j m_j S_{ij}, \qquad o_i = \frac{1}{t_i} \sum_j S_{ij} V_j

    with :math:`x_{ij} = |q_i - k_j|^2`. A row that locks to nothing gives 0. Memory is linear in
    the length, forward and backward, and the result does not depend on the method but for rounding:

    - ``blockwise`` computes all visible pairs;
    - ``window`` sorts by one coordinate and computes the pairs within reach along it;
    - ``pruned`` halves the tokens at medians and skips leaves that are out of reach;
    - ``repeats`` computes equal queries and equal keys once, without masks other than padding.

    Args:
        query: Frequencies times the square root of twice the coupling decay, so that squared
            distances are dimensionless. float64 is computed in float64, all else in float32.
        key: Frequencies of the keys, scaled alike.
        value: Values, in any float dtype; accumulated in float32 or float64.
        inverse_threshold: :math:`g_i = 1/\Gamma_i`, at least 0; 0 never unlocks.
        visibility: Who may see whom.
        method: Which pairs are computed.
        coordinate: The coordinate that ``window`` sorts by.
        self_pairs: Query i is key ``i + S - L``: its squared distance is exactly 0.
        smoothing: If d > 0, S is :math:`(\sqrt{S^2 + d^2} - d) / (\sqrt{1 + d^2} - d)` instead.
        edge_floor: Smallest strength by which the sharp gradient divides.
        top_k: Keep the k largest of every row after the masks; ties go to the earlier key.
        multiplicity: :math:`m_j`, 1 by default, for values that are sums over equal tokens. It
            receives no gradient.

    Returns:
        The output in the dtype of `value`, and the totals in the accumulation dtype. Both are
        differentiable, once, in query, key, value and inverse_threshold.

    Raises:
        ValueError: If ``repeats`` meets a causal, segment, attention or self mask, or if `top_k`
            meets ``repeats`` or `multiplicity`, whose keys stand for several.
    """
    masked = visibility.is_causal or visibility.exclude_self
    masked = masked or visibility.segment is not None or visibility.attn_mask is not None
    if method == "repeats" and masked:
        raise ValueError(
            "`method='repeats'` must see all keys but padding; got a causal, segment, self or "
            "attention mask. Use another method with masks."
        )
    if top_k is not None and (method == "repeats" or multiplicity is not None):
        raise ValueError(
            "`top_k` must count single keys; got `method='repeats'` or `multiplicity`, where one "
            "key stands for several. Use another method and no multiplicity."
        )
    return cast(
        "tuple[Tensor, Tensor]",
        torch.ops.syncattn.selective_synchronization(
            query,
            key,
            value,
            inverse_threshold,
            multiplicity,
            visibility.key_mask,
            visibility.segment,
            visibility.attn_mask,
            visibility.is_causal,
            visibility.exclude_self,
            method,
            coordinate,
            self_pairs,
            smoothing,
            edge_floor,
            top_k,
        ),
    )


def _accumulation(query: Tensor) -> torch.dtype:
    return torch.float64 if query.dtype == torch.float64 else torch.float32


def _prepare(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    inverse_threshold: Tensor,
    multiplicity: Tensor | None,
    key_mask: Tensor | None,
    segment: Tensor | None,
    attn_mask: Tensor | None,
    is_causal: bool,
    exclude_self: bool,
    method: Method,
    coordinate: int,
    self_pairs: bool,
    smoothing: float,
    edge_floor: float,
    top_k: int | None,
) -> _Pass:
    """Flattens the operands; padding becomes keys of value 0 and multiplicity 0."""
    dtype = _accumulation(query)
    batch, heads, num_keys = key.shape[:3]
    count = torch.ones(batch, heads, num_keys, dtype=dtype, device=key.device)
    if multiplicity is not None:
        count = count * multiplicity
    weighted = torch.cat([value.to(dtype), count[..., None].to(dtype)], -1)
    if key_mask is not None:
        weighted.masked_fill_(~key_mask[:, None, :, None], 0.0)
    side = Side(
        query.to(dtype).flatten(0, 1),
        # An infinite inverse threshold would give 0 times infinity at equal frequencies.
        inverse_threshold.to(dtype).clamp(0.0, 1e30).flatten(0, 1),
        key.to(dtype).flatten(0, 1),
        weighted.flatten(0, 1),
    )
    visibility = Visibility(
        query.shape[2], num_keys, is_causal, None, segment, attn_mask, exclude_self
    )
    lock = Lock(smoothing, edge_floor, self_pairs, top_k)
    weighted = multiplicity is not None or key_mask is not None
    return _Pass(side, batch, heads, visibility, lock, method, coordinate, weighted)


def _dense_tiles(call: _Pass) -> Iterator[DenseTile]:
    return dense_tiles(
        call.visibility,
        call.batch,
        call.heads,
        call.side.query.device,
        whole_rows=call.lock.top_k is not None,
    )


def _sums(call: _Pass) -> tuple[Tensor, Tensor]:
    """Returns the forward sums of a call, ``(groups, queries, value_dim)`` and without the last."""
    side = call.side
    native = fits_native(side, call.visibility, call.lock) and call.method != "repeats"
    if call.method == "blockwise" or call.nothing:
        if native:
            return native_sums(side, call.visibility, call.lock)
        return forward(side, _dense_tiles(call), call.lock, weighted=call.weighted)
    if call.method == "repeats":
        return compress(side).sums(call.lock)
    entries = _entries(call)
    if native:
        return native_sums(side, call.visibility, call.lock, entries=entries)
    tiles = leaf_tiles(entries, call.visibility, call.heads)
    groups = (len(side.query), entries.queries.leaves)
    sums, total = forward(leaved(side, entries), tiles, call.lock)
    queries = entries.queries
    return queries.put(sums.unflatten(0, groups)), queries.put(total.unflatten(0, groups))


def _gradients(call: _Pass, weight: Tensor, wanted: dict[str, bool]) -> Gradients:
    """Returns the gradients of a call, with groups flat.

    Args:
        call: The operands.
        weight: Gradient of the forward sums, that of the totals in the last column.
        wanted: Whether the points, the values and the threshold need theirs.
    """
    side = call.side
    native = fits_native(side, call.visibility, call.lock) and call.method != "repeats"
    if call.method == "blockwise" or call.nothing:
        if native:
            return native_gradients(side, weight, call.visibility, call.lock, None, **wanted)
        return backward(side, weight, _dense_tiles(call), call.lock, **wanted)
    if call.method == "repeats":
        return compress(side).gradients(weight, call.lock, **wanted)
    entries = _entries(call)
    if native:
        return native_gradients(side, weight, call.visibility, call.lock, entries, **wanted)
    tiles = leaf_tiles(entries, call.visibility, call.heads)
    queries, keys = entries.queries, entries.keys
    own_weight = (queries.take(weight) * queries.weights()).flatten(0, 1)
    result = backward(leaved(side, entries), own_weight, tiles, call.lock, **wanted)
    groups = len(side.query)

    def rows(x: Tensor | None) -> Tensor | None:
        return None if x is None else queries.put(x.unflatten(0, (groups, queries.leaves)))

    def columns(x: Tensor | None) -> Tensor | None:
        return None if x is None else keys.put(x[:-1].unflatten(0, (groups, keys.leaves)))

    return Gradients(
        rows(result.query),
        rows(result.inverse_threshold),
        columns(result.key),
        columns(result.value),
    )


def _entries(call: _Pass) -> Entries:
    side = call.side
    return live_leaves(
        side.query,
        side.key,
        cutoff(side.inverse_threshold).sqrt(),
        call.visibility,
        method="window" if call.method == "window" else "pruned",
        coordinate=call.coordinate,
    )


def _forward_eager(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    shape = query.shape[:3]
    # Autocast would run the products inside in half precision.
    with without_autocast(query):
        call = _prepare(query, key, value, *rest)
        sums, total = _sums(call)
        sums.div_(torch.where(total == 0, 1.0, total)[..., None])
    return sums.to(value.dtype).reshape(*shape, value.shape[-1]), total.reshape(shape)


def _backward_eager(
    grad_output: Tensor,
    grad_total: Tensor,
    output: Tensor,
    total: Tensor,
    needs_points: bool,
    needs_value: bool,
    needs_threshold: bool,
    *operands: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    query, key, value, inverse_threshold, _, key_mask = operands[:6]
    with without_autocast(query):
        call = _prepare(*operands)
        dtype = total.dtype
        weight = grad_output.to(dtype) / torch.where(total == 0, 1.0, total)[..., None]
        weight.masked_fill_((total == 0)[..., None], 0.0)
        last = grad_total.to(dtype) - (weight * output.to(dtype)).sum(-1)
        joined = torch.cat([weight, last[..., None]], -1).flatten(0, 1)
        wanted = {"points": needs_points, "values": needs_value, "threshold": needs_threshold}
        d_query, d_threshold, d_key, d_value = _gradients(call, joined, wanted)
    if d_value is not None and key_mask is not None:
        d_value = d_value.reshape(value.shape).masked_fill(~key_mask[:, None, :, None], 0.0)
    return (
        _shaped(d_query, query),
        _shaped(d_key, key),
        _shaped(d_value, value),
        _shaped(d_threshold, inverse_threshold),
    )


def _shaped(gradient: Tensor | None, like: Tensor) -> Tensor:
    """Returns the gradient as its operand; an empty tensor where it was not asked for."""
    if gradient is None:
        return like.new_empty(0)
    return gradient.to(like.dtype).reshape(like.shape).contiguous()


def _forward_fake(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    output = value.new_empty(*query.shape[:3], value.shape[-1])
    return output, query.new_empty(query.shape[:3], dtype=_accumulation(query))


def _backward_fake(
    grad_output: Tensor,
    grad_total: Tensor,
    output: Tensor,
    total: Tensor,
    needs_points: bool,
    needs_value: bool,
    needs_threshold: bool,
    *operands: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    needs = (needs_points, needs_points, needs_value, needs_threshold)
    gradients = [
        x.new_empty(x.shape if need else (0,)) for x, need in zip(operands[:4], needs, strict=True)
    ]
    return gradients[0], gradients[1], gradients[2], gradients[3]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:8], *output)
    ctx.settings = inputs[8:]


@first_order
def _differentiate(ctx: Any, grad_output: Tensor, grad_total: Tensor) -> tuple[Any, ...]:
    *tensors, output, total = ctx.saved_tensors
    points, value, threshold = (
        ctx.needs_input_grad[0] or ctx.needs_input_grad[1],
        ctx.needs_input_grad[2],
        ctx.needs_input_grad[3],
    )
    gradients = torch.ops.syncattn.selective_synchronization_backward(
        grad_output, grad_total, output, total, points, value, threshold, *tensors, *ctx.settings
    )
    wanted = (points, points, value, threshold)
    known = tuple(g if want else None for g, want in zip(gradients, wanted, strict=True))
    return known + (None,) * 12


register(
    "selective_synchronization",
    forward=Form(f"({_ARGUMENTS}) -> (Tensor, Tensor)", _forward_eager, _forward_fake),
    backward=Form(
        "(Tensor grad_output, Tensor grad_total, Tensor output, Tensor total, bool needs_points, "
        f"bool needs_value, bool needs_threshold, {_ARGUMENTS}) "
        "-> (Tensor, Tensor, Tensor, Tensor)",
        _backward_eager,
        _backward_fake,
    ),
    save=_save,
    differentiate=_differentiate,
)
