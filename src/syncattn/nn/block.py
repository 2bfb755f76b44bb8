"""The two residual streams: Euclidean with norms before, and phases on a torus."""

from __future__ import annotations

from typing import Any

from torch import nn

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.nn.decoding import go_on
from syncattn.nn.synchrony import Synchrony

Stream = Float[Tensor, "batch length width"]


class EuclideanBlock(nn.Module):
    """Attention and feed-forward on a Euclidean stream, each behind an RMS norm.

    Args:
        attention: Module from stream to stream that takes the visibility by keyword.
        feedforward: Module from stream to stream, or None.
        hidden_size: Width of the stream.
        eps: Epsilon of the norms.
    """

    def __init__(
        self, attention: nn.Module, feedforward: nn.Module | None, hidden_size: int, *, eps: float
    ) -> None:
        super().__init__()
        check.require_integer(hidden_size, "hidden_size", minimum=1)
        self.attention_norm = nn.RMSNorm(hidden_size, eps=eps)
        self.attention = attention
        self.feedforward_norm = None if feedforward is None else nn.RMSNorm(hidden_size, eps=eps)
        self.feedforward = feedforward

    def forward(self, hidden_states: Stream, **visibility: Any) -> Stream:
        """Returns the stream after one block.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.
            **visibility: Passed on to the attention.

        Returns:
            ``(batch, length, hidden_size)``.
        """
        x = hidden_states
        return self._fed_forward(x + self.attention(self.attention_norm(x), **visibility))

    def step(
        self,
        hidden_states: Stream,
        state: Any = None,
        *,
        key_mask: Tensor | None = None,
        croppable: bool = False,
    ) -> tuple[Stream, Any]:
        """Returns the stream of the next tokens after one block, and the state after them.

        Args:
            hidden_states: The new tokens alone, ``(batch, new, hidden_size)``.
            state: What the step before returned; None at the start.
            key_mask: True where a new token is real, ``(batch, new)``; None for all.
            croppable: Whether the state must be able to forget its last tokens.

        Returns:
            ``(batch, new, hidden_size)``, as the causal `forward` over everything would give, and
            the attention's state.
        """
        attention: Any = self.attention
        x = hidden_states
        normed = self.attention_norm(x)
        mixed, state = go_on(attention, normed, state, key_mask=key_mask, croppable=croppable)
        return self._fed_forward(x + mixed), state

    def synchrony(self, hidden_states: Stream, **visibility: Any) -> Synchrony:
        """Returns the dense picture of the block's attention.

        Args:
            hidden_states: The stream before the block.
            **visibility: Passed on to the attention.

        Returns:
            Weights, order parameter and locked pairs.
        """
        attention: Any = self.attention
        return attention.synchrony(self.attention_norm(hidden_states), **visibility)

    def _fed_forward(self, x: Tensor) -> Tensor:
        if self.feedforward is None or self.feedforward_norm is None:
            return x
        return x + self.feedforward(self.feedforward_norm(x))


class PhaseBlock(nn.Module):
    """Attention and feed-forward that move phases; a compact state needs no norm.

    Args:
        attention: Module from phases to increments that takes the visibility by keyword.
        feedforward: Module from phases to increments, or None.
    """

    def __init__(self, attention: nn.Module, feedforward: nn.Module | None) -> None:
        super().__init__()
        self.attention = attention
        self.feedforward = feedforward

    def forward(self, phase: Stream, **visibility: Any) -> Stream:
        """Returns the phases after one block.

        Args:
            phase: ``(batch, length, hidden_size)`` radians.
            **visibility: Passed on to the attention.

        Returns:
            ``(batch, length, hidden_size)`` radians, not wrapped.
        """
        return self._fed_forward(phase + self.attention(phase, **visibility))

    def step(
        self,
        phase: Stream,
        state: Any = None,
        *,
        key_mask: Tensor | None = None,
        croppable: bool = False,
    ) -> tuple[Stream, Any]:
        """Returns the stream of the next tokens after one block, and the state after them.

        Args:
            phase: The new tokens alone, ``(batch, new, hidden_size)``.
            state: What the step before returned; None at the start.
            key_mask: True where a new token is real, ``(batch, new)``; None for all.
            croppable: Whether the state must be able to forget its last tokens.

        Returns:
            ``(batch, new, hidden_size)``, as the causal `forward` over everything would give, and
            the attention's state.
        """
        attention: Any = self.attention
        moved, state = go_on(attention, phase, state, key_mask=key_mask, croppable=croppable)
        return self._fed_forward(phase + moved), state

    def synchrony(self, phase: Stream, **visibility: Any) -> Synchrony:
        """Returns the dense picture of the block's attention.

        Args:
            phase: The phases before the block.
            **visibility: Passed on to the attention.

        Returns:
            Weights, order parameter and locked pairs.
        """
        attention: Any = self.attention
        return attention.synchrony(phase, **visibility)

    def _fed_forward(self, phase: Tensor) -> Tensor:
        return phase if self.feedforward is None else phase + self.feedforward(phase)
