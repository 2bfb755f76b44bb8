"""Decoding with oscillator attention: what a layer keeps of the past, and one step on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from syncattn import _validation as check
from syncattn._autocast import without_autocast
from syncattn._masks import Visibility
from syncattn._typing import Float, Int, KeyMask, Keys, Tensor, Values
from syncattn.functional.decoding import (
    joined_mask,
    keywords,
    require_continued,
    require_croppable,
    step_options,
)
from syncattn.functional.oscillator_attention import (
    chosen,
    oscillator_attention,
    readout,
    settled_inputs,
)
from syncattn.functional.oscillator_inputs import Anchors, Inputs, Options, checked
from syncattn.functional.oscillator_prefix import Sums, anchor_sums, prefix_readout
from syncattn.functional.oscillator_settling import Equilibrium, initial_oscillators
from syncattn.functional.oscillators import widest

_KEYWORDS = keywords(oscillator_attention)


class OscillatorState(NamedTuple):
    """Everything that the past contributes to the next token.

    With the affine read-out, running sums stand for the values: their memory does not grow with
    the length. Keys and anchors are kept, for the drive needs every pair.

    Attributes:
        key: Keys of all tokens so far, ``(batch, heads, keys, dim)``.
        anchor: Their anchors, ``(batch, heads, keys, oscillator_dim)``.
        value: Their values, ``(batch, heads, keys, value_dim)``; None where sums are enough.
        sums: ``(batch, heads, oscillator_dim + 1, value_dim + 1)``; None where a weight of the
            read-out could be negative or is no affine function.
        key_mask: True where a token is real, ``(batch, keys)``; None for all.
        num_real: Number of real tokens, ``(batch,)``.
    """

    key: Keys
    anchor: Anchors
    value: Values | None
    sums: Sums | None
    key_mask: KeyMask | None
    num_real: Int[Tensor, " batch"]

    @property
    def length(self) -> int:
        """Tokens so far, padding included."""
        return self.key.shape[2]

    def select(self, index: Int[Tensor, " chosen"]) -> OscillatorState:
        """Returns the state of some sequences of the batch, as beam search reorders them.

        Args:
            index: Index of the sequence that each new one continues.
        """
        return self._map(lambda x: x.index_select(0, index))

    def crop(self, length: int) -> OscillatorState:
        """Returns the state as it was after the first tokens.

        Args:
            length: Tokens to keep, at least 1.

        Raises:
            TypeError: If `length` is not an integer.
            ValueError: If there are not so many tokens.
            RuntimeError: If the values were not kept.
        """
        require_croppable(length, self.length)
        if self.value is None:
            raise RuntimeError(
                "The values must have been kept to crop a state; got their sums alone. Pass "
                "`keep_values=True` in every step."
            )
        mask = None if self.key_mask is None else self.key_mask[:, :length]
        anchor, value = self.anchor[:, :, :length], self.value[:, :, :length]
        sums = None if self.sums is None else _sums(anchor, value, mask)
        count = torch.full_like(self.num_real, length) if mask is None else mask.sum(-1)
        return OscillatorState(self.key[:, :, :length], anchor, value, sums, mask, count)

    def detach(self) -> OscillatorState:
        """Returns the state without its history of gradients."""
        return self._map(torch.Tensor.detach)

    def _map(self, change: Callable[[Tensor], Tensor]) -> OscillatorState:
        changed = {name: change(x) for name, x in self._asdict().items() if x is not None}
        return self._replace(**changed)


def oscillator_attention_step(
    query: Keys,
    key: Keys,
    value: Values,
    anchor: Anchors,
    state: OscillatorState | None = None,
    *,
    key_mask: KeyMask | None = None,
    keep_values: bool = False,
    backend: str = "auto",
    **options: Any,
) -> tuple[Float[Tensor, "batch heads keys value_dim"], OscillatorState]:
    """Returns the outputs of the next tokens of a causal sequence, and the state after them.

    Token by token, in chunks of any size or at once, the outputs are those of the causal
    `oscillator_attention` of the whole sequence.

    Args:
        query: Queries of the new tokens, ``(batch, heads, new, dim)``.
        key: Their keys, ``(batch, heads, new, dim)``.
        value: Their values, ``(batch, heads, new, value_dim)``.
        anchor: Their anchors, ``(batch | 1, heads, new, oscillator_dim)``.
        state: The state that the step before returned; None at the start.
        key_mask: True where a new token is real, ``(batch, new)``, as in a batch padded on the
            left.
        keep_values: Whether the state holds the values even where sums are enough, so that it can
            be cropped; in every step or in none.
        backend: See `oscillator_attention`.
        **options: Other keywords of `oscillator_attention`: `coupling`, `scale`, `row_gain`,
            `mode`, `initial_oscillator` of the new tokens, `readout_power`, `readout_gain`,
            `anchor_bounded`.

    Returns:
        The outputs of the new tokens, and the state to pass to the next step.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit each other or the state, or a keyword contradicts
            decoding.
        BackendUnavailableError: If the backend asked for cannot run this call.
    """
    options = step_options(options, _KEYWORDS)
    _check_new(query, key, value, anchor, key_mask, state)
    new = key.shape[2]
    whole: dict[str, Any] = options | {"key_mask": key_mask, "is_causal": True}
    own = checked(query, key, value, anchor, Options(**whole))
    backend = chosen(own, backend)
    linear = own.options.readout_power == 1 and own.positive
    if state is not None and state.sums is None:
        linear = False
    _require_values(linear, keep_values, state)
    after = _after(state, own, (key, value, anchor), linear, keep_values)
    inputs = own._replace(
        key=after.key.to(own.key.dtype),
        anchor=after.anchor.to(own.anchor.dtype),
        value=None if after.value is None else after.value.to(own.key.dtype),
        visibility=Visibility(new, after.length, True, after.key_mask),
        readable=Visibility(new, after.length, True, after.key_mask),
        options=own.options._replace(initial_oscillator=_initial(own, key_mask, state)),
    )
    with without_autocast(query):
        x, _, _ = settled_inputs(inputs, backend)
        if linear:
            assert own.value is not None
            out = prefix_readout(
                x, own.anchor, own.value, gain=own.gain, visibility=own.visibility,
                before=None if state is None else state.sums,
            )  # fmt: skip
        else:
            out = readout(x, inputs, backend)
    check.require_computed(out, "query", "key", "scale", "readout_gain", "value")
    return out.to(value.dtype), after


def _after(
    state: OscillatorState | None,
    own: Inputs,
    tokens: tuple[Tensor, Tensor, Tensor],
    linear: bool,
    keep_values: bool,
) -> OscillatorState:
    """Returns the state after the new tokens, given by their keys, values and anchors as passed."""
    key, value, anchor = tokens
    batch, new, key_mask = key.shape[0], key.shape[2], own.options.key_mask
    count = torch.full((batch,), new, dtype=torch.long, device=key.device)
    count = count if key_mask is None else key_mask.sum(-1)
    values = None
    if keep_values or not linear:
        values = _joined(state and state.value, _blank(value, key_mask))
    return OscillatorState(
        key=_joined(state and state.key, _blank(key, key_mask)),
        anchor=_joined(state and state.anchor, _blank(anchor.expand(batch, -1, -1, -1), key_mask)),
        value=values,
        sums=_added(state, anchor, value, key_mask) if linear else None,
        key_mask=joined_mask(state, key_mask, key),
        num_real=count if state is None else count + state.num_real,
    )


def _check_new(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    anchor: Tensor,
    key_mask: Tensor | None,
    state: OscillatorState | None,
) -> None:
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        check.require_tensor(tensor, name, "batch heads new dim")
    check.require_same(key, "key", query, "query", 2, "tokens")
    if key.shape[2] == 0:
        raise ValueError(
            "`key` must hold at least one new token; got none. Skip the step: the state stays as "
            "it is."
        )
    check.require_new_mask(key_mask, key, 2)
    if state is None:
        return
    check.require_instance(
        state, "state", OscillatorState, "Pass what the step before returned, or None."
    )
    require_continued(state.key, "state.key", key, "key")
    check.require_tensor(anchor, "anchor", "batch heads new oscillator_dim")
    check.require_same(state.anchor, "state.anchor", anchor, "anchor", 3, "coordinates")
    if state.value is not None:
        check.require_same(state.value, "state.value", value, "value", 3, "coordinates")
    if state.sums is not None and state.sums.shape[-1] != value.shape[-1] + 1:
        raise ValueError(
            f"`value` must have as many coordinates as in the steps before; got {value.shape[-1]} "
            f"and {state.sums.shape[-1] - 1}. Pass values of one width."
        )
    check.require_together({"state.key": state.key, "key": key})


def _require_values(linear: bool, keep_values: bool, state: OscillatorState | None) -> None:
    if state is None or state.value is not None:
        return
    if not linear or keep_values:
        raise ValueError(
            "The state must hold the values unless every step reads out by sums alone; got a state "
            "without them. Begin with `keep_values=True`, or keep the mode, the power and a gain "
            "of at most 1."
        )


def _initial(own: Inputs, key_mask: Tensor | None, state: OscillatorState | None) -> Tensor | None:
    """Returns the initial states of the new tokens, drawn for their place in the sequence."""
    if own.options.initial_oscillator is not None or isinstance(own.mode, Equilibrium):
        return own.options.initial_oscillator
    batch, heads, new = own.query.shape[:3]
    real = own.query.new_ones(batch, new, dtype=torch.bool) if key_mask is None else key_mask
    place = real.cumsum(-1) - 1
    if state is not None:
        place = place + state.num_real[:, None]
    return initial_oscillators(place.clamp(min=0), heads, own.anchor.shape[-1])


def _blank(x: Tensor, key_mask: Tensor | None) -> Tensor:
    return x if key_mask is None else torch.where(key_mask[:, None, :, None], x, 0.0)


def _joined(old: Tensor | None, new: Tensor) -> Tensor:
    return new if old is None else torch.cat([old, new], 2)


def _sums(anchor: Tensor, value: Tensor, key_mask: Tensor | None) -> Tensor:
    dtype = widest(anchor, value)
    anchor, value = (_blank(x, key_mask).to(dtype) for x in (anchor, value))
    real = None if key_mask is None else key_mask[:, None, :, None].to(anchor.dtype)
    with without_autocast(value):
        return anchor_sums(anchor, value, real)


def _added(
    state: OscillatorState | None, anchor: Tensor, value: Tensor, key_mask: Tensor | None
) -> Tensor:
    new = _sums(anchor, value, key_mask)
    return new if state is None or state.sums is None else state.sums + new
