"""Kuramoto attention: gated cosine scores couple phases, the coupling is the value path."""

from __future__ import annotations

from syncattn import _validation as check
from syncattn import kernels, reference
from syncattn._backends import choose_backend
from syncattn._typing import AttentionMask, Float, Int, KeyMask, Keys, Queries, Tensor
from syncattn._typing import Weights as WeightMatrix
from syncattn.functional.phase_backends import feature_dtype, phase_backends
from syncattn.functional.phase_score import Drift, KeyGate, QueryGate, Sink, score_inputs
from syncattn.kernels.kuramoto_attention import dense_weights


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
    sink: Sink | float | None = None,
    backend: str = "auto",
) -> Float[Tensor, "batch heads queries dim"]:
    r"""Returns the phase increment :math:`\sum_u A_{tu} \sin(\theta_u - \theta_t)`.

    .. math:: A_{tu} = \operatorname{softmax}_u\; s \sum_k g_{tk} g'_{uk}
              \cos\big(\theta_{tk} - \theta_{uk} + (t - u)\,\omega_k\big)

    The increment is the tangent part of the attention-weighted circular mean; a token that sees
    nothing does not move. Adding :math:`2\pi` to any phase changes nothing. Theory: KA-1 to KA-6.

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
        sink: :math:`b`, the logit of attending to nothing, of each head or one number: the weights
            get :math:`e^b` more in their denominator. Without it a row that sees one token alone
            follows it fully.
        backend: ``"auto"``, ``"sdpa"`` (linear memory, but for a mask of the pairs where some are
            padded or packed), ``"triton"`` (linear, one kernel on CUDA, without `attn_mask`) or
            ``"reference"``.

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
        exclude_self=exclude_self, scale=scale, sink=sink,
    )  # fmt: skip
    score = inputs.score
    candidates = phase_backends({"sdpa": (), "reference": ()}, score)
    chosen = choose_backend("kuramoto_attention", backend, candidates)
    if chosen == "reference":
        weights = inputs.reference_weights()
        out = reference.kuramoto_attention(weights, score.query_phase, score.key_phase)
    elif chosen == "triton":
        from syncattn.kernels import frustrated_synchronization_triton as triton

        out = triton.kuramoto_attention(score, feature_dtype(query_phase))
    else:
        out = kernels.kuramoto_attention(score)
    check.require_computed(out, "query_gate", "key_gate", "scale")
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
    sink: Sink | float | None = None,
) -> WeightMatrix:
    """Returns the dense weights of `kuramoto_attention`, rows that sum to 1 or see nothing.

    With a sink they sum to less than 1.

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
        sink: See `kuramoto_attention`.

    Returns:
        ``(batch, heads, queries, keys)``.
    """
    inputs = score_inputs(
        query_phase, key_phase, query_gate, key_gate, natural_frequency=natural_frequency,
        attn_mask=attn_mask, key_mask=key_mask, cu_seqlens=cu_seqlens, is_causal=is_causal,
        exclude_self=exclude_self, scale=scale, sink=sink,
    )  # fmt: skip
    weights = dense_weights(inputs.score)
    check.require_computed(weights, "query_gate", "key_gate", "scale")
    return weights
