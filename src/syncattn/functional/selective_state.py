"""Decoding with selective synchronization: what a layer keeps of the past, and one step on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Int, KeyMask, Keys, Tensor, Values
from syncattn.functional.decoding import (
    joined_mask,
    keywords,
    require_continued,
    require_croppable,
    step_options,
)
from syncattn.functional.oscillators import at_least_float32, coherence
from syncattn.functional.selective_decoding import few_rows
from syncattn.functional.selective_synchronization import selective_synchronization

_KEYWORDS = keywords(selective_synchronization)


class SynchronizationState(NamedTuple):
    """Everything that the past contributes to the next token.

    The coherence needs no phases of the past: sums of their cosines and sines are enough. The
    phases themselves are kept on request, for `crop` alone.

    Attributes:
        frequency: Natural frequencies of all tokens so far, ``(batch, heads, keys, dim)``.
        value: Their values, ``(batch, heads, keys, value_dim)``.
        key_mask: True where a token is real, ``(batch, keys)``; None for all.
        cosine: Sum of the cosines of the phases, ``(batch, heads, 1, phase_dim)``; None without
            phases.
        sine: Sum of their sines.
        num_real: Number of real tokens, ``(batch, 1, 1, 1)``.
        phase: Phases of all tokens so far, ``(batch, heads, keys, phase_dim)``; None unless asked
            for.
    """

    frequency: Keys
    value: Values
    key_mask: KeyMask | None
    cosine: Float[Tensor, "batch heads 1 phase_dim"] | None
    sine: Float[Tensor, "batch heads 1 phase_dim"] | None
    num_real: Float[Tensor, "batch 1 1 1"]
    phase: Float[Tensor, "batch heads keys phase_dim"] | None = None

    @property
    def length(self) -> int:
        """Tokens so far, padding included."""
        return self.frequency.shape[2]

    def select(self, index: Int[Tensor, " chosen"]) -> SynchronizationState:
        """Returns the state of some sequences of the batch, as beam search reorders them.

        Args:
            index: Index of the sequence that each new one continues.
        """
        return self._map(lambda x: x.index_select(0, index))

    def crop(self, length: int) -> SynchronizationState:
        """Returns the state as it was after the first tokens.

        Args:
            length: Tokens to keep, at least 1.

        Raises:
            TypeError: If `length` is not an integer.
            ValueError: If there are not so many tokens.
            RuntimeError: If the phases were not kept.
        """
        require_croppable(length, self.length)
        if self.cosine is not None and self.phase is None:
            raise RuntimeError(
                "The phases must have been kept to crop a state; got their sums alone. Pass "
                "`keep_phases=True` in every step."
            )
        mask = None if self.key_mask is None else self.key_mask[:, :length]
        frequency = self.frequency[:, :, :length]
        phase = None if self.phase is None else self.phase[:, :, :length]
        cosine, sine, count = _sums(phase, mask, frequency)
        return SynchronizationState(
            frequency, self.value[:, :, :length], mask, _last(cosine), _last(sine),
            count[:, :, -1:], phase,
        )  # fmt: skip

    def detach(self) -> SynchronizationState:
        """Returns the state without its history of gradients."""
        return self._map(torch.Tensor.detach)

    def _map(self, change: Callable[[Tensor], Tensor]) -> SynchronizationState:
        changed = {name: change(x) for name, x in self._asdict().items() if x is not None}
        return self._replace(**changed)


def selective_synchronization_step(
    frequency: Keys,
    value: Values,
    phase: Float[Tensor, "batch heads keys phase_dim"] | None = None,
    state: SynchronizationState | None = None,
    *,
    key_mask: KeyMask | None = None,
    keep_phases: bool = False,
    unbiased_order_parameter: bool = False,
    **options: Any,
) -> tuple[Float[Tensor, "batch heads keys value_dim"], SynchronizationState]:
    """Returns the outputs of the next tokens of a causal sequence, and the state after them.

    Token by token, in chunks of any size or at once, the outputs are those of the causal
    `selective_synchronization` of the whole sequence.

    Args:
        frequency: Natural frequencies of the new tokens, ``(batch, heads, new, dim)``.
        value: Their values, ``(batch, heads, new, value_dim)``.
        phase: Their phases in radians, ``(batch, heads, new, phase_dim)``; in every step or in
            none.
        state: The state that the step before returned; None at the start.
        key_mask: True where a new token is real, ``(batch, new)``, as in a batch padded on the
            left.
        keep_phases: Whether the state holds the phases too, so that it can be cropped; in every
            step or in none.
        unbiased_order_parameter: See `selective_synchronization`.
        **options: Other keywords of `selective_synchronization`: couplings, `top_k`, `smoothing`,
            `edge_floor`, `empty_rows`, `position_coordinate`, `backend`.

    Returns:
        The outputs of the new tokens, and the state to pass to the next step.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit each other or the state, values are out of range, or a
            keyword contradicts decoding.
        BackendUnavailableError: If the backend asked for cannot run this call.
    """
    options = step_options(options, _KEYWORDS)
    if phase is not None:
        check.require_tensor(phase, "phase", "batch heads new phase_dim")
    _check_new(frequency, value, phase, key_mask, state)
    cosine, sine, count = _sums(phase, key_mask, frequency, state)
    r = count.new_ones(frequency.shape[:3])
    if cosine is not None and sine is not None:
        r = coherence(count, cosine, sine, unbiased_order_parameter)
    after = SynchronizationState(
        frequency if state is None else torch.cat([state.frequency, frequency], 2),
        value if state is None else torch.cat([state.value, value], 2),
        joined_mask(state, key_mask, frequency),
        _last(cosine),
        _last(sine),
        count[:, :, -1:],
        _joined_phase(phase, state) if keep_phases else None,
    )
    out = few_rows(after.frequency, after.value, r, after.key_mask, options)
    if out is not None:
        check.require_computed(out, "frequency", "value")
        return out, after
    out = selective_synchronization(
        after.frequency[:, :, after.length - frequency.shape[2] :],
        after.frequency,
        after.value,
        order_parameter=r,
        key_mask=after.key_mask,
        is_causal=True,
        self_pairs=True,
        **options,
    )
    return out, after


def _check_new(
    frequency: Tensor,
    value: Tensor,
    phase: Tensor | None,
    key_mask: Tensor | None,
    state: SynchronizationState | None,
) -> None:
    check.require_tensor(frequency, "frequency", "batch heads new dim")
    check.require_tensor(value, "value", "batch heads new value_dim")
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (2, "tokens")):
        check.require_same(frequency, "frequency", value, "value", axis, name)
        if phase is not None:
            check.require_same(frequency, "frequency", phase, "phase", axis, name)
    if frequency.shape[2] == 0:
        raise ValueError(
            "`frequency` must hold at least one new token; got none. Skip the step: the state "
            "stays as it is."
        )
    check.require_coordinates(frequency, "frequency")
    together = {"frequency": frequency, "value": value} | (
        {} if phase is None else {"phase": phase}
    )
    check.require_together(together)
    check.require_new_mask(key_mask, frequency, 2)
    if state is None:
        return
    check.require_instance(
        state, "state", SynchronizationState, "Pass what the step before returned, or None."
    )
    check.require_together({"state.frequency": state.frequency, "frequency": frequency})
    require_continued(state.frequency, "state.frequency", frequency, "frequency")
    check.require_same(state.value, "state.value", value, "value", 3, "coordinates")
    if phase is not None and state.cosine is not None:
        check.require_same(state.cosine, "state.cosine", phase, "phase", 3, "coordinates")
    if (phase is None) != (state.cosine is None):
        given = "without" if phase is None else "with"
        raise ValueError(
            f"`phase` must be passed in every step of a sequence or in none; got a step {given} "
            f"it after one that differs. The sums of the state would be incomplete."
        )


def _sums(
    phase: Tensor | None,
    key_mask: Tensor | None,
    frequency: Tensor,
    state: SynchronizationState | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """Returns the sums of cosines and sines and the count of real tokens up to each row."""
    wide = at_least_float32(frequency)
    batch, _, new = frequency.shape[:3]
    real = wide.new_ones(batch, new) if key_mask is None else key_mask.to(wide.dtype)
    count = real[:, None, :, None].cumsum(2)
    if state is not None:
        count = count + state.num_real
    if phase is None:
        return None, None, count
    theta = at_least_float32(phase)
    if key_mask is not None:
        theta = torch.where(key_mask[:, None, :, None], theta, 0.0)
    check.require_finite(theta, "phase")
    weight = real[:, None, :, None].to(theta.dtype)
    cosine, sine = (theta.cos() * weight).cumsum(2), (theta.sin() * weight).cumsum(2)
    if state is not None:
        assert state.cosine is not None
        assert state.sine is not None
        cosine, sine = cosine + state.cosine, sine + state.sine
    return cosine, sine, count


def _last(rows: Tensor | None) -> Tensor | None:
    return None if rows is None else rows[:, :, -1:]


def _joined_phase(phase: Tensor | None, state: SynchronizationState | None) -> Tensor | None:
    if phase is None or state is None:
        return phase
    if state.phase is None:
        raise ValueError(
            "`keep_phases` must be the same in every step of a sequence; got True after a step "
            "without. Begin with it."
        )
    return torch.cat([state.phase, phase], 2)
