"""The two residual streams: Euclidean with norms before, and phases on a torus."""

from __future__ import annotations

from typing import Any

from torch import nn

from syncattn._typing import Float, Tensor
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
        x = x + self.attention(self.attention_norm(x), **visibility)
        if self.feedforward is not None and self.feedforward_norm is not None:
            x = x + self.feedforward(self.feedforward_norm(x))
        return x

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
        phase = phase + self.attention(phase, **visibility)
        return phase if self.feedforward is None else phase + self.feedforward(phase)

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
