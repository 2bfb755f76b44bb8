"""Selective synchronization attention: pairs of near natural frequencies lock, others get 0."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch

from syncattn import _validation as check
from syncattn import kernels, reference
from syncattn._backends import Requirement, choose_backend
from syncattn._masks import Visibility
from syncattn._typing import (
    AttentionMask,
    Bool,
    Float,
    Int,
    KeyMask,
    Keys,
    Order,
    Queries,
    Tensor,
    Values,
)
from syncattn._typing import Weights as WeightMatrix
from syncattn.functional.oscillators import at_least_float32, visible_order_parameter

Phases = Float[Tensor, "batch heads keys phase_dim"]
PerHead = Float[Tensor, " #heads"] | Float[Tensor, ""] | float | int

EDGE_FLOOR = 1e-3
"""Default floor of S in the gradient's 1 / S at the locking edge."""


def selective_synchronization(
    query_frequency: Queries,
    key_frequency: Keys,
    value: Values,
    phase: Phases | None = None,
    *,
    coupling_strength: PerHead,
    coupling_decay: PerHead,
    order_parameter: Order | None = None,
    attn_mask: AttentionMask | None = None,
    key_mask: KeyMask | None = None,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
    is_causal: bool = False,
    unbiased_order_parameter: bool = False,
    top_k: int | None = None,
    smoothing: float = 0.0,
    edge_floor: float = EDGE_FLOOR,
    variant: str = "default",
    backend: str = "auto",
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Returns the mean of the values over the tokens that lock with each query.

    .. math::
        S_{ij} = \sqrt{\max(0,\; e^{-2 a u_{ij}} - u_{ij} / (K R_i)^2)}, \qquad
        o_i = \frac{\sum_j S_{ij} v_j}{\sum_j S_{ij}}, \qquad u_{ij} = \|\omega_i - \omega_j\|^2

    Pairs whose frequencies are too far apart get exactly zero weight. The order parameter
    :math:`R_i` is the coherence of the phases that token i sees: with a causal mask a prefix
    quantity, and padding does not count. When both frequencies are one tensor, or the queries
    are its last rows, a token's detuning from itself is exactly 0.

    Args:
        query_frequency: Natural frequencies of the queries, ``(batch, heads, queries, dim)``.
        key_frequency: Natural frequencies of the keys, ``(batch, heads, keys, dim)``.
        value: ``(batch, heads, keys, value_dim)``.
        phase: Phases of the keys in radians, ``(batch, heads, keys, phase_dim)``; None means
            full coherence, R = 1.
        coupling_strength: :math:`K > 0`, a number or one per head.
        coupling_decay: :math:`a > 0`, inverse squared frequency, a number or one per head.
        order_parameter: :math:`R_i` itself, in [0, 1], in place of `phase`.
        attn_mask: True where attention is allowed; broadcastable to (batch, heads, queries, keys).
        key_mask: True where a key is real, ``(batch, keys)``.
        cu_seqlens: Cumulative lengths of packed sequences (batch 1).
        is_causal: Hide the future; the queries are the last tokens of the keys.
        unbiased_order_parameter: Remove the small-population bias of the order parameter.
        top_k: Keep only the k strongest locked keys of every query, after the masks.
        smoothing: Width of the smoothed strength; 0 is the exact one.
        edge_floor: Floor of S in the gradient's 1 / S at the locking edge.
        variant: ``"default"``, or ``"paper"`` for the published equations with their epsilons.
        backend: ``"auto"``, ``"blockwise"`` or ``"reference"``.

    Returns:
        The output in the dtype of `value`; 0 in rows where nothing locks.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit, a coupling is not positive, or values are not finite.
        BackendUnavailableError: If the backend asked for cannot run this call.

    References:
        | Selective Synchronization Attention (arXiv 2602.14445)
    """
    inputs = _checked(
        query_frequency, key_frequency, phase, coupling_strength=coupling_strength,
        coupling_decay=coupling_decay, order_parameter=order_parameter, attn_mask=attn_mask,
        key_mask=key_mask, cu_seqlens=cu_seqlens, is_causal=is_causal,
        unbiased_order_parameter=unbiased_order_parameter, top_k=top_k, smoothing=smoothing,
        edge_floor=edge_floor, variant=variant,
    )  # fmt: skip
    check.require_tensor(value, "value", "batch heads keys value_dim")
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (2, "keys")):
        check.require_same(key_frequency, "key_frequency", value, "value", axis, name)
    check.require_together({"key_frequency": key_frequency, "value": value})
    seen = inputs.visibility.seen_keys()
    value = value if seen is None else torch.where(seen, value, 0.0)
    check.require_finite(value, "value")
    streams = (
        Requirement("no `top_k`", top_k is None),
        Requirement("`variant` is 'default'", variant == "default"),
    )
    chosen = choose_backend(
        "selective_synchronization", backend, {"blockwise": streams, "reference": ()}
    )
    if chosen == "reference":
        epsilon = reference.PAPER_EPSILON if variant == "paper" else 0.0
        strength = _dense(inputs, top_k, smoothing, edge_floor, variant)
        weights = reference.synchronization_weights(strength, epsilon=epsilon)
        return (weights @ value.to(weights.dtype)).to(value.dtype)
    stretch = (2 * inputs.coupling_decay).sqrt()[:, None, None]
    out, _ = kernels.selective_synchronization(
        stretch * inputs.query_frequency,
        stretch * inputs.key_frequency,
        value,
        _inverse_threshold(inputs),
        visibility=inputs.visibility,
        method=cast(kernels.Method, chosen),
        self_pairs=inputs.self_pairs,
        smoothing=smoothing,
        # An infinite gradient times an exact 0 would be NaN.
        edge_floor=max(edge_floor, 1e-12),
    )
    return out


def selective_synchronization_weights(
    query_frequency: Queries,
    key_frequency: Keys,
    phase: Phases | None = None,
    *,
    coupling_strength: PerHead,
    coupling_decay: PerHead,
    order_parameter: Order | None = None,
    attn_mask: AttentionMask | None = None,
    key_mask: KeyMask | None = None,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
    is_causal: bool = False,
    unbiased_order_parameter: bool = False,
    top_k: int | None = None,
    smoothing: float = 0.0,
    variant: str = "default",
) -> tuple[WeightMatrix, Order, Bool[Tensor, "batch heads queries keys"]]:
    """Returns the dense weights, the order parameter of every row and which pairs lock.

    Args:
        query_frequency: See `selective_synchronization`.
        key_frequency: See `selective_synchronization`.
        phase: See `selective_synchronization`.
        coupling_strength: See `selective_synchronization`.
        coupling_decay: See `selective_synchronization`.
        order_parameter: See `selective_synchronization`.
        attn_mask: See `selective_synchronization`.
        key_mask: See `selective_synchronization`.
        cu_seqlens: See `selective_synchronization`.
        is_causal: See `selective_synchronization`.
        unbiased_order_parameter: See `selective_synchronization`.
        top_k: See `selective_synchronization`.
        smoothing: See `selective_synchronization`.
        variant: See `selective_synchronization`.

    Returns:
        The weights (rows sum to 1, or to 0 where nothing locks), the order parameter in [0, 1],
        and the locked pairs.
    """
    inputs = _checked(
        query_frequency, key_frequency, phase, coupling_strength=coupling_strength,
        coupling_decay=coupling_decay, order_parameter=order_parameter, attn_mask=attn_mask,
        key_mask=key_mask, cu_seqlens=cu_seqlens, is_causal=is_causal,
        unbiased_order_parameter=unbiased_order_parameter, top_k=top_k, smoothing=smoothing,
        edge_floor=EDGE_FLOOR, variant=variant,
    )  # fmt: skip
    strength = _dense(inputs, top_k, smoothing, EDGE_FLOOR, variant)
    epsilon = reference.PAPER_EPSILON if variant == "paper" else 0.0
    weights = reference.synchronization_weights(strength, epsilon=epsilon)
    return weights, inputs.order_parameter, strength > 0


class _Inputs(NamedTuple):
    query_frequency: Tensor
    key_frequency: Tensor
    order_parameter: Tensor
    coupling_strength: Tensor
    coupling_decay: Tensor
    visibility: Visibility
    self_pairs: bool


def _checked(
    query_frequency: Tensor,
    key_frequency: Tensor,
    phase: Tensor | None,
    *,
    coupling_strength: Tensor | float | int,
    coupling_decay: Tensor | float | int,
    order_parameter: Tensor | None,
    attn_mask: Tensor | None,
    key_mask: Tensor | None,
    cu_seqlens: Tensor | None,
    is_causal: bool,
    unbiased_order_parameter: bool,
    top_k: int | None,
    smoothing: float,
    edge_floor: float,
    variant: str,
) -> _Inputs:
    check.require_tensor(query_frequency, "query_frequency", "batch heads queries dim")
    check.require_tensor(key_frequency, "key_frequency", "batch heads keys dim")
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (-1, "coordinates")):
        check.require_same(
            query_frequency, "query_frequency", key_frequency, "key_frequency", axis, name
        )
    if top_k is not None:
        check.require_integer(top_k, "top_k", minimum=1)
    check.require_number(smoothing, "smoothing", minimum=0.0)
    check.require_number(edge_floor, "edge_floor", minimum=0.0)
    check.require_choice(variant, "variant", ("default", "paper"))
    if variant == "paper" and smoothing > 0:
        raise ValueError(
            f"`smoothing` must be 0 with `variant` 'paper', which has none; got {smoothing}. "
            f"Drop one of the two."
        )
    visibility = check.require_visibility(
        query_frequency, key_frequency, attn_mask=attn_mask, key_mask=key_mask,
        cu_seqlens=cu_seqlens, is_causal=is_causal,
    )  # fmt: skip
    self_pairs = _same_tokens(query_frequency, key_frequency)
    omega_i, omega_j = at_least_float32(query_frequency), at_least_float32(key_frequency)
    omega_i, omega_j = omega_i.to(omega_j.dtype), omega_j.to(omega_i.dtype)
    seen = visibility.seen_keys()
    if seen is not None:
        omega_j = torch.where(seen, omega_j, 0.0)
        if self_pairs and visibility.num_queries == visibility.num_keys:
            omega_i = torch.where(seen, omega_i, 0.0)
        phase = None if phase is None else torch.where(seen, phase, 0.0)
    if visibility.key_mask is not None and visibility.num_queries == visibility.num_keys:
        omega_i = torch.where(visibility.key_mask[:, None, :, None], omega_i, 0.0)
    check.require_finite(omega_i, "query_frequency")
    check.require_finite(omega_j, "key_frequency")
    r = _order_parameter(phase, order_parameter, visibility, omega_i, unbiased_order_parameter)
    origin = _origin(omega_j, visibility)
    return _Inputs(
        omega_i - origin,
        omega_j - origin,
        r,
        _per_head(coupling_strength, "coupling_strength", omega_i),
        _per_head(coupling_decay, "coupling_decay", omega_i),
        visibility,
        self_pairs,
    )


def _same_tokens(query: Tensor, key: Tensor) -> bool:
    """True when the queries are the keys, or a view of their last rows."""
    if query is key:
        return True
    if torch.compiler.is_compiling():
        return False
    offset = key.shape[2] - query.shape[2]
    return (
        offset >= 0
        and query.dtype == key.dtype
        and query.stride() == key.stride()
        and query.data_ptr() == key[:, :, offset:].data_ptr()
    )


def _order_parameter(
    phase: Tensor | None,
    order_parameter: Tensor | None,
    visibility: Visibility,
    like: Tensor,
    unbiased: bool,
) -> Tensor:
    if order_parameter is not None:
        if phase is not None:
            raise ValueError(
                "`order_parameter` must come without `phase`, which it would be computed from; "
                "got both. Pass one of them."
            )
        if order_parameter.shape != like.shape[:3]:
            raise ValueError(
                f"`order_parameter` must have shape {tuple(like.shape[:3])}, batch, heads and "
                f"queries; got {tuple(order_parameter.shape)}. Expand it to one value a row."
            )
        check.require_finite(order_parameter, "order_parameter")
        return order_parameter.to(like.dtype)
    if phase is None:
        return like.new_ones(like.shape[:3])
    check.require_tensor(phase, "phase", "batch heads keys phase_dim")
    if phase.shape[:3] != (*like.shape[:2], visibility.num_keys):
        raise ValueError(
            f"`phase` must have shape ({like.shape[0]}, {like.shape[1]}, {visibility.num_keys}, "
            f"phase_dim), one row per key; got {tuple(phase.shape)}. Pass the phases of all keys."
        )
    check.require_finite(phase, "phase")
    return visible_order_parameter(phase, visibility, unbiased=unbiased).to(like.dtype)


def _per_head(coupling: Tensor | float | int, name: str, like: Tensor) -> Tensor:
    coupling = torch.as_tensor(coupling, dtype=like.dtype, device=like.device)
    if coupling.dim() > 1 or (coupling.dim() == 1 and coupling.shape[0] not in {1, like.shape[1]}):
        raise ValueError(
            f"`{name}` must be a number or one per head, ({like.shape[1]},); "
            f"got shape {tuple(coupling.shape)}. Reduce it to one value per head."
        )
    check.require_positive(coupling, name)
    return coupling.expand(like.shape[1])


def _origin(omega: Tensor, visibility: Visibility) -> Tensor:
    """Returns a frequency to subtract everywhere: distances stay, rounding shrinks.

    Under causality it must not depend on the future, not even through rounding: there it is the
    first visible token of each sequence; otherwise the mean of the visible tokens.
    """
    omega = omega.detach()
    key_mask = visibility.key_mask
    if omega.shape[2] == 0:
        return omega.new_zeros(1, 1, 1, 1)
    if visibility.segment is not None:
        return omega[:, :, torch.searchsorted(visibility.segment, visibility.segment)]
    if visibility.attn_mask is not None:
        # A key that every query sees; 0 where there is none.
        common = visibility.attn_mask.expand(-1, -1, -1, visibility.num_keys).all(-2)
        common = common.expand(*omega.shape[:2], -1)
        first = common.int().argmax(-1)[..., None, None].expand(-1, -1, 1, omega.shape[-1])
        return omega.gather(2, first) * common.any(-1)[..., None, None]
    if visibility.is_causal:
        if key_mask is None:
            return omega[:, :, :1]
        first = key_mask.int().argmax(-1)
        return omega[torch.arange(len(first), device=first.device), :, first].unsqueeze(2)
    if key_mask is None:
        return omega.mean(2, keepdim=True)
    count = key_mask.sum(-1).clamp(min=1)[:, None, None, None]
    return omega.sum(2, keepdim=True) / count


def _inverse_threshold(inputs: _Inputs) -> Tensor:
    """Returns 1 / (2 a c²), finite also where the coherence is 0 and only equals lock."""
    c = inputs.coupling_strength[:, None] * inputs.order_parameter
    return 1 / (2 * inputs.coupling_decay[:, None] * c.square()).clamp(min=1e-30)


def _dense(
    inputs: _Inputs, top_k: int | None, smoothing: float, edge_floor: float, variant: str
) -> Tensor:
    mask = inputs.visibility.dense(inputs.query_frequency.device)
    arguments = (inputs.query_frequency, inputs.key_frequency, inputs.order_parameter)
    if variant == "paper":
        return reference.paper_synchronization(
            *arguments, coupling_strength=inputs.coupling_strength,
            coupling_decay=inputs.coupling_decay, mask=mask, top_k=top_k,
        )  # fmt: skip
    return reference.synchronization(
        *arguments, coupling_strength=inputs.coupling_strength,
        coupling_decay=inputs.coupling_decay, mask=mask, top_k=top_k, smoothing=smoothing,
        edge_floor=edge_floor,
    )  # fmt: skip
