"""Frustrated synchronization: coupling through a complex kernel over harmonics and a delay."""

from __future__ import annotations

import torch

from syncattn import _validation as check
from syncattn import kernels, reference
from syncattn._backends import Requirement, choose_backend
from syncattn._masks import Visibility
from syncattn._typing import AttentionMask, Float, Int, KeyMask, Keys, Queries, Tensor
from syncattn.functional.phase_backends import feature_dtype, phase_backends
from syncattn.functional.phase_score import (
    Drift,
    KeyGate,
    QueryGate,
    ScoreInputs,
    Sink,
    score_inputs,
)

Kernel = Float[Tensor, "heads delays harmonics #dim"]


def frustrated_synchronization(
    query_phase: Queries,
    key_phase: Keys,
    query_gate: QueryGate | None = None,
    key_gate: KeyGate | None = None,
    *,
    harmonic_amplitude: Kernel,
    frustration: Kernel,
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
    r"""Returns the phase increment of a complex coupling kernel over harmonics and a delay.

    .. math:: \Delta\theta_t = \sum_{s,m} a_{sm} \sum_u A_{tu}
              \sin\big(m (\theta_{u+s} - \theta_t) + \alpha_{sm}\big)

    with the weights :math:`A` of `kuramoto_attention`. The term of delay s couples token t to the
    successors of the tokens it attends to; it counts only where :math:`u + s` is visible to t or is
    t itself, never across a boundary of packed sequences or beyond the end of the text. Theory:
    FS-1 to FS-8.

    Args:
        query_phase: ``(batch, heads, queries, dim)`` radians, any real value.
        key_phase: ``(batch, heads, keys, dim)``.
        query_gate: Gate of the queries, broadcastable to `query_phase`; 1 when None.
        key_gate: Gate of the keys; 1 when None.
        harmonic_amplitude: :math:`a_{sm}`, ``(heads, delays, harmonics, dim | 1)``; negative is
            repulsive.
        frustration: :math:`\alpha_{sm}` in radians, the same shape; a lead, where the systems of
            `syncattn.simulation` take a lag.
        natural_frequency: Drift in radians per token (rotary position); none when None.
        attn_mask: True where attention is allowed; broadcastable to (batch, heads, queries, keys).
        key_mask: True where a key is real, ``(batch, keys)``.
        cu_seqlens: Cumulative lengths of packed sequences (batch 1).
        is_causal: Hide the future; the queries are the last tokens of the keys.
        exclude_self: Hide each token from itself.
        scale: Factor of the score; the default is ``dim ** -0.5``.
        sink: Logit of attending to nothing; see `kuramoto_attention`.
        backend: ``"auto"``, ``"sdpa"`` (linear memory, but for a mask of the pairs where some are
            padded or packed), ``"triton"`` (linear, one kernel on CUDA), ``"dense"`` (any mask and
            any delay, at the memory of the weights) or ``"reference"``.

    Returns:
        The increment in radians, in the dtype of `query_phase`.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit or values are not finite.
        BackendUnavailableError: If the backend asked for cannot run this call.

    References:
        | Attention as Frustrated Synchronization (arXiv 2606.18694)
    """
    check.require_tensor(harmonic_amplitude, "harmonic_amplitude", "heads delays harmonics dim")
    inputs = score_inputs(
        query_phase, key_phase, query_gate, key_gate, natural_frequency=natural_frequency,
        attn_mask=attn_mask, key_mask=key_mask, cu_seqlens=cu_seqlens, is_causal=is_causal,
        exclude_self=exclude_self, scale=scale, sink=sink,
        successors=harmonic_amplitude.shape[1] > 1,
    )  # fmt: skip
    require_kernel(key_phase, harmonic_amplitude, frustration)
    delays = harmonic_amplitude.shape[1]
    # Strictly before t, a successor is at most t itself; without order, everybody is visible.
    ordered = is_causal and exclude_self
    unordered = not is_causal and cu_seqlens is None
    contained = Requirement(
        "no delay, or no `attn_mask` and either strict causality or no order at all",
        delays == 1 or (attn_mask is None and (ordered or unordered)),
    )
    one_step = Requirement("a delay of at most one step", delays <= 2)
    folded = (contained, one_step)
    others = {"sdpa": folded, "dense": (), "reference": ()}
    candidates = phase_backends(others, inputs.score, folded)
    chosen = choose_backend("frustrated_synchronization", backend, candidates)
    dtype = inputs.score.query_phase.dtype
    amplitude, alpha = harmonic_amplitude.to(dtype), frustration.to(dtype)
    out = _coupled(chosen, inputs, amplitude, alpha, feature_dtype(query_phase))
    check.require_computed(out, "query_gate", "key_gate", "scale", "harmonic_amplitude")
    return out.to(query_phase.dtype)


def _coupled(
    backend: str, inputs: ScoreInputs, amplitude: Tensor, alpha: Tensor, feature: torch.dtype
) -> Tensor:
    """Returns the increment that a backend computes."""
    score, visibility = inputs.score, inputs.visibility
    if backend == "sdpa":
        return kernels.frustrated_synchronization(score, amplitude, alpha)
    if backend == "triton":
        from syncattn.kernels import frustrated_synchronization_triton as triton

        return triton.frustrated_synchronization(score, amplitude, alpha, feature)
    reach = visibility._replace(exclude_self=False).dense(score.query_phase.device)
    if reach is not None:
        reach = reach | _itself(visibility, reach)
    if backend == "dense":
        return kernels.frustrated_synchronization_dense(score, amplitude, alpha, reach=reach)
    return reference.frustrated_synchronization(
        inputs.reference_weights(), score.query_phase, score.key_phase, amplitude, alpha,
        reach=reach,
    )  # fmt: skip


def _itself(visibility: Visibility, mask: Tensor) -> Tensor:
    rows = torch.arange(mask.shape[-2], device=mask.device) + visibility.offset
    own = rows[:, None] == torch.arange(mask.shape[-1], device=mask.device)
    real = visibility.key_mask
    return own if real is None else own & real[:, None, None, :]


def require_kernel(phase: Tensor, harmonic_amplitude: Tensor, frustration: Tensor) -> None:
    """Checks a kernel of coupling coefficients.

    Args:
        phase: What it couples, ``(batch, heads, keys, dim)``.
        harmonic_amplitude: See `frustrated_synchronization`.
        frustration: See there.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit or values are not finite.
    """
    check.require_tensor(frustration, "frustration", "heads delays harmonics dim")
    check.require_together({
        "phase": phase,
        "harmonic_amplitude": harmonic_amplitude,
        "frustration": frustration,
    })
    heads, dim = phase.shape[1], phase.shape[-1]
    for name, tensor in {
        "harmonic_amplitude": harmonic_amplitude, "frustration": frustration
    }.items():  # fmt: skip
        fits = tensor.shape[0] == heads and tensor.shape[3] in {1, dim} and 0 not in tensor.shape
        if not fits or tensor.shape != harmonic_amplitude.shape:
            raise ValueError(
                f"`{name}` must have shape (heads, delays, harmonics, dim or 1) with {heads} heads "
                f"and dim {dim}, alike for amplitude and frustration; got {tuple(tensor.shape)}. "
                f"Use at least one delay (0) and one harmonic."
            )
        check.require_finite(tensor, name)
