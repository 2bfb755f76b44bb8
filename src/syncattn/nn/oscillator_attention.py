"""Oscillator attention with learned couplings and anchors."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._masks import segments
from syncattn._typing import Float, Tensor
from syncattn.functional import oscillator_attention, oscillator_attention_weights
from syncattn.functional.oscillator_attention import COUPLINGS
from syncattn.nn.heads import merge_heads, split_heads
from syncattn.nn.rotary import rotate
from syncattn.nn.synchrony import Synchrony

ANCHOR_NORMS = ("ball", "unit", "free")


class OscillatorAttention(nn.Module):
    r"""Free oscillators, one per token, settle among anchors, one per place, and are read out.

    Anchors are a table of places, so the length is limited by `max_positions`.

    Args:
        hidden_size: Width of the stream.
        num_heads: Number of heads; divides `hidden_size`.
        max_positions: Number of anchors, the longest sequence.
        oscillator_dim: :math:`m \ge 2`; 2 are Kuramoto phases.
        readout_power: 1 (affine), 2 or 4.
        coupling: ``"softplus"``, ``"relu"`` or ``"elu"``.
        anchor_norm: ``"ball"`` (norm at most 1), ``"unit"`` (as in the paper's statement) or
            ``"free"`` (as in the published code, where anchors leave the sphere).
        rotary_base: Base of the rotary position in the couplings; None for no position there.
        bias: Whether the output projection has a bias.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If `num_heads` does not divide `hidden_size` or a choice is unknown.

    References:
        | Attention by Synchronization in Coupled Oscillator Networks (arXiv 2606.12059)
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        max_positions: int,
        oscillator_dim: int = 8,
        readout_power: int = 1,
        coupling: str = "softplus",
        anchor_norm: str = "ball",
        rotary_base: float | None = 10_000.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        parts = num_heads if rotary_base is None else 2 * num_heads
        name = "num_heads" if rotary_base is None else "2 * num_heads"
        check.require_divisible(hidden_size, "hidden_size", parts, name)
        check.require_integer(max_positions, "max_positions", minimum=1)
        check.require_integer(oscillator_dim, "oscillator_dim", minimum=2)
        check.require_choice(readout_power, "readout_power", (1, 2, 4))
        check.require_choice(anchor_norm, "anchor_norm", ANCHOR_NORMS)
        check.require_choice(coupling, "coupling", COUPLINGS)
        self.num_heads = num_heads
        self.readout_power = readout_power
        self.coupling = coupling
        self.anchor_norm = anchor_norm
        self.rotary_base = rotary_base
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.o_proj = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.raw_anchor = nn.Parameter(torch.empty(num_heads, max_positions, oscillator_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the anchors uniformly on the sphere; the ball starts at norm 1 / 2 or above."""
        with torch.no_grad():
            self.raw_anchor.normal_()
            self.raw_anchor.div_(self.raw_anchor.norm(dim=-1, keepdim=True))

    def anchor(self, length: int) -> Float[Tensor, "1 heads length oscillator_dim"]:
        r"""Returns the anchors :math:`r_j` of the first places.

        Args:
            length: Number of places.

        Returns:
            Unit vectors, vectors in the unit ball (:math:`r = x / \sqrt{1 + |x|^2}`, scaled so that
            :math:`|x| = 1` gives 0.7), or the bare parameters.

        Raises:
            ValueError: If there are fewer anchors than places.
        """
        if length > self.raw_anchor.shape[1]:
            raise ValueError(
                f"`max_positions` must be at least the length of the sequence; got "
                f"{self.raw_anchor.shape[1]} anchors and {length} tokens. Build it with more."
            )
        raw = self.raw_anchor[None, :, :length]
        if self.anchor_norm == "free":
            return raw
        squared = raw.square().sum(-1, keepdim=True)
        if self.anchor_norm == "unit":
            return raw * squared.clamp(min=1e-12).rsqrt()
        return raw * (1 + squared).rsqrt()

    def forward(
        self, hidden_states: Float[Tensor, "batch length width"], **visibility: Any
    ) -> Float[Tensor, "batch length width"]:
        """Returns the mixed stream.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.
            **visibility: `attn_mask`, `key_mask`, `cu_seqlens`, `is_causal` as in the operator.

        Returns:
            ``(batch, length, hidden_size)``.
        """
        query, key = self._scores(hidden_states)
        value = split_heads(self.v_proj(hidden_states), self.num_heads)
        out = oscillator_attention(
            query, key, value, self._anchors(key, visibility), coupling=self.coupling,
            readout_power=self.readout_power, **visibility,
        )  # fmt: skip
        return self.o_proj(merge_heads(out))

    def synchrony(
        self, hidden_states: Float[Tensor, "batch length width"], **visibility: Any
    ) -> Synchrony:
        """Returns the weights, the order parameter of the drive and the attracted pairs.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.
            **visibility: See `forward`.

        Returns:
            The dense picture of the layer.
        """
        query, key = self._scores(hidden_states)
        weights, rho, near = oscillator_attention_weights(
            query, key, self._anchors(key, visibility), coupling=self.coupling,
            readout_power=self.readout_power, **visibility,
        )  # fmt: skip
        return Synchrony(weights, rho, near)

    def _scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        query = split_heads(self.q_proj(x), self.num_heads)
        key = split_heads(self.k_proj(x), self.num_heads)
        if self.rotary_base is None:
            return query, key
        return rotate(query, base=self.rotary_base), rotate(key, base=self.rotary_base)

    def _anchors(self, key: Tensor, visibility: dict[str, Any]) -> Tensor:
        """Returns the anchor of every key, its place counted among real tokens of its sequence."""
        length = key.shape[2]
        anchor = self.anchor(length).to(key.dtype)
        key_mask, cu_seqlens = visibility.get("key_mask"), visibility.get("cu_seqlens")
        if cu_seqlens is not None:
            place = torch.arange(length, device=key.device)
            start = cu_seqlens[segments(cu_seqlens, length)]
            return anchor[:, :, place - start]
        if key_mask is None:
            return anchor
        place = (key_mask.cumsum(-1) - 1).clamp(min=0)
        return anchor[0][:, place].transpose(0, 1)
