"""Fixed-query oscillator attention: free oscillators settle among anchors and are read out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import elu, relu, softplus

from syncattn import _validation as check
from syncattn import reference
from syncattn._backends import choose_backend
from syncattn._masks import Visibility
from syncattn._typing import AttentionMask, Bool, Float, Int, KeyMask, Keys, Queries, Tensor, Values
from syncattn._typing import Weights as WeightMatrix
from syncattn.functional.oscillators import at_least_float32

Anchors = Float[Tensor, "*#batch keys oscillator_dim"]
Coupling = str | Callable[[Tensor], Tensor]

COUPLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "softplus": softplus,
    "relu": lambda score: relu(score) + 1e-3,
    "elu": lambda score: elu(score) + 1,
}
"""Positive functions of the scaled inner product, by name."""


def oscillator_attention(
    query: Queries,
    key: Keys,
    value: Values,
    anchor: Anchors,
    *,
    attn_mask: AttentionMask | None = None,
    key_mask: KeyMask | None = None,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    coupling: Coupling = "softplus",
    readout_power: int = 1,
    backend: str = "auto",
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Returns the values read out by free oscillators at equilibrium among fixed anchors.

    .. math::
        h_i = \sum_j \sigma(s\, q_i \cdot k_j)\, r_j, \qquad x_i = h_i / |h_i|, \qquad
        o_i = \frac{\sum_j (1 + x_i \cdot r_j)^p v_j}{\sum_j (1 + x_i \cdot r_j)^p}

    The paper calls the anchors :math:`r_j` queries; here the free oscillator :math:`x_i` belongs
    to the querying token. Time is quadratic in the length; the reference holds a few (L, S)
    matrices.

    Args:
        query: ``(batch, heads, queries, dim)``; float64, float32, bfloat16 or float16.
        key: ``(batch, heads, keys, dim)``.
        value: ``(batch, heads, keys, value_dim)``.
        anchor: ``(batch | 1, heads, keys, oscillator_dim)``; norm at most 1 keeps every weight
            positive.
        attn_mask: True where attention is allowed; broadcastable to (batch, heads, queries, keys).
        key_mask: True where a key is real, ``(batch, keys)``.
        cu_seqlens: Cumulative lengths of packed sequences (batch 1).
        is_causal: Hide the future; the queries are the last tokens of the keys.
        scale: :math:`s`; the default is ``dim ** -0.5``.
        coupling: ``"softplus"``, ``"relu"`` (plus 1e-3), ``"elu"`` (plus 1), or a function to
            positive numbers.
        readout_power: :math:`p`: 1 (affine), 2 or 4.
        backend: ``"auto"`` or ``"reference"``.

    Returns:
        The output in the dtype of `value`; 0 in rows that see nothing.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit, an anchor has length 0, or values are not finite.

    References:
        | Attention by Synchronization in Coupled Oscillator Networks (arXiv 2606.12059)
    """
    visibility, scale, sigma = _checked(
        query, key, anchor, attn_mask=attn_mask, key_mask=key_mask, cu_seqlens=cu_seqlens,
        is_causal=is_causal, scale=scale, coupling=coupling, readout_power=readout_power,
    )  # fmt: skip
    check.require_tensor(value, "value", "batch heads keys value_dim")
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (2, "keys")):
        check.require_same(key, "key", value, "value", axis, name)
    check.require_together({"query": query, "key": key, "value": value, "anchor": anchor})
    choose_backend("oscillator_attention", backend, {"reference": ()})
    query, key, value, anchor = _blanked(query, key, value, anchor, visibility)
    out = reference.oscillator_attention(
        at_least_float32(query),
        at_least_float32(key),
        at_least_float32(value),
        at_least_float32(anchor),
        scale=scale,
        coupling=sigma,
        readout_power=readout_power,
        mask=visibility.dense(query.device),
    )
    return out.to(value.dtype)


def oscillator_attention_weights(
    query: Queries,
    key: Keys,
    anchor: Anchors,
    *,
    attn_mask: AttentionMask | None = None,
    key_mask: KeyMask | None = None,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    coupling: Coupling = "softplus",
    readout_power: int = 1,
) -> tuple[
    WeightMatrix,
    Float[Tensor, "batch heads queries"],
    Bool[Tensor, "batch heads queries keys"],
]:
    r"""Returns the dense weights, the order parameter of the drive and who is attracted.

    The order parameter is :math:`\rho_i = |\sum_j W_{ij} r_j| / \sum_j W_{ij}`: 1 when all
    coupled anchors agree, near 0 when they cancel and the oscillator hardly knows where to go.

    Args:
        query: See `oscillator_attention`.
        key: See `oscillator_attention`.
        anchor: See `oscillator_attention`.
        attn_mask: See `oscillator_attention`.
        key_mask: See `oscillator_attention`.
        cu_seqlens: See `oscillator_attention`.
        is_causal: See `oscillator_attention`.
        scale: See `oscillator_attention`.
        coupling: See `oscillator_attention`.
        readout_power: See `oscillator_attention`.

    Returns:
        The weights (rows sum to 1), the order parameter in [0, 1], and whether the settled
        oscillator lies within a quarter turn of the anchor.
    """
    visibility, scale, sigma = _checked(
        query, key, anchor, attn_mask=attn_mask, key_mask=key_mask, cu_seqlens=cu_seqlens,
        is_causal=is_causal, scale=scale, coupling=coupling, readout_power=readout_power,
    )  # fmt: skip
    query, key, _, anchor = _blanked(query, key, None, anchor, visibility)
    query, key, anchor = (at_least_float32(x) for x in (query, key, anchor))
    mask = visibility.dense(query.device)
    h, total = reference.drive(query, key, anchor, scale=scale, coupling=sigma, mask=mask)
    x = reference.equilibrium(h)
    weights = reference.oscillator_attention_weights(
        x, anchor, readout_power=readout_power, mask=mask
    )
    rho = h.norm(dim=-1) / total.clamp(min=torch.finfo(total.dtype).tiny)
    near = x @ anchor.mT > 0
    return weights, rho, near if mask is None else near & mask


def _checked(
    query: Tensor,
    key: Tensor,
    anchor: Tensor,
    *,
    attn_mask: Tensor | None,
    key_mask: Tensor | None,
    cu_seqlens: Tensor | None,
    is_causal: bool,
    scale: float | None,
    coupling: Coupling,
    readout_power: int,
) -> tuple[Visibility, float, Callable[[Tensor], Tensor]]:
    check.require_tensor(query, "query", "batch heads queries dim")
    check.require_tensor(key, "key", "batch heads keys dim")
    check.require_tensor(anchor, "anchor", "batch heads keys oscillator_dim")
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (-1, "coordinates")):
        check.require_same(query, "query", key, "key", axis, name)
    for axis, name in ((1, "heads"), (2, "keys")):
        check.require_same(key, "key", anchor, "anchor", axis, name)
    if anchor.shape[0] not in {1, key.shape[0]}:
        raise ValueError(
            f"`anchor` must have one batch for all or {key.shape[0]}, as many as `key`; got "
            f"{anchor.shape[0]}, shape {tuple(anchor.shape)}. Drop or expand its first axis."
        )
    check.require_choice(readout_power, "readout_power", (1, 2, 4))
    if scale is not None:
        check.require_number(scale, "scale")
    if isinstance(coupling, str):
        check.require_choice(coupling, "coupling", COUPLINGS)
    visibility = check.require_visibility(
        query, key, attn_mask=attn_mask, key_mask=key_mask, cu_seqlens=cu_seqlens,
        is_causal=is_causal,
    )  # fmt: skip
    sigma = COUPLINGS[coupling] if isinstance(coupling, str) else coupling
    return visibility, query.shape[-1] ** -0.5 if scale is None else scale, sigma


def _blanked(
    query: Tensor, key: Tensor, value: Tensor | None, anchor: Tensor, visibility: Visibility
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the inputs with padded keys set to 0, so that nothing stored there can leak."""
    _require_length(anchor, visibility)
    seen = visibility.seen_keys()
    if seen is not None:
        key, anchor = torch.where(seen, key, 0.0), torch.where(seen, anchor, 0.0)
        value = None if value is None else torch.where(seen, value, 0.0)
    if visibility.key_mask is not None and visibility.num_queries == visibility.num_keys:
        query = torch.where(visibility.key_mask[:, None, :, None], query, 0.0)
    named = {"query": query, "key": key, "anchor": anchor}
    for name, tensor in named.items():
        check.require_finite(tensor, name)
    if value is not None:
        check.require_finite(value, "value")
    return query, key, key if value is None else value, anchor


def _require_length(anchor: Tensor, visibility: Visibility) -> None:
    """Refuses anchors of length 0 where looking is free: they pull nowhere and read 1 always."""
    if torch.compiler.is_compiling() or anchor.device.type != "cpu":
        return
    short = (anchor.detach() == 0).all(-1, keepdim=True)
    seen = visibility.seen_keys()
    count = int((short if seen is None else short & seen).sum())
    if count:
        raise ValueError(
            f"`anchor` must have vectors of length above 0; got {count} of length 0. "
            f"Draw them from a normal distribution, or hide those keys with a mask."
        )
