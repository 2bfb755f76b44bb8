"""What the two torus layers share: gates, drift and the picture of their weights."""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from torch import nn
from torch.nn.functional import softplus

from syncattn import _validation as check
from syncattn._typing import Bool, Float, Tensor
from syncattn.functional import PhaseState, kuramoto_attention_weights, rotary_drift
from syncattn.nn.decay import without_decay
from syncattn.nn.heads import HeadwiseLinear, merge_heads, split_heads
from syncattn.nn.phase_features import cosine_sine
from syncattn.nn.stream import require_stream
from syncattn.nn.synchrony import Synchrony

LOCKED_COSINE = 0.5 * 3**0.5
"""Mean cosine above which two tokens count as locked: their phases differ by less than π / 6."""
GATES = ("query-key", "query", "static", "signed")
GATE_INPUTS = ("head", "token")
SINKS = (None, "fixed", "learned")


class ScoreOptions(TypedDict, total=False):
    """What the torus layers take for their score; see `PhaseCoupling`.

    Attributes:
        gate: What a gate is.
        gate_input: Whose features it reads.
        drift_base: Base of the rotary drift.
        exclude_self: Whether a token is hidden from itself.
        sink: Whether a token may attend to nothing.
    """

    gate: str
    gate_input: str
    drift_base: float | None
    exclude_self: bool
    sink: str | None


class PhaseCoupling(nn.Module):
    r"""Gated cosine scores between tokens whose states are phases on a torus.

    Args:
        hidden_size: Number of phases of a token.
        num_heads: Number of heads; divides `hidden_size`.
        gate: ``"query-key"`` (both sides linear in the features :math:`[\cos\theta,
            \sin\theta]`, bias 1), ``"query"``, ``"static"`` (positive, one per head and
            coordinate) or ``"signed"``.
        gate_input: Whose features a gate reads: those of its own ``"head"``, or of the whole
            ``"token"``, with as many times the weights as there are heads.
        drift_base: Base of the rotary drift; None for no position.
        exclude_self: Whether a token is hidden from itself.
        sink: Whether a token may attend to nothing: ``"fixed"`` at a logit of 0, ``"learned"`` from
            there, one per head; None for a plain softmax.

    Raises:
        ValueError: If `num_heads` does not divide `hidden_size`, or `gate`, `gate_input` or `sink`
            is unknown.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        gate: str = "query-key",
        gate_input: str = "head",
        drift_base: float | None = 1_000.0,
        exclude_self: bool = True,
        sink: str | None = None,
    ) -> None:
        super().__init__()
        check.require_integer(num_heads, "num_heads", minimum=1)
        check.require_divisible(hidden_size, "hidden_size", num_heads, "num_heads")
        check.require_choice(gate, "gate", GATES)
        check.require_choice(gate_input, "gate_input", GATE_INPUTS)
        check.require_choice(sink, "sink", SINKS)
        self.hidden_size = hidden_size
        self.num_heads = num_heads
        self.gate = gate
        self.gate_input = gate_input
        self.exclude_self = exclude_self
        dim = hidden_size // num_heads
        self.query_gate_proj = self.key_gate_proj = None
        self.raw_gate = None
        if gate in {"query", "query-key"}:
            self.query_gate_proj = self._gate_proj(hidden_size)
        if gate == "query-key":
            self.key_gate_proj = self._gate_proj(hidden_size)
        if gate in {"static", "signed"}:
            self.raw_gate = nn.Parameter(torch.empty(num_heads, 1, dim))
            without_decay(self, "raw_gate")
        if drift_base is not None:
            check.require_number(drift_base, "drift_base", minimum=1.0, exclusive=True)
        self.drift_base = drift_base
        self.sink = sink
        self.sink_logit = nn.Parameter(torch.empty(num_heads)) if sink == "learned" else None
        PhaseCoupling.reset_parameters(self)

    def reset_parameters(self) -> None:
        """Starts with open gates."""
        with torch.no_grad():
            if self.sink_logit is not None:
                self.sink_logit.zero_()
            if self.raw_gate is not None:
                self.raw_gate.fill_(1.0)
            for proj in (self.query_gate_proj, self.key_gate_proj):
                if proj is not None:
                    proj.weight.normal_(std=0.5 * proj.in_features**-0.5)
                    proj.bias.fill_(1.0)

    def natural_frequency(self, theta: Tensor) -> Tensor | None:
        """Returns the drift of each coordinate in radians per token, None without position.

        Args:
            theta: Phases of the heads, for their size and device.

        Returns:
            ``(dim,)`` in float32.
        """
        if self.drift_base is None:
            return None
        return rotary_drift(theta.shape[-1], base=self.drift_base).to(theta.device)

    def forward(
        self, phase: Float[Tensor, "batch length width"], **visibility: Any
    ) -> Float[Tensor, "batch length width"]:
        """Returns the phase increment, radians.

        Args:
            phase: ``(batch, length, hidden_size)`` radians, any real value.
            **visibility: `attn_mask`, `key_mask`, `cu_seqlens`, `is_causal` as in the operator.

        Returns:
            ``(batch, length, hidden_size)``.
        """
        self._require(phase, "phase", **visibility)
        theta = split_heads(phase, self.num_heads)
        return merge_heads(self._couple(theta, self.gates(phase), **visibility))

    def step(
        self,
        phase: Float[Tensor, "batch new width"],
        state: PhaseState | None = None,
        *,
        key_mask: Bool[Tensor, "batch new"] | None = None,
    ) -> tuple[Float[Tensor, "batch new width"], PhaseState]:
        """Returns the increments of the next tokens of causal sequences, and the state after them.

        Args:
            phase: Those of the new tokens, ``(batch, new, hidden_size)`` radians, one or more.
            state: What the step before returned; None at the start.
            key_mask: True where a new token is real, ``(batch, new)``; None for all.

        Returns:
            ``(batch, new, hidden_size)``, as the causal `forward` over everything would give, and
            the state to pass to the next step.
        """
        if state is not None:
            remedy = "Pass what the step before returned, or None."
            check.require_instance(state, "state", PhaseState, remedy)
        self._require(phase, "phase")
        check.require_new_mask(key_mask, phase, 1)
        theta = split_heads(phase, self.num_heads)
        out, after = self._couple_step(theta, self.gates(phase), state, key_mask)
        return merge_heads(out), after

    def score_options(self, theta: Tensor) -> dict[str, Any]:
        """Returns what the operators want to know of the score besides gates and masks.

        Args:
            theta: Phases of the heads, for their size and device.

        Returns:
            Keyword arguments.
        """
        sink: Tensor | float | None = self.sink_logit
        return {
            "natural_frequency": self.natural_frequency(theta),
            "exclude_self": self.exclude_self,
            "sink": 0.0 if self.sink == "fixed" else sink,
        }

    def _couple(self, theta: Tensor, gates: tuple[Tensor, Tensor], **visibility: Any) -> Tensor:
        """Returns the increment of the heads' phases, ``(batch, heads, length, dim)``."""
        raise NotImplementedError

    def _couple_step(
        self,
        theta: Tensor,
        gates: tuple[Tensor, Tensor],
        state: PhaseState | None,
        key_mask: Tensor | None,
    ) -> tuple[Tensor, PhaseState]:
        """Returns the increment of new phases, and the state after them."""
        raise NotImplementedError

    def synchrony(self, phase: Float[Tensor, "batch length width"], **visibility: Any) -> Synchrony:
        r"""Returns the weights, the coherence each token sees and the attracted pairs.

        The order parameter of a row is :math:`|\sum_u A_{tu} e^{i\theta_{uk}}|`, averaged over
        coordinates, and NaN for a token that sees nothing; a pair is locked where the mean cosine
        of its phase differences exceeds `LOCKED_COSINE`.

        Args:
            phase: ``(batch, length, hidden_size)`` radians.
            **visibility: See `forward`.

        Returns:
            The dense picture of the layer.
        """
        self._require(phase, "phase", **visibility)
        theta = split_heads(phase, self.num_heads)
        weights = kuramoto_attention_weights(
            theta, theta, *self.gates(phase), **self.score_options(theta), **visibility
        )
        cos, sin = theta.cos(), theta.sin()
        coherence = torch.hypot(weights @ cos, weights @ sin).mean(-1)
        alignment = cos @ cos.mT + sin @ sin.mT
        coherence = torch.where(weights.sum(-1) > 0, coherence.clamp(max=1.0), torch.nan)
        # A weight can underflow to 0, so the weights do not tell what is visible.
        locked = (alignment > LOCKED_COSINE * theta.shape[-1]) & self._visible(theta, visibility)
        return Synchrony(weights, coherence, locked)

    def _require(self, phase: Tensor, name: str, **visibility: Any) -> None:
        weight = self.raw_gate if self.query_gate_proj is None else self.query_gate_proj.weight
        require_stream(phase, self.hidden_size, weight, name=name, **visibility)

    def _visible(self, theta: Tensor, visibility: dict[str, Any]) -> Tensor:
        seen = check.require_visibility(theta, theta, exclude_self=self.exclude_self, **visibility)
        mask = seen.dense(theta.device)
        return torch.ones((), dtype=torch.bool, device=theta.device) if mask is None else mask

    def _gate_proj(self, hidden_size: int) -> HeadwiseLinear | nn.Linear:
        if self.gate_input == "token":
            return nn.Linear(2 * hidden_size, hidden_size)
        dim = hidden_size // self.num_heads
        return HeadwiseLinear(self.num_heads, 2 * dim, dim)

    def gates(self, phase: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the gates of queries and keys, broadcastable to the heads' phases.

        Args:
            phase: ``(batch, length, hidden_size)`` radians.

        Returns:
            The two gates.
        """
        if self.raw_gate is not None:
            gate = softplus(self.raw_gate) if self.gate == "static" else self.raw_gate
            return gate, torch.ones_like(gate)
        assert self.query_gate_proj is not None
        own = self.gate_input == "head"
        theta = split_heads(phase, self.num_heads) if own else phase
        feature = cosine_sine(theta)
        query = self.query_gate_proj(feature)
        key = torch.ones_like(query) if self.key_gate_proj is None else self.key_gate_proj(feature)
        if own:
            return query, key
        return split_heads(query, self.num_heads), split_heads(key, self.num_heads)
