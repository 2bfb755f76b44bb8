"""Decoding on the torus: the phases of the past are what a layer keeps, and one step on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Int, KeyMask, Keys, Tensor
from syncattn.functional.frustrated_synchronization import frustrated_synchronization
from syncattn.functional.kuramoto_attention import kuramoto_attention
from syncattn.functional.phase_score import KeyGate, QueryGate


class PhaseState(NamedTuple):
    """Everything that the past contributes to the next tokens: no keys and no values of its own.

    Attributes:
        phase: Phases of all tokens so far, ``(batch, heads, keys, dim)``.
        gate: Their gates as keys, of the same shape; None when open.
        key_mask: True where a token is real, ``(batch, keys)``; None for all.
    """

    phase: Keys
    gate: Keys | None
    key_mask: KeyMask | None

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
        check.require_integer(length, "length", minimum=1)
        if length > self.length:
            raise ValueError(
                f"`length` must be at most the tokens of the state; got {length} and "
                f"{self.length}. A state can only become shorter."
            )
        return self._map(lambda x: x[:, :length] if x.dim() == 2 else x[:, :, :length])

    def detach(self) -> PhaseState:
        """Returns the state without its history of gradients."""
        return self._map(torch.Tensor.detach)

    def _map(self, change: Callable[[Tensor], Tensor]) -> PhaseState:
        changed = {name: change(x) for name, x in self._asdict().items() if x is not None}
        return self._replace(**changed)


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
    after = _continued(phase, key_gate, state, key_mask, options)
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
    `frustrated_synchronization` of the whole sequence. The cached phases are not folded with the
    kernel, because the last token's successor is not known yet. Theory: FS-9.

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
    after = _continued(phase, key_gate, state, key_mask, options)
    out = frustrated_synchronization(
        phase, after.phase, query_gate, after.gate, key_mask=after.key_mask, is_causal=True,
        **options,
    )  # fmt: skip
    return out, after


def _continued(
    phase: Tensor,
    key_gate: Tensor | None,
    state: PhaseState | None,
    key_mask: Tensor | None,
    options: dict[str, Any],
) -> PhaseState:
    """Returns the state with the new tokens at its end."""
    for name in ("attn_mask", "cu_seqlens", "is_causal"):
        if name in options:
            raise ValueError(
                f"`{name}` must be left out in a decoding step, which is causal over one sequence "
                f"per row; got it. Use `key_mask` for padding."
            )
    _require_new(phase, key_gate, state, key_mask)
    gate = None if key_gate is None else key_gate.expand_as(phase)
    if state is None:
        return PhaseState(phase, gate, key_mask)
    if gate is not None:
        assert state.gate is not None
        gate = torch.cat([state.gate, gate], 2)
    mask = None
    if key_mask is not None or state.key_mask is not None:
        batch, new = phase.shape[0], phase.shape[2]
        parts = [
            torch.ones(batch, size, dtype=torch.bool, device=phase.device) if m is None else m
            for m, size in ((state.key_mask, state.length), (key_mask, new))
        ]
        mask = torch.cat(parts, 1)
    return PhaseState(torch.cat([state.phase, phase], 2), gate, mask)


def _require_new(
    phase: Tensor, key_gate: Tensor | None, state: PhaseState | None, key_mask: Tensor | None
) -> None:
    check.require_tensor(phase, "phase", "batch heads new dim")
    if phase.shape[2] == 0:
        raise ValueError(
            "`phase` must hold at least one new token; got none. Skip the step: the state stays "
            "as it is."
        )
    if key_mask is not None and key_mask.shape != (phase.shape[0], phase.shape[2]):
        raise ValueError(
            f"`key_mask` must have one entry for each new token, ({phase.shape[0]}, "
            f"{phase.shape[2]}); got {tuple(key_mask.shape)}. The state keeps the older ones."
        )
    if state is None:
        return
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (3, "coordinates")):
        check.require_same(state.phase, "state.phase", phase, "phase", axis, name)
    if (key_gate is None) != (state.gate is None):
        given = "without" if key_gate is None else "with"
        raise ValueError(
            f"`key_gate` must be passed in every step of a sequence or in none; got a step {given} "
            f"it after one that differs. The state would lack some gates."
        )
