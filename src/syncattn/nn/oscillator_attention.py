"""Oscillator attention with learned couplings and anchors."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Bool, Float, Tensor
from syncattn.functional import oscillator_attention, oscillator_attention_weights
from syncattn.functional.oscillator_attention import oscillator_couplings
from syncattn.functional.oscillator_diagnostics import SettlingDiagnostics, settling_diagnostics
from syncattn.functional.oscillator_inputs import COUPLINGS, Coupling, token_places
from syncattn.functional.oscillator_settling import SettlingMode, settling_mode
from syncattn.functional.oscillator_state import OscillatorState, oscillator_attention_step
from syncattn.functional.oscillators import at_least_float32
from syncattn.nn.anchors import Anchors, build_anchors, require_places
from syncattn.nn.decay import without_decay
from syncattn.nn.decoding import require_step
from syncattn.nn.heads import merge_heads, split_heads
from syncattn.nn.oscillator_options import (
    OperatorOptions,
    checked_options,
    initial_bias,
    published,
)
from syncattn.nn.rotary import rotate
from syncattn.nn.stream import require_stream
from syncattn.nn.synchrony import Synchrony

Stream = Float[Tensor, "batch length width"]
Other = Float[Tensor, "batch other_length width"]


class OscillatorCouplings(NamedTuple):
    r"""What a layer programs into a star network: free oscillators among fixed anchors.

    Attributes:
        coupling: :math:`W_{ij} \ge 0`, ``(batch, heads, queries, keys)``; 0 where no link is.
        anchor: :math:`r_j`, ``(batch | 1, heads, keys, oscillator_dim)``.
        value: What is read out, ``(batch, heads, keys, value_dim)``.
        mask: True where oscillator i reads anchor j, broadcastable to the couplings; None for
            everywhere.
    """

    coupling: Float[Tensor, "batch heads queries keys"]
    anchor: Float[Tensor, "*#batch keys oscillator_dim"]
    value: Float[Tensor, "batch heads keys value_dim"]
    mask: Bool[Tensor, "*#batch queries keys"] | None


def _per_head(num_heads: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(num_heads))


class OscillatorAttention(nn.Module):
    r"""Free oscillators, one per token, settle among anchors, one per place, and are read out.

    All settling modes share the parameters: `mode` may be changed at any time, for example to run
    a layer trained at equilibrium for a finite time.

    Args:
        hidden_size: Width of the stream.
        num_heads: Number of heads; divides `hidden_size`.
        max_positions: Number of anchors of a table, the longest sequence; None where `anchors`
            has no limit.
        oscillator_dim: :math:`m \ge 2`; 2 are Kuramoto phases.
        anchors: ``"ball"`` (norm below 1), ``"unit"`` (as in the paper's statement) or ``"free"``
            (as in the published code) are tables of places; ``"content"``, ``"rotary"`` and
            ``"rotary-content"`` take any length. ``"ball"`` when None, ``"free"`` in the published
            form.
        coupling: ``"softplus"``, ``"relu"``, ``"elu"``, or a function to positive numbers.
        mode: ``"equilibrium"``, ``"settle(time)"``, ``"euler(num_steps, step)"`` or
            ``"ode(time)"``; see `syncattn.functional.settling_mode`.
        readout_power: 1 (affine), 2 or 4.
        readout_gain: Initial value of a learned gain of the read-out per head, without which no
            weight of n exceeds about 2 / n; None for none, fixed to 1. While a gain is at most 1
            every weight is positive, and the affine read-out takes linear time and no cache of
            values; above, it may be sharp and sparse.
        coupling_bias: Initial value of a learned bias per head on the scores, None for none.
            ``"auto"`` is -4 for softplus and elu, which are exponential there, so that few links
            can carry a drive; around 0 they are nearly linear, and a drive is the mean of many
            anchors. It is none for other couplings.
        rotary_base: Base of the rotary position in the couplings; None for no position there.
        bias: Whether the output projection has a bias; None for no but in the published form.
        variant: ``"default"`` or ``"paper"``, the authors' published layer.
        **operator_options: `row_gain`, `legacy_padding` and `backend`: see
            `syncattn.oscillator_attention`.

    Raises:
        TypeError: If a count is not an integer, or an option is unknown.
        ValueError: If `num_heads` does not divide `hidden_size`, the width of a head is odd with
            rotary positions, a choice is unknown, or an option is given that ``variant="paper"``
            fixes.

    References:
        | Attention by Synchronization in Coupled Oscillator Networks (arXiv 2606.12059)
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        max_positions: int | None = None,
        oscillator_dim: int = 8,
        anchors: str | None = None,
        coupling: Coupling = "softplus",
        mode: SettlingMode | str = "equilibrium",
        readout_power: int = 1,
        readout_gain: float | None = 1.0,
        coupling_bias: float | str | None = "auto",
        rotary_base: float | None = 10_000.0,
        bias: bool | None = None,
        variant: str = "default",
        **operator_options: Unpack[OperatorOptions],
    ) -> None:
        super().__init__()
        check.require_choice(variant, "variant", ("default", "paper"))
        options = checked_options(operator_options)
        if variant == "paper":
            fixed = published(
                bias=bias, rotary_base=rotary_base, readout_gain=readout_gain,
                coupling_bias=coupling_bias, row_gain=options.get("row_gain", False),
            )  # fmt: skip
            bias, rotary_base, readout_gain, coupling_bias = fixed["bias"], None, None, None
        anchors = ("free" if variant == "paper" else "ball") if anchors is None else anchors
        check.require_integer(num_heads, "num_heads", minimum=1)
        parts = num_heads if rotary_base is None else 2 * num_heads
        name = "num_heads" if rotary_base is None else "2 * num_heads"
        check.require_divisible(hidden_size, "hidden_size", parts, name)
        check.require_integer(oscillator_dim, "oscillator_dim", minimum=2)
        check.require_choice(readout_power, "readout_power", (1, 2, 4))
        if isinstance(coupling, str):
            check.require_choice(coupling, "coupling", COUPLINGS)
        if readout_gain is not None:
            check.require_number(readout_gain, "readout_gain", minimum=0.0, exclusive=True)
        self.num_heads = num_heads
        self.variant = variant
        self.readout_power = readout_power
        self.coupling = coupling
        self.rotary_base = rotary_base
        self.anchor_kind = anchors
        self.initial_gain = readout_gain
        self.initial_coupling_bias = initial_bias(coupling_bias, coupling)
        self.backend: str = options.pop("backend", "auto")
        self.options: dict[str, Any] = {"row_gain": False, "legacy_padding": False} | options
        self.mode = mode
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.o_proj = nn.Linear(hidden_size, hidden_size, bias=bool(bias))
        self.anchors = build_anchors(
            anchors, hidden_size, num_heads, oscillator_dim, max_positions=max_positions
        )
        self.readout_gain = None if readout_gain is None else _per_head(num_heads)
        self.coupling_bias = None if self.initial_coupling_bias is None else _per_head(num_heads)
        without_decay(self, "readout_gain", "coupling_bias")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the anchors again and sets gains and biases to their initial values."""
        self._anchors.reset_parameters()
        if self.readout_gain is not None and self.initial_gain is not None:
            nn.init.constant_(self.readout_gain, self.initial_gain)
        if self.coupling_bias is not None and self.initial_coupling_bias is not None:
            nn.init.constant_(self.coupling_bias, self.initial_coupling_bias)

    @property
    def mode(self) -> SettlingMode:
        """How the oscillators settle; may be set to a text or a mode at any time."""
        return self._mode

    @mode.setter
    def mode(self, mode: SettlingMode | str) -> None:
        self._mode = settling_mode(mode)

    def anchor(
        self, hidden_states: Stream, *, key_mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None, start: Tensor | None = None,
    ) -> Float[Tensor, "anchor_batch heads length oscillator_dim"]:  # fmt: skip
        r"""Returns the anchors :math:`r_j` that sit on a sequence.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.
            key_mask: True where a token is real; places are counted among these.
            cu_seqlens: Cumulative lengths of packed sequences.
            start: Real tokens before these, ``(batch,)``.

        Returns:
            ``(batch | 1, heads, length, oscillator_dim)`` in float32 or float64.
        """
        length = hidden_states.shape[1]
        require_places(self._anchors, self.anchor_kind, length)
        if self.options["legacy_padding"]:
            key_mask = None
        place = token_places(length, key_mask, cu_seqlens, hidden_states.device)
        if start is not None:
            place = (place if place.dim() == 2 else place[None]) + start[:, None]
        return self._anchors(hidden_states, place)

    def forward(
        self,
        hidden_states: Stream,
        *,
        encoder_hidden_states: Other | None = None,
        initial_oscillator: Tensor | None = None,
        **visibility: Any,
    ) -> Stream:
        """Returns the mixed stream.

        Args:
            hidden_states: ``(batch, length, hidden_size)``, the free oscillators.
            encoder_hidden_states: ``(batch, other_length, hidden_size)``, what the anchors sit on;
                the same stream when None. Couplings between two streams know no rotary position.
            initial_oscillator: Where the oscillators begin; see `syncattn.oscillator_attention`.
            **visibility: `attn_mask`, `key_mask`, `cu_seqlens`, `is_causal` as in the operator.

        Returns:
            ``(batch, length, hidden_size)``.
        """
        query, key, value, anchor = self._star(hidden_states, encoder_hidden_states, visibility)
        out = oscillator_attention(
            query, key, value, anchor, backend=self.backend,
            **self._operator_options(initial_oscillator), **visibility,
        )  # fmt: skip
        return self.project(out)

    def step(
        self,
        hidden_states: Float[Tensor, "batch new width"],
        state: OscillatorState | None = None,
        *,
        key_mask: Bool[Tensor, "batch new"] | None = None,
        keep_values: bool = False,
    ) -> tuple[Float[Tensor, "batch new width"], OscillatorState]:
        """Returns the outputs of the next tokens of causal sequences, and the state after them.

        Args:
            hidden_states: ``(batch, new, hidden_size)``, one token or more.
            state: What the step before returned; None at the start.
            key_mask: True where a new token is real, ``(batch, new)``; None for all.
            keep_values: Whether the state can be cropped; see `oscillator_attention_step`.

        Returns:
            ``(batch, new, hidden_size)``, as the causal `forward` over everything would give, and
            the state to pass to the next step.
        """
        require_step(hidden_states, state, key_mask)
        require_stream(hidden_states, self.q_proj.in_features, self.q_proj.weight)
        past = 0 if state is None else state.length
        require_places(self._anchors, self.anchor_kind, past + hidden_states.shape[1])
        query, key = self._scores(hidden_states, hidden_states, past)
        options = self._operator_options()
        if key_mask is None and (state is None or state.key_mask is None):
            # Nothing is padded, so nothing leaks.
            options["legacy_padding"] = False
        out, after = oscillator_attention_step(
            query, key, split_heads(self.v_proj(hidden_states), self.num_heads),
            self.anchor(
                hidden_states, key_mask=key_mask, start=None if state is None else state.num_real
            ),
            state, key_mask=key_mask, keep_values=keep_values, backend=self.backend,
            **options,
        )  # fmt: skip
        return self.project(out), after

    def synchrony(
        self, hidden_states: Stream, *, encoder_hidden_states: Other | None = None,
        **visibility: Any,
    ) -> Synchrony:  # fmt: skip
        """Returns the weights, the order parameter of the drive and the attracted pairs.

        Args:
            hidden_states: See `forward`.
            encoder_hidden_states: See `forward`.
            **visibility: See `forward`.

        Returns:
            The dense picture of the layer.
        """
        query, key, _, anchor = self._star(hidden_states, encoder_hidden_states, visibility)
        options = self._operator_options() | visibility
        return Synchrony(*oscillator_attention_weights(query, key, anchor, **options))

    def diagnostics(
        self, hidden_states: Stream, *, encoder_hidden_states: Other | None = None,
        angle: float = 0.01, **visibility: Any,
    ) -> SettlingDiagnostics:  # fmt: skip
        """Returns how every free oscillator settles: rate, order parameter, time, and warnings.

        Args:
            hidden_states: See `forward`.
            encoder_hidden_states: See `forward`.
            angle: Distance in radians from the equilibrium that counts as settled.
            **visibility: See `forward`.

        Returns:
            One entry per batch, head and token.
        """
        query, key, _, anchor = self._star(hidden_states, encoder_hidden_states, visibility)
        options = self._operator_options() | visibility
        return settling_diagnostics(query, key, anchor, angle=angle, **options)

    def couplings(
        self, hidden_states: Stream, *, encoder_hidden_states: Other | None = None,
        **visibility: Any,
    ) -> OscillatorCouplings:  # fmt: skip
        """Returns the star network that the layer programs for its input.

        Args:
            hidden_states: See `forward`.
            encoder_hidden_states: See `forward`.
            **visibility: See `forward`.

        Returns:
            Couplings, anchors, values and mask, in float32 at least.

        Raises:
            ValueError: If an argument does not fit, or finite numbers overflow.
        """
        star = self._star(hidden_states, encoder_hidden_states, visibility)
        options = self._operator_options() | visibility
        out = OscillatorCouplings(*oscillator_couplings(*star, **options))
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        for part in (out.coupling, out.anchor):
            check.require_computed(part, "hidden_states", of=source)
        return out

    def project(
        self, heads_output: Float[Tensor, "batch heads length value_dim"]
    ) -> Float[Tensor, "batch length width"]:
        """Returns the stream that the heads' outputs make: merged, then projected.

        Args:
            heads_output: ``(batch, heads, length, value_dim)``.

        Returns:
            ``(batch, length, hidden_size)``, in the dtype of the projection.
        """
        return self.o_proj(merge_heads(heads_output.to(self.o_proj.weight.dtype)))

    @property
    def _anchors(self) -> Anchors:
        # `nn.Module` types its children as modules alone.
        anchors: Any = self.anchors
        return anchors

    def _star(
        self, x: Tensor, other: Tensor | None, visibility: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns query, key, value and anchor."""
        source = x if other is None else other
        width, weight = self.q_proj.in_features, self.q_proj.weight
        require_stream(x, width, weight)
        require_stream(source, width, weight, name="encoder_hidden_states" if other is not None
                       else "hidden_states", **visibility)  # fmt: skip
        query, key = self._scores(x, source)
        value = split_heads(self.v_proj(source), self.num_heads)
        anchor = self.anchor(
            source, key_mask=visibility.get("key_mask"), cu_seqlens=visibility.get("cu_seqlens")
        )
        return query, key, value, anchor

    def _scores(self, x: Tensor, source: Tensor, past: int = 0) -> tuple[Tensor, Tensor]:
        """Returns queries and keys; a bias is more coordinates, 1 in every key."""
        query = split_heads(self.q_proj(x), self.num_heads)
        key = split_heads(self.k_proj(source), self.num_heads)
        if self.rotary_base is not None and source is x:
            query = rotate(query, base=self.rotary_base, offset=past)
            key = rotate(key, base=self.rotary_base, offset=past)
        if self.coupling_bias is None:
            return query, key
        bias = at_least_float32(self.coupling_bias) / self._scale
        parts = [bias.to(query.dtype)]
        if query.dtype in {torch.bfloat16, torch.float16}:
            # Scores are summed in float32: a second coordinate holds what rounding took.
            parts.append((bias - parts[0].to(bias.dtype)).to(query.dtype))
        added = torch.stack(parts, -1)[:, None].expand(*query.shape[:-1], -1)
        ones = torch.ones_like(key[..., : len(parts)])
        return torch.cat([query, added], -1), torch.cat([key, ones], -1)

    @property
    def _scale(self) -> float:
        return (self.q_proj.out_features // self.num_heads) ** -0.5

    def _operator_options(self, initial_oscillator: Tensor | None = None) -> dict[str, Any]:
        return self.options | {
            "mode": self.mode,
            "scale": self._scale,
            "coupling": self.coupling,
            "readout_power": self.readout_power,
            "readout_gain": 1.0 if self.readout_gain is None else self.readout_gain,
            "anchor_bounded": self._anchors.bounded,
            "initial_oscillator": initial_oscillator,
        }
