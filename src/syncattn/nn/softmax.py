"""The baseline: softmax attention with rotary position."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from syncattn import _validation as check
from syncattn import kernels
from syncattn._masks import Visibility
from syncattn._typing import Bool, Float, Tensor
from syncattn.functional.decoding import joined_mask, require_continued
from syncattn.nn.decoding import KeyValueState, require_step
from syncattn.nn.heads import merge_heads, split_heads
from syncattn.nn.rotary import rotate
from syncattn.nn.stream import require_stream
from syncattn.nn.synchrony import Synchrony


class SoftmaxAttention(nn.Module):
    r"""Softmax over scaled dot products of queries and keys turned by their positions.

    Args:
        hidden_size: Width of the stream.
        num_heads: Number of heads; divides `hidden_size`.
        rotary_base: Base of the rotary ladder; None for no position.
        bias: Whether the projections have a bias.

    Raises:
        ValueError: If `num_heads` does not divide `hidden_size`, or rotary heads have an odd size.

    References:
        | Attention Is All You Need (Vaswani et al., 2017)
        | RoFormer: Enhanced Transformer with Rotary Position Embedding (Su et al., 2021)
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        rotary_base: float | None = 10_000.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check.require_integer(num_heads, "num_heads", minimum=1)
        parts = num_heads if rotary_base is None else 2 * num_heads
        name = "num_heads" if rotary_base is None else "2 * num_heads"
        check.require_divisible(hidden_size, "hidden_size", parts, name)
        self.num_heads = num_heads
        self.rotary_base = rotary_base
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.o_proj = nn.Linear(hidden_size, hidden_size, bias=bias)

    def forward(
        self, hidden_states: Float[Tensor, "batch length width"], **visibility: Any
    ) -> Float[Tensor, "batch length width"]:
        """Returns the mixed stream.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.
            **visibility: `attn_mask`, `key_mask`, `cu_seqlens`, `is_causal` as in the operators.

        Returns:
            ``(batch, length, hidden_size)``.
        """
        query, key, seen = self._scores(hidden_states, visibility)
        value = split_heads(self.v_proj(hidden_states), self.num_heads)
        out = kernels.attend(query, key, value, scale=query.shape[-1] ** -0.5, visibility=seen)
        check.require_computed(out, "hidden_states")
        return self.o_proj(merge_heads(out))

    def step(
        self,
        hidden_states: Float[Tensor, "batch new width"],
        state: KeyValueState | None = None,
        *,
        key_mask: Bool[Tensor, "batch new"] | None = None,
    ) -> tuple[Float[Tensor, "batch new width"], KeyValueState]:
        """Returns the outputs of the next tokens of causal sequences, and the state after them.

        Args:
            hidden_states: ``(batch, new, hidden_size)``, one token or more.
            state: What the step before returned; None at the start.
            key_mask: True where a new token is real, ``(batch, new)``; None for all.

        Returns:
            ``(batch, new, hidden_size)``, as the causal `forward` over everything would give, and
            the state to pass to the next step.
        """
        require_step(hidden_states, state, key_mask)
        if state is not None:
            check.require_instance(
                state, "state", KeyValueState, "Pass what the step before returned, or None."
            )
        past = 0 if state is None else state.length
        query, key = self._rotated(hidden_states, past)
        if state is not None:
            check.require_together({"state.key": state.key, "hidden_states": hidden_states})
            require_continued(state.key, "state.key", key, "hidden_states")
        value = split_heads(self.v_proj(hidden_states), self.num_heads)
        mask = joined_mask(state, key_mask, hidden_states, 1)
        if state is not None:
            key, value = torch.cat([state.key, key], 2), torch.cat([state.value, value], 2)
        seen = check.require_visibility(query, key, key_mask=mask, is_causal=True)
        out = kernels.attend(query, key, value, scale=query.shape[-1] ** -0.5, visibility=seen)
        check.require_computed(out, "hidden_states")
        return self.o_proj(merge_heads(out)), KeyValueState(key, value, mask)

    def synchrony(
        self, hidden_states: Float[Tensor, "batch length width"], **visibility: Any
    ) -> Synchrony:
        """Returns the dense weights; softmax has no oscillators.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.
            **visibility: See `forward`.

        Returns:
            The weights alone.
        """
        query, key, seen = self._scores(hidden_states, visibility)
        identity = torch.eye(key.shape[2], dtype=query.dtype, device=query.device)
        identity = identity.expand(*key.shape[:2], -1, -1)
        scale = query.shape[-1] ** -0.5
        weights = kernels.attend(query, key, identity, scale=scale, visibility=seen)
        check.require_computed(weights, "hidden_states")
        return Synchrony(weights)

    def _scores(self, x: Tensor, visibility: dict[str, Any]) -> tuple[Tensor, Tensor, Visibility]:
        query, key = self._rotated(x, **visibility)
        return query, key, check.require_visibility(query, key, **visibility)

    def _rotated(self, x: Tensor, past: int = 0, **visibility: Any) -> tuple[Tensor, Tensor]:
        require_stream(x, self.q_proj.in_features, self.q_proj.weight, **visibility)
        query, key = (
            split_heads(project(x), self.num_heads) for project in (self.q_proj, self.k_proj)
        )
        if self.rotary_base is None:
            return query, key
        return (
            rotate(query, base=self.rotary_base, offset=past),
            rotate(key, base=self.rotary_base, offset=past),
        )
