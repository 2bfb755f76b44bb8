"""Decoding on the torus: the phases of the past are what a layer keeps, and one step on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Int, KeyMask, Keys, Tensor
from syncattn.functional.decoding import (
    joined_mask,
    keywords,
    require_continued,
    require_croppable,
    step_options,
)
from syncattn.functional.frustrated_synchronization import (
    frustrated_synchronization,
    require_kernel,
)
from syncattn.functional.kuramoto_attention import kuramoto_attention
from syncattn.functional.phase_score import KeyGate, QueryGate, expanded, score_inputs
from syncattn.kernels.frustrated_synchronization import folding
from syncattn.kernels.growth import appended
from syncattn.kernels.kuramoto_attention import Fold, Unfold, tangent, unchanged
from syncattn.kernels.phase_decoding import Past, continued, remembered
from syncattn.kernels.score import Score

_KURAMOTO = keywords(kuramoto_attention)
_FRUSTRATED = keywords(frustrated_synchronization)


class PhaseState(NamedTuple):
    """Everything that the past contributes to the next tokens: phases and their gates.

    Attributes:
        phase: Phases of all tokens so far, ``(batch, heads, keys, dim)``.
        gate: Their gates as keys, of the same shape; None when open.
        key_mask: True where a token is real, ``(batch, keys)``; None for all.
        past: What attention reads of them, made from the rest by the first step that wants it and
            kept so that a step need not touch every token; None until then, or where a sink, a
            visible self, a longer delay or another backend rules it out.
    """

    phase: Keys
    gate: Keys | None
    key_mask: KeyMask | None
    past: Past | None = None

    @property
    def length(self) -> int:
        """Tokens so far, padding included."""
        return self.phase.shape[2]

    def select(self, index: Int[Tensor, " chosen"]) -> PhaseState:
        """Returns the state of some sequences of the batch, as beam search reorders them.

        Args:
            index: Index of the sequence that each new one continues.
        """
        return self._map(lambda x: x.index_select(0, index))

    def crop(self, length: int) -> PhaseState:
        """Returns the state as it was after the first tokens.

        Args:
            length: Tokens to keep, at least 1.

        Raises:
            TypeError: If `length` is not an integer.
            ValueError: If there are not so many tokens.
        """
        require_croppable(length, self.length)
        cropped = self._map(lambda x: x[:, :length] if x.dim() == 2 else x[:, :, :length])
        past = None if self.past is None else self.past.crop(length)
        return cropped._replace(past=past)

    def detach(self) -> PhaseState:
        """Returns the state without its history of gradients."""
        return self._map(torch.Tensor.detach)

    def _map(self, change: Callable[[Tensor], Tensor]) -> PhaseState:
        tensors = {"phase": self.phase, "gate": self.gate, "key_mask": self.key_mask}
        changed = {name: change(x) for name, x in tensors.items() if x is not None}
        past = None if self.past is None else Past(*map(change, self.past))
        return self._replace(**changed, past=past)


def kuramoto_attention_step(
    phase: Keys,
    query_gate: QueryGate | None = None,
    key_gate: KeyGate | None = None,
    state: PhaseState | None = None,
    *,
    key_mask: KeyMask | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "batch heads keys dim"], PhaseState]:
    """Returns the increments of the next tokens of a causal sequence, and the state after them.

    Token by token, in chunks of any size or at once, the increments are those of the causal
    `kuramoto_attention` of the whole sequence. Theory: KA-8.

    Args:
        phase: Phases of the new tokens in radians, ``(batch, heads, new, dim)``.
        query_gate: Their gates as queries, broadcastable to `phase`; 1 when None.
        key_gate: Their gates as keys; in every step or in none.
        state: The state that the step before returned; None at the start.
        key_mask: True where a new token is real, ``(batch, new)``, as in a batch padded on the
            left.
        **options: Other keywords of `kuramoto_attention`: `natural_frequency`, `exclude_self`,
            `scale`, `sink`, `backend`.

    Returns:
        The increments of the new tokens, and the state to pass to the next step.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit each other or the state, values are not finite, or a
            keyword contradicts decoding.
        BackendUnavailableError: If the backend asked for cannot run this call.
    """
    options = step_options(options, _KURAMOTO)
    after = _continued(phase, key_gate, state, key_mask)
    if _by_columns(phase, state, options, num_delays=1):
        return _next(phase, query_gate, state, after, options, lambda _: (unchanged, tangent))
    out = kuramoto_attention(
        phase, after.phase, query_gate, after.gate, key_mask=after.key_mask, is_causal=True,
        **options,
    )  # fmt: skip
    return out, after


def frustrated_synchronization_step(
    phase: Keys,
    query_gate: QueryGate | None = None,
    key_gate: KeyGate | None = None,
    state: PhaseState | None = None,
    *,
    key_mask: KeyMask | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "batch heads keys dim"], PhaseState]:
    """Returns the increments of the next tokens of a causal sequence, and the state after them.

    Token by token, in chunks of any size or at once, the increments are those of the causal
    `frustrated_synchronization` of the whole sequence. The last cached phase is not folded with
    the kernel, because its successor is not known yet. Theory: FS-9.

    Args:
        phase: Phases of the new tokens in radians, ``(batch, heads, new, dim)``.
        query_gate: Their gates as queries, broadcastable to `phase`; 1 when None.
        key_gate: Their gates as keys; in every step or in none.
        state: The state that the step before returned; None at the start.
        key_mask: True where a new token is real, ``(batch, new)``.
        **options: Other keywords of `frustrated_synchronization`: `harmonic_amplitude`,
            `frustration`, `natural_frequency`, `exclude_self`, `scale`, `sink`, `backend`.

    Returns:
        The increments of the new tokens, and the state to pass to the next step.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit each other or the state, values are not finite, or a
            keyword contradicts decoding.
        BackendUnavailableError: If the backend asked for cannot run this call.
    """
    options = step_options(options, _FRUSTRATED)
    after = _continued(phase, key_gate, state, key_mask)
    for name in ("harmonic_amplitude", "frustration"):
        if options.get(name) is not None:
            check.require_tensor(options[name], name, "heads delays harmonics dim")
    amplitude, frustration = options.get("harmonic_amplitude"), options.get("frustration")
    delays = 0 if amplitude is None else amplitude.shape[1]
    if amplitude is not None and frustration is not None:
        require_kernel(after.phase, amplitude, frustration)
        if _by_columns(phase, state, options, num_delays=delays):

            def folds(score: Score) -> tuple[Fold, Unfold]:
                a, alpha = (x.to(score.key_phase.dtype) for x in (amplitude, frustration))
                return folding(score, a * alpha.cos(), a * alpha.sin())

            return _next(phase, query_gate, state, after, options, folds)
    out = frustrated_synchronization(
        phase, after.phase, query_gate, after.gate, key_mask=after.key_mask, is_causal=True,
        **options,
    )  # fmt: skip
    return out, after


def _by_columns(
    phase: Tensor, state: PhaseState | None, options: dict[str, Any], *, num_delays: int
) -> bool:
    """Tells whether a step can go on from columns of the past; a prompt has better ways."""
    return (
        (state is not None or phase.shape[2] == 1)
        and options.get("sink") is None
        and options.get("exclude_self", True)
        and options.get("backend", "auto") in ("auto", "sdpa")
        and num_delays <= 2
    )


def _next(
    phase: Tensor,
    query_gate: Tensor | None,
    state: PhaseState | None,
    after: PhaseState,
    options: dict[str, Any],
    folds: Callable[[Score], tuple[Fold, Unfold]],
) -> tuple[Tensor, PhaseState]:
    """Returns the increments of new tokens from columns of the past, and the state with theirs."""
    rules = {name: options.get(name) for name in ("natural_frequency", "scale")}

    def score(first: int, stop: int | None, gate: Tensor | None) -> Score:
        chunk = after.phase[:, :, first:stop]
        return score_inputs(
            chunk, chunk, gate, None if after.gate is None else after.gate[:, :, first:stop],
            attn_mask=None, cu_seqlens=None, is_causal=True, exclude_self=True, sink=None,
            key_mask=None if after.key_mask is None else after.key_mask[:, first:stop],
            successors=True, first_place=first, **rules,
        ).score  # fmt: skip

    past, first = None, 0
    if state is not None:
        past, first = state.past, state.length - 1
        if past is None:
            before = score(0, state.length, None)
            past = remembered(before, folds(before)[0])
        if query_gate is not None:
            # The last token of the past only hands on its successor.
            query_gate = expanded(query_gate, "query_gate", phase)
            query_gate = torch.cat([torch.zeros_like(query_gate[:, :, :1]), query_gate], 2)
    now = score(first, None, query_gate)
    out, past = continued(now, past, after.key_mask, *folds(now))
    return out.to(phase.dtype), after._replace(past=past)


def _continued(
    phase: Tensor,
    key_gate: Tensor | None,
    state: PhaseState | None,
    key_mask: Tensor | None,
) -> PhaseState:
    """Returns the state with the new tokens at its end, without columns: these lack them."""
    _require_new(phase, key_gate, state, key_mask)
    gate = None if key_gate is None else expanded(key_gate, "key_gate", phase)
    if state is None:
        return PhaseState(phase, gate, key_mask)
    if gate is not None:
        assert state.gate is not None
        gate = appended(state.gate, gate)
    mask = joined_mask(state, key_mask, phase)
    return PhaseState(appended(state.phase, phase), gate, mask)


def _require_new(
    phase: Tensor, key_gate: Tensor | None, state: PhaseState | None, key_mask: Tensor | None
) -> None:
    check.require_tensor(phase, "phase", "batch heads new dim")
    if phase.shape[2] == 0:
        raise ValueError(
            "`phase` must hold at least one new token; got none. Skip the step: the state stays "
            "as it is."
        )
    check.require_new_mask(key_mask, phase, 2)
    if key_gate is not None:
        check.require_floating(key_gate, "key_gate")
        check.require_together({"phase": phase, "key_gate": key_gate})
    if state is None:
        return
    check.require_instance(
        state, "state", PhaseState, "Pass what the step before returned, or None."
    )
    check.require_together({"state.phase": state.phase, "phase": phase})
    require_continued(state.phase, "state.phase", phase, "phase")
    if (key_gate is None) != (state.gate is None):
        given = "without" if key_gate is None else "with"
        raise ValueError(
            f"`key_gate` must be passed in every step of a sequence or in none; got a step {given} "
            f"it after one that differs. The state would lack some gates."
        )
