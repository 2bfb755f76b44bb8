"""The Oscillatory Synchronization Network: blocks and language head around selective locking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Float, Int, Tensor
from syncattn.nn.selective_synchronization import SelectiveSynchronization
from syncattn.nn.stream import require_stream
from syncattn.nn.synchrony import Synchrony

INITIAL_STD = 0.02
"""Standard deviation of every weight of the published network at first."""
DEFAULT_OPTIONS: dict[str, Any] = {"frequency_gain": 0.1}
"""Options of the layer in the default variant: frequencies that learn as fast as the rest jump in
and out of lock, and the loss with them."""

Stream = Float[Tensor, "batch length width"]


class OscillatorySynchronizationBlock(nn.Module):
    """Selective synchronization and a feed-forward, each behind a LayerNorm.

    The feed-forward is linear, exact GELU, dropout, linear, dropout. The published block has
    1 + `num_heads` parameters more than a Transformer's block of the same size.

    Args:
        hidden_size: Width of the stream.
        num_heads: Number of heads; divides `hidden_size`.
        intermediate_size: Width of the feed-forward; ``4 * hidden_size`` when None.
        dropout: Probability; in the published variant of the attention weights too.
        variant: ``"default"`` or ``"paper"``.
        attention_options: More keyword arguments of `SelectiveSynchronization`.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If heads do not divide, or an option does not fit the variant.

    References:
        | Selective Synchronization Attention (arXiv 2602.14445)
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        intermediate_size: int | None = None,
        dropout: float = 0.1,
        variant: str = "default",
        attention_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check.require_divisible(hidden_size, "hidden_size", num_heads, "num_heads")
        intermediate_size = 4 * hidden_size if intermediate_size is None else intermediate_size
        check.require_integer(intermediate_size, "intermediate_size", minimum=1)
        check.require_number(dropout, "dropout", minimum=0.0, maximum=1.0)
        fixed: dict[str, Any] = {"dropout": dropout} if variant == "paper" else DEFAULT_OPTIONS
        options: dict[str, Any] = {"variant": variant} | fixed | dict(attention_options or {})
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.attention = SelectiveSynchronization(hidden_size, num_heads, **options)
        self.attention_dropout = nn.Dropout(dropout)
        self.feedforward_norm = nn.LayerNorm(hidden_size)
        self.feedforward = nn.Sequential(
            nn.Linear(hidden_size, intermediate_size),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(intermediate_size, hidden_size),
            nn.Dropout(dropout),
        )

    def forward(self, hidden_states: Stream, **visibility: Any) -> Stream:
        """Returns the stream after one block.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.
            **visibility: `attn_mask`, `key_mask`, `cu_seqlens`, `is_causal` as in the operator;
                the published network has none.

        Returns:
            ``(batch, length, hidden_size)``.

        Raises:
            ValueError: If finite numbers are so large that their norm overflows.
        """
        x = hidden_states
        require_stream(x, self.attention_norm.normalized_shape[0], self.attention_norm.weight)
        x = x + self.attention_dropout(self.attention(self.attention_norm(x), **visibility))
        x = x + self.feedforward(self.feedforward_norm(x))
        check.require_computed(x, "hidden_states", of=hidden_states)
        return x

    def synchrony(self, hidden_states: Stream, **visibility: Any) -> Synchrony:
        """Returns the dense picture of the block's attention.

        Args:
            hidden_states: The stream before the block.
            **visibility: See `forward`.

        Returns:
            Weights, order parameter and locked pairs.
        """
        norm = self.attention_norm
        require_stream(hidden_states, norm.normalized_shape[0], norm.weight)
        return self.attention.synchrony(self.attention_norm(hidden_states), **visibility)


class OscillatorySynchronizationNetwork(nn.Module):
    r"""Embedding, blocks, LayerNorm and a head tied to the embedding.

    The embedding is scaled by :math:`\sqrt{D}`. Every weight starts normal with standard deviation
    0.02 and every bias at 0; the couplings start at their own values, and in the default variant
    the frequencies and phases too, calibrated to lock: with 0.02 the published network mixes
    nothing at practical sizes. The published variant has no position: permuting the tokens permutes
    its output.

    Args:
        vocab_size: Number of tokens.
        hidden_size: Width of the stream and of the embedding.
        num_hidden_layers: Number of blocks.
        num_heads: See `OscillatorySynchronizationBlock`, as for all that follow.
        intermediate_size: Width of the feed-forward.
        dropout: Of the embedding too.
        variant: ``"default"`` or ``"paper"``.
        attention_options: Of every layer.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If heads do not divide, or an option does not fit the variant.

    References:
        | Selective Synchronization Attention (arXiv 2602.14445)
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        num_hidden_layers: int,
        num_heads: int,
        *,
        intermediate_size: int | None = None,
        dropout: float = 0.1,
        variant: str = "default",
        attention_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check.require_integer(vocab_size, "vocab_size", minimum=1)
        check.require_integer(hidden_size, "hidden_size", minimum=1)
        check.require_number(dropout, "dropout", minimum=0.0, maximum=1.0)
        check.require_integer(num_hidden_layers, "num_hidden_layers", minimum=1)
        self.embed_tokens = nn.Embedding(vocab_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            OscillatorySynchronizationBlock(
                hidden_size, num_heads, intermediate_size=intermediate_size, dropout=dropout,
                variant=variant, attention_options=attention_options,
            )
            for _ in range(num_hidden_layers)
        )  # fmt: skip
        self.norm = nn.LayerNorm(hidden_size)
        self.lm_head = nn.Linear(hidden_size, vocab_size, bias=False)
        self.lm_head.weight = self.embed_tokens.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws every weight again."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INITIAL_STD)
                bias: Tensor | None = getattr(module, "bias", None)
                if bias is not None:
                    nn.init.zeros_(bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, SelectiveSynchronization):
                if module.variant == "default":
                    module.reset_parameters()
                else:
                    module.reset_couplings()

    def forward(
        self, input_ids: Int[Tensor, "batch length"], **visibility: Any
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Returns the logits of every token.

        Args:
            input_ids: ``(batch, length)``.
            **visibility: `attn_mask`, `key_mask`, `cu_seqlens`, `is_causal` as in the operator;
                the published network has none.

        Returns:
            ``(batch, length, vocab_size)``.
        """
        x = self.dropout(self.embed(input_ids))
        for layer in self.layers:
            x = layer(x, **visibility)
        return self.lm_head(self.norm(x))

    def embed(self, input_ids: Int[Tensor, "batch length"]) -> Stream:
        """Returns the stream before the first block, without dropout.

        Args:
            input_ids: ``(batch, length)``.

        Returns:
            ``(batch, length, hidden_size)``.
        """
        return self.embed_tokens(input_ids) * self.embed_tokens.embedding_dim**0.5

    @torch.no_grad()
    def synchrony(
        self, input_ids: Int[Tensor, "batch length"], **visibility: Any
    ) -> list[Synchrony]:
        """Returns the dense picture of every layer, first to last.

        Args:
            input_ids: ``(batch, length)``.
            **visibility: See `forward`.

        Returns:
            One `Synchrony` per layer.
        """
        x = self.dropout(self.embed(input_ids))
        pictures: list[Synchrony] = []
        for layer in self.layers:
            assert isinstance(layer, OscillatorySynchronizationBlock)
            pictures.append(layer.synchrony(x, **visibility))
            x = layer(x, **visibility)
        return pictures
