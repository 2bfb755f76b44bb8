"""Kuramoto attention: gated cosine scores couple phases, the coupling is the value path."""

from __future__ import annotations

import torch

from syncattn import _validation as check
from syncattn import kernels, reference
from syncattn._backends import choose_backend
from syncattn._masks import Visibility
from syncattn._typing import AttentionMask, Float, Int, KeyMask, Keys, Queries, Tensor
from syncattn._typing import Weights as WeightMatrix
from syncattn.functional.oscillators import at_least_float32

QueryGate = Float[Tensor, "..."]
KeyGate = Float[Tensor, "..."]
Drift = Float[Tensor, " dim"]


def kuramoto_attention(
    query_phase: Queries,
    key_phase: Keys,
    query_gate: QueryGate | None = None,
    key_gate: KeyGate | None = None,
    *,
    natural_frequency: Drift | None = None,
    attn_mask: AttentionMask | None = None,
    key_mask: KeyMask | None = None,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
    is_causal: bool = False,
    exclude_self: bool = True,
    scale: float | None = None,
    backend: str = "auto",
) -> Float[Tensor, "batch heads queries dim"]:
    r"""Returns the phase increment :math:`\sum_u A_{tu} \sin(\theta_u - \theta_t)`.

    .. math:: A_{tu} = \operatorname{softmax}_u\; s \sum_k g_{tk} g'_{uk}
              \cos\big(\theta_{tk} - \theta_{uk} + (t - u)\,\omega_k\big)

    The increment is the tangent part of the attention-weighted circular mean; a token that sees
    nothing does not move. Adding :math:`2\pi` to any phase changes nothing.

    Args:
        query_phase: ``(batch, heads, queries, dim)`` radians, any real value.
        key_phase: ``(batch, heads, keys, dim)``.
        query_gate: :math:`g_t`, broadcastable to `query_phase`; 1 when None.
        key_gate: :math:`g'_u`, broadcastable to `key_phase`; 1 when None.
        natural_frequency: :math:`\omega`, the drift in radians per token (rotary position); none
            when None.
        attn_mask: True where attention is allowed; broadcastable to (batch, heads, queries, keys).
        key_mask: True where a key is real, ``(batch, keys)``.
        cu_seqlens: Cumulative lengths of packed sequences (batch 1).
        is_causal: Hide the future; the queries are the last tokens of the keys.
        exclude_self: Hide each token from itself, where half the weight would sit on sin 0 = 0.
        scale: :math:`s`; the default is ``dim ** -0.5``.
        backend: ``"auto"``, ``"sdpa"`` (linear memory) or ``"reference"``.

    Returns:
        The increment in radians, in the dtype of `query_phase`.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit or values are not finite.
        BackendUnavailableError: If the backend asked for cannot run this call.

    References:
        | Kuramoto Attention: Synchronizing Self-Attention on the Torus (arXiv 2606.11585)
    """
    inputs = score_inputs(
        query_phase, key_phase, query_gate, key_gate, natural_frequency=natural_frequency,
        attn_mask=attn_mask, key_mask=key_mask, cu_seqlens=cu_seqlens, is_causal=is_causal,
        exclude_self=exclude_self, scale=scale,
    )  # fmt: skip
    chosen = choose_backend("kuramoto_attention", backend, {"sdpa": (), "reference": ()})
    theta_t, theta_u = inputs.query_phase, inputs.key_phase
    if chosen == "reference":
        weights = dense_weights(inputs)
        return reference.kuramoto_attention(weights, theta_t, theta_u).to(query_phase.dtype)
    out = kernels.kuramoto_attention(
        theta_t, theta_u, *inputs.features(), scale=inputs.scale, visibility=inputs.visibility
    )
    return out.to(query_phase.dtype)


def kuramoto_attention_weights(
    query_phase: Queries,
    key_phase: Keys,
    query_gate: QueryGate | None = None,
    key_gate: KeyGate | None = None,
    *,
    natural_frequency: Drift | None = None,
    attn_mask: AttentionMask | None = None,
    key_mask: KeyMask | None = None,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
    is_causal: bool = False,
    exclude_self: bool = True,
    scale: float | None = None,
) -> WeightMatrix:
    """Returns the dense weights of `kuramoto_attention`, rows that sum to 1 or see nothing.

    Args:
        query_phase: See `kuramoto_attention`.
        key_phase: See `kuramoto_attention`.
        query_gate: See `kuramoto_attention`.
        key_gate: See `kuramoto_attention`.
        natural_frequency: See `kuramoto_attention`.
        attn_mask: See `kuramoto_attention`.
        key_mask: See `kuramoto_attention`.
        cu_seqlens: See `kuramoto_attention`.
        is_causal: See `kuramoto_attention`.
        exclude_self: See `kuramoto_attention`.
        scale: See `kuramoto_attention`.

    Returns:
        ``(batch, heads, queries, keys)``.
    """
    return dense_weights(
        score_inputs(
            query_phase,
            key_phase,
            query_gate,
            key_gate,
            natural_frequency=natural_frequency,
            attn_mask=attn_mask,
            key_mask=key_mask,
            cu_seqlens=cu_seqlens,
            is_causal=is_causal,
            exclude_self=exclude_self,
            scale=scale,
        )
    )


class ScoreInputs:
    """The checked arguments of a gated cosine score, shared by the two torus operators.

    Attributes:
        query_phase: Phases of the queries, float32 at least, padding blanked.
        key_phase: Phases of the keys.
        query_gate: Gate of the queries, broadcastable to the phases.
        key_gate: Gate of the keys.
        drift: Radians per token of each coordinate, or None.
        scale: Factor of the score.
        visibility: Who sees whom.
    """

    def __init__(
        self,
        query_phase: Tensor,
        key_phase: Tensor,
        query_gate: Tensor,
        key_gate: Tensor,
        drift: Tensor | None,
        scale: float,
        visibility: Visibility,
    ) -> None:
        self.query_phase = query_phase
        self.key_phase = key_phase
        self.query_gate = query_gate
        self.key_gate = key_gate
        self.drift = drift
        self.scale = scale
        self.visibility = visibility

    def drifted(self) -> tuple[Tensor, Tensor]:
        """Returns the phases of queries and keys with the position's drift added."""
        if self.drift is None:
            return self.query_phase, self.key_phase
        visibility = self.visibility
        position = torch.arange(visibility.num_keys, device=self.key_phase.device)
        drift = position[:, None].to(self.drift.dtype) * self.drift
        return self.query_phase + drift[visibility.offset :], self.key_phase + drift

    def features(self) -> tuple[Tensor, Tensor]:
        """Returns the score as an inner product: gated cosines and sines of both sides."""
        phi_t, phi_u = self.drifted()
        g_t, g_u = self.query_gate, self.key_gate
        query = torch.cat([g_t * phi_t.cos(), g_t * phi_t.sin()], -1)
        key = torch.cat([g_u * phi_u.cos(), g_u * phi_u.sin()], -1)
        return query, key


def score_inputs(
    query_phase: Tensor,
    key_phase: Tensor,
    query_gate: Tensor | None,
    key_gate: Tensor | None,
    *,
    natural_frequency: Tensor | None,
    attn_mask: Tensor | None,
    key_mask: Tensor | None,
    cu_seqlens: Tensor | None,
    is_causal: bool,
    exclude_self: bool,
    scale: float | None,
    successors: bool = False,
) -> ScoreInputs:
    """Checks the arguments that Kuramoto attention and frustrated synchronization share.

    Args:
        query_phase: See `kuramoto_attention`.
        key_phase: See `kuramoto_attention`.
        query_gate: See `kuramoto_attention`.
        key_gate: See `kuramoto_attention`.
        natural_frequency: See `kuramoto_attention`.
        attn_mask: See `kuramoto_attention`.
        key_mask: See `kuramoto_attention`.
        cu_seqlens: See `kuramoto_attention`.
        is_causal: See `kuramoto_attention`.
        exclude_self: See `kuramoto_attention`.
        scale: See `kuramoto_attention`.
        successors: Whether a token's own state is read as the successor of the one before it.

    Returns:
        The arguments, ready for a backend.
    """
    check.require_tensor(query_phase, "query_phase", "batch heads queries dim")
    check.require_tensor(key_phase, "key_phase", "batch heads keys dim")
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (-1, "coordinates")):
        check.require_same(query_phase, "query_phase", key_phase, "key_phase", axis, name)
    given = {"query_phase": query_phase, "key_phase": key_phase, "query_gate": query_gate,
             "key_gate": key_gate, "natural_frequency": natural_frequency}  # fmt: skip
    check.require_together({name: x for name, x in given.items() if x is not None})
    visibility = check.require_visibility(
        query_phase, key_phase, attn_mask=attn_mask, key_mask=key_mask, cu_seqlens=cu_seqlens,
        is_causal=is_causal, exclude_self=exclude_self,
    )  # fmt: skip
    theta_t, theta_u = at_least_float32(query_phase), at_least_float32(key_phase)
    theta_t, theta_u = theta_t.to(theta_u.dtype), theta_u.to(theta_t.dtype)
    g_t, g_u = _gate(query_gate, "query_gate", theta_t), _gate(key_gate, "key_gate", theta_u)
    seen = visibility.seen_keys(itself=successors)
    if query_phase is key_phase:
        theta_t = theta_u
    if seen is not None:
        theta_u, g_u = torch.where(seen, theta_u, 0.0), torch.where(seen, g_u, 0.0)
    if visibility.key_mask is not None and visibility.num_queries == visibility.num_keys:
        real = visibility.key_mask[:, None, :, None]
        theta_t, g_t = torch.where(real, theta_t, 0.0), torch.where(real, g_t, 0.0)
    for name, tensor in {
        "query_phase": theta_t, "key_phase": theta_u, "query_gate": g_t, "key_gate": g_u
    }.items():  # fmt: skip
        check.require_finite(tensor, name)
    drift = natural_frequency
    if drift is not None:
        check.require_tensor(drift, "natural_frequency", "dim")
        check.require_same(
            query_phase, "query_phase", drift, "natural_frequency", -1, "coordinates"
        )
        check.require_finite(drift, "natural_frequency")
        drift = drift.to(theta_t.dtype)
    factor: float = query_phase.shape[-1] ** -0.5 if scale is None else scale
    check.require_number(factor, "scale")
    return ScoreInputs(theta_t, theta_u, g_t, g_u, drift, factor, visibility)


def _gate(gate: Tensor | None, name: str, phase: Tensor) -> Tensor:
    """Returns a gate in the shape of the phases; open when None."""
    if gate is None:
        return phase.new_ones(()).expand_as(phase)
    try:
        return gate.to(phase.dtype).expand_as(phase)
    except RuntimeError:
        raise ValueError(
            f"`{name}` must broadcast to {tuple(phase.shape)}, batch, heads, length and dim; got "
            f"{tuple(gate.shape)}. Add axes of size 1 where it is shared."
        ) from None


def dense_weights(inputs: ScoreInputs) -> Tensor:
    """Returns the dense softmax weights of checked arguments.

    Args:
        inputs: What `score_inputs` returned.

    Returns:
        ``(batch, heads, queries, keys)``.
    """
    phi_t, phi_u = inputs.drifted()
    return reference.kuramoto_attention_weights(
        phi_t,
        phi_u,
        inputs.query_gate,
        inputs.key_gate,
        scale=inputs.scale,
        mask=inputs.visibility.dense(phi_t.device),
    )
