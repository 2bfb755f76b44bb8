"""The protocol of decoding: one state per layer, one step that continues it."""

from __future__ import annotations

from inspect import signature
from typing import Any, NamedTuple, Protocol, runtime_checkable

from syncattn import _validation as check
from syncattn._typing import Bool, Float, Int, Tensor
from syncattn.functional.decoding import require_croppable


@runtime_checkable
class DecodingState(Protocol):
    """What the past contributes to the next tokens of every sequence of a batch.

    A state is never changed in place: every method returns another one. Tensors have the batch
    first.
    """

    @property
    def length(self) -> int:
        """Tokens so far, padding included."""
        ...

    def select(self, index: Int[Tensor, " chosen"]) -> DecodingState:
        """Returns the state of some sequences of the batch, in the order of `index`."""
        ...

    def crop(self, length: int) -> DecodingState:
        """Returns the state as it was after the first `length` tokens, ``1 <= length``."""
        ...


@runtime_checkable
class DecodingAttention(Protocol):
    """An attention module that can go on from a state.

    Token by token, in chunks of any size or at once, the outputs are those of the causal forward
    pass over the whole sequence with the whole `key_mask`.
    """

    def step(
        self,
        hidden_states: Float[Tensor, "batch new width"],
        state: Any = None,
        *,
        key_mask: Bool[Tensor, "batch new"] | None = None,
    ) -> tuple[Float[Tensor, "batch new width"], Any]:
        """Returns the outputs of the next tokens and the state after them.

        Args:
            hidden_states: The new tokens alone, one or more.
            state: What the step before returned; None at the start.
            key_mask: True where a new token is real, None for all.
        """
        ...


def go_on(
    attention: DecodingAttention,
    hidden_states: Float[Tensor, "batch new width"],
    state: Any,
    *,
    key_mask: Bool[Tensor, "batch new"] | None = None,
    croppable: bool = False,
) -> tuple[Float[Tensor, "batch new width"], Any]:
    """Returns the outputs of the next tokens and the state after them.

    Args:
        attention: A layer that can go on from a state.
        hidden_states: The new tokens alone.
        state: What the step before returned; None at the start.
        key_mask: True where a new token is real, None for all.
        croppable: Whether the state must be able to forget its last tokens. A layer whose running
            sums stand for the values keeps these then too.
    """
    if croppable and "keep_values" in signature(attention.step).parameters:
        keeping: Any = attention
        return keeping.step(hidden_states, state, key_mask=key_mask, keep_values=True)
    return attention.step(hidden_states, state, key_mask=key_mask)


class KeyValueState(NamedTuple):
    """Keys and values of the past, as softmax keeps them.

    Attributes:
        key: ``(batch, heads, keys, dim)``.
        value: ``(batch, heads, keys, value_dim)``.
        key_mask: True where a token is real, ``(batch, keys)``; None for all.
    """

    key: Tensor
    value: Tensor
    key_mask: Tensor | None

    @property
    def length(self) -> int:
        """Tokens so far, padding included."""
        return self.key.shape[2]

    def select(self, index: Int[Tensor, " chosen"]) -> KeyValueState:
        """Returns the state of some sequences of the batch.

        Args:
            index: Index of the sequence that each new one continues.
        """
        mask = None if self.key_mask is None else self.key_mask.index_select(0, index)
        return KeyValueState(
            self.key.index_select(0, index), self.value.index_select(0, index), mask
        )

    def crop(self, length: int) -> KeyValueState:
        """Returns the state as it was after the first tokens.

        Args:
            length: Tokens to keep.

        Raises:
            ValueError: If there are not so many.
        """
        require_croppable(length, self.length)
        mask = None if self.key_mask is None else self.key_mask[:, :length]
        return KeyValueState(self.key[:, :, :length], self.value[:, :, :length], mask)


def require_step(hidden_states: Tensor, state: Any, key_mask: Tensor | None) -> None:
    """Refuses new tokens that do not fit each other.

    Args:
        hidden_states: ``(batch, new, width)``.
        state: What came before.
        key_mask: ``(batch, new)``.

    Raises:
        ValueError: If there is no new token, or the mask has another shape.
        TypeError: If the mask is not boolean, or the state is none.
    """
    check.require_tensor(hidden_states, "hidden_states", "batch new width")
    if hidden_states.shape[1] == 0:
        raise ValueError(
            "`hidden_states` must hold at least one new token; got none. Skip the step: the state "
            "stays as it is."
        )
    if state is not None and not isinstance(state, DecodingState):
        raise TypeError(
            f"`state` must be what the step before returned, or None at the start; got "
            f"{type(state).__name__}. Start again with None."
        )
    check.require_new_mask(key_mask, hidden_states, 1)
