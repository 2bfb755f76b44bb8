"""The checked arguments of a gated cosine score, which the two torus operators share."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from syncattn import _validation as check
from syncattn import reference
from syncattn._masks import Visibility
from syncattn._typing import Float, Tensor
from syncattn.functional.oscillators import widest
from syncattn.functional.phase_drift import phase_drift
from syncattn.kernels.score import Score

QueryGate = Float[Tensor, "..."]
KeyGate = Float[Tensor, "..."]
Drift = Float[Tensor, " dim"]
Sink = Float[Tensor, " heads"]


class ScoreInputs(NamedTuple):
    """A score ready for the kernels, and what the definition wants besides.

    Attributes:
        score: Phases float32 at least, padding blanked, gates of the phases' shape.
        drift: Angle of the drift at every key's place, ``(keys, dim)``, or None.
    """

    score: Score
    drift: Tensor | None

    @property
    def visibility(self) -> Visibility:
        """Who sees whom."""
        return self.score.visibility

    def reference_weights(self) -> Tensor:
        """Returns the dense weights by the definition."""
        score = self.score
        phi_t, phi_u = score.query_phase, score.key_phase
        if self.drift is not None:
            phi_t, phi_u = phi_t + self.drift[score.visibility.offset :], phi_u + self.drift
        return reference.kuramoto_attention_weights(
            phi_t, phi_u, score.query_gate, score.key_gate, scale=score.scale, sink=score.sink,
            mask=score.visibility.dense(phi_t.device),
        )  # fmt: skip


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
    sink: Tensor | float | None,
    successors: bool = False,
    first_place: int = 0,
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
        sink: See `kuramoto_attention`.
        successors: Whether a token's own state is read as the successor of the one before it.
        first_place: Where the first key stands.

    Returns:
        The arguments, ready for a backend.
    """
    check.require_tensor(query_phase, "query_phase", "batch heads queries dim")
    check.require_tensor(key_phase, "key_phase", "batch heads keys dim")
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (-1, "coordinates")):
        check.require_same(query_phase, "query_phase", key_phase, "key_phase", axis, name)
    given = {"query_phase": query_phase, "key_phase": key_phase, "query_gate": query_gate,
             "key_gate": key_gate, "natural_frequency": natural_frequency,
             "sink": sink if isinstance(sink, torch.Tensor) else None}  # fmt: skip
    given = {name: x for name, x in given.items() if x is not None}
    for name, x in given.items():
        check.require_floating(x, name)
    check.require_together(given)
    check.require_coordinates(key_phase, "key_phase")
    visibility = check.require_visibility(
        query_phase, key_phase, attn_mask=attn_mask, key_mask=key_mask, cu_seqlens=cu_seqlens,
        is_causal=is_causal, exclude_self=exclude_self,
    )  # fmt: skip
    dtype = widest(query_phase, key_phase)
    theta_t, theta_u = query_phase.to(dtype), key_phase.to(dtype)
    g_t, g_u = _gate(query_gate, "query_gate", theta_t), _gate(key_gate, "key_gate", theta_u)
    seen = visibility.seen_keys(itself=successors)
    if query_phase is key_phase:
        theta_t = theta_u
    if seen is not None:
        theta_u, g_u = torch.where(seen, theta_u, 0.0), torch.where(seen, g_u, 0.0)
        if query_phase is key_phase and attn_mask is None:
            theta_t = theta_u
    square = visibility.num_queries == visibility.num_keys
    if visibility.key_mask is not None and (square or is_causal):
        # The queries are the last tokens of the keys, padding included.
        real = visibility.key_mask[:, None, visibility.offset :, None]
        theta_t = theta_t if theta_t is theta_u else torch.where(real, theta_t, 0.0)
        g_t = torch.where(real, g_t, 0.0)
    for name, tensor in {
        "query_phase": theta_t, "key_phase": theta_u, "query_gate": g_t, "key_gate": g_u
    }.items():  # fmt: skip
        if name != "key_phase" or tensor is not theta_t:
            _require_finite(tensor, name)
    drift = None
    if natural_frequency is not None:
        check.require_tensor(natural_frequency, "natural_frequency", "dim")
        check.require_same(
            query_phase, "query_phase", natural_frequency, "natural_frequency", -1, "coordinates"
        )
        if visibility.offset < 0:
            raise ValueError(
                f"`natural_frequency` needs at most as many queries as keys; got "
                f"{visibility.num_queries} and {visibility.num_keys}. Queries are the last tokens "
                f"of the keys: pass all keys, or no drift."
            )
        drift = phase_drift(
            natural_frequency, key_phase.shape[2], start=first_place, dtype=theta_t.dtype
        )
    if scale is not None:
        check.require_number(scale, "scale")
    factor = query_phase.shape[-1] ** -0.5 if scale is None else float(scale)
    turn = None if drift is None else (drift.cos(), drift.sin())
    b = _sink(sink, theta_t)
    return ScoreInputs(Score(theta_t, theta_u, g_t, g_u, turn, factor, b, visibility), drift)


def _gate(gate: Tensor | None, name: str, phase: Tensor) -> Tensor:
    """Returns a gate in the shape of the phases; open when None."""
    if gate is None:
        return phase.new_ones(()).expand_as(phase)
    return expanded(gate.to(phase.dtype), name, phase)


def expanded(gate: Tensor, name: str, phase: Tensor) -> Tensor:
    """Returns a gate in the shape of the phases.

    Args:
        gate: Broadcastable to `phase`.
        name: Its name.
        phase: The phases.

    Raises:
        TypeError: If it is not a floating tensor.
        ValueError: If it does not broadcast.
    """
    check.require_floating(gate, name)
    try:
        return gate.expand_as(phase)
    except RuntimeError:
        raise ValueError(
            f"`{name}` must broadcast to {tuple(phase.shape)}, batch, heads, length and dim; got "
            f"{tuple(gate.shape)}. Add axes of size 1 where it is shared."
        ) from None


def _sink(sink: Tensor | float | None, phase: Tensor) -> Tensor | None:
    """Returns the logit of attending to nothing of each head."""
    if sink is None:
        return None
    if not isinstance(sink, torch.Tensor):
        check.require_number(sink, "sink")
        return phase.new_full((phase.shape[1],), float(sink))
    check.require_tensor(sink, "sink", "heads")
    check.require_same(phase, "query_phase", sink[None], "sink", 1, "heads")
    check.require_finite(sink, "sink")
    return sink.to(phase.dtype)


def _require_finite(tensor: Tensor, name: str) -> None:
    """Refuses NaN and infinity in one pass without a copy where all is well."""
    if torch.compiler.is_compiling() or tensor.device.type != "cpu":
        return
    if not math.isfinite(tensor.detach().sum().item()):
        check.require_finite(tensor, name)
