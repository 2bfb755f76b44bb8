"""Selective synchronization with learned frequencies, phases and couplings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import nn
from torch.nn.functional import dropout as drop

from syncattn import _validation as check
from syncattn._typing import Bool, Float, Tensor
from syncattn.functional import (
    SynchronizationState,
    selective_synchronization,
    selective_synchronization_step,
    selective_synchronization_weights,
)
from syncattn.functional.oscillators import visible_order_parameter
from syncattn.nn.calibration import frequency_std, squared_cutoff
from syncattn.nn.decay import without_decay
from syncattn.nn.decoding import require_step
from syncattn.nn.frequency_position import POSITIONS, FrequencyPosition
from syncattn.nn.heads import merge_heads, split_heads
from syncattn.nn.locking import locking_loss
from syncattn.nn.selective_checkpoint import load_author_layer
from syncattn.nn.selective_options import (
    OperatorOptions,
    checked_options,
    positive_coupling,
    require_published,
    targets_per_head,
)
from syncattn.nn.stream import require_stream
from syncattn.nn.synchrony import Synchrony

PAPER_COUPLING = math.log1p(math.e)
"""softplus(1): the published initial value of both the coupling strength and its decay."""
PHASE_STD = 0.5
"""Standard deviation of the phases at first, radians."""


class SelectiveSynchronization(nn.Module):
    r"""Tokens whose natural frequencies are near lock and exchange values; others get 0.

    The initial frequencies are calibrated so that `target_locked_fraction` of the pairs of a
    normalised Gaussian stream lock: the published initial values lock nothing at practical sizes.
    ``variant="paper"`` is the published layer: frequencies and phases of the width of a head,
    biases, one coupling strength for all heads, no position, the initial values of `nn.Linear`,
    and the published epsilons; options that it fixes are refused there.

    Args:
        hidden_size: Width of the stream, expected to have unit variance (after a norm).
        num_heads: Number of heads; divides `hidden_size`.
        variant: ``"default"`` or ``"paper"``.
        frequency_dim: Coordinates of a head's frequency; 8 when None. In few dimensions the
            locked fraction is a dial, in many a switch.
        frequency_gain: Factor between the projection and the frequencies, taken out of the initial
            weights. It leaves the layer at first as it is, but under Adam a gain of 0.1 is a ten
            times smaller learning rate of the frequencies, whose calibrated weights are small.
        target_locked_fraction: Share of pairs that lock at first, one number or one per head;
            0.3 when None. It speaks of the content: ``"coordinate"`` and ``"drift"`` lower it.
        position: ``"coordinate"`` adds :math:`g_h t` as one more coordinate of the frequency, so
            that a lock implies a distance of at most :math:`\rho_*/g_h` tokens; ``"drift"`` adds
            :math:`t v_h` to the frequency; ``"learned"`` adds a table; None leaves position out,
            as published.
        position_window: Smallest and largest reach in tokens of the heads at first.
        max_positions: Longest sequence; read by ``position="learned"`` alone.
        bias: Whether the value and output projections have a bias; False when None.
        per_head_coupling: Whether each head has a coupling strength of its own; True when None.
        dropout: Of the weights in training, rows not rescaled to sum 1, as published; above 0
            the dense matrix is formed in training.
        **operator_options: `top_k`, `smoothing`, `edge_floor`, `unbiased_order_parameter`,
            `empty_rows` and `backend`: see `syncattn.selective_synchronization`.

    Raises:
        TypeError: If a count is not an integer, or an option is unknown.
        ValueError: If heads do not divide, a target is not strictly between 0 and 1, or an
            option is given that ``variant="paper"`` fixes.

    References:
        | Selective Synchronization Attention (arXiv 2602.14445)
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        variant: str = "default",
        frequency_dim: int | None = None,
        frequency_gain: float = 1.0,
        target_locked_fraction: float | Sequence[float] | None = None,
        position: str | None = None,
        position_window: tuple[float, float] = (4.0, 256.0),
        max_positions: int | None = None,
        bias: bool | None = None,
        per_head_coupling: bool | None = None,
        dropout: float = 0.0,
        **operator_options: Unpack[OperatorOptions],
    ) -> None:
        super().__init__()
        check.require_divisible(hidden_size, "hidden_size", num_heads, "num_heads")
        check.require_choice(variant, "variant", ("default", "paper"))
        check.require_choice(position, "position", (None, *POSITIONS))
        check.require_number(dropout, "dropout", minimum=0.0, maximum=1.0)
        check.require_number(
            frequency_gain, "frequency_gain", minimum=0.0, maximum=1e6, exclusive=True
        )
        options = checked_options(operator_options)
        paper = variant == "paper"
        if paper:
            require_published(
                frequency_dim=frequency_dim, bias=bias, position=position,
                target_locked_fraction=target_locked_fraction,
                smoothing=options.get("smoothing") or None,
                per_head_coupling=per_head_coupling,
                frequency_gain=None if frequency_gain == 1 else frequency_gain,
                unbiased_order_parameter=options.get("unbiased_order_parameter") or None,
            )  # fmt: skip
            frequency_dim, bias, per_head_coupling = hidden_size // num_heads, True, False
        frequency_dim = 8 if frequency_dim is None else frequency_dim
        check.require_integer(frequency_dim, "frequency_dim", minimum=1)
        self.num_heads = num_heads
        self.variant = variant
        self.frequency_dim = frequency_dim
        self.frequency_gain = float(frequency_gain)
        self.target_locked_fraction = targets_per_head(
            0.3 if target_locked_fraction is None else target_locked_fraction, num_heads
        )
        self.position = position
        self.position_window = position_window
        self.dropout = dropout
        self.options: dict[str, Any] = {
            "variant": variant, "top_k": None, "smoothing": 0.0, "unbiased_order_parameter": False,
        } | options  # fmt: skip
        # Distances do not see a common frequency, nor the coherence a common phase: no bias,
        # but in the published form.
        self.frequency_proj = nn.Linear(hidden_size, num_heads * frequency_dim, bias=paper)
        self.phase_proj = nn.Linear(hidden_size, num_heads * frequency_dim, bias=paper)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=bool(bias))
        self.o_proj = nn.Linear(hidden_size, hidden_size, bias=bool(bias))
        strengths = () if per_head_coupling is False else (num_heads,)
        self.raw_coupling_strength = nn.Parameter(torch.empty(strengths))
        self.raw_coupling_decay = nn.Parameter(torch.empty(num_heads))
        without_decay(self, "raw_coupling_strength", "raw_coupling_decay")
        self.frequency_position = None
        if position is not None:
            self.frequency_position = FrequencyPosition(
                position, num_heads, frequency_dim, window=position_window,
                max_positions=max_positions,
            )  # fmt: skip
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Calibrates the frequencies to the target; the published form has those of `nn.Linear`."""
        self.reset_couplings()
        if self.variant == "paper":
            for projection in (self.frequency_proj, self.phase_proj, self.v_proj, self.o_proj):
                projection.reset_parameters()
            return
        # Phases of standard deviation 1/2 have the coherence exp(-1/8).
        rho_squared = squared_cutoff(PAPER_COUPLING, PAPER_COUPLING, math.exp(-(PHASE_STD**2) / 2))
        spread = [
            frequency_std(target, rho_squared, self.frequency_dim)
            for target in self.target_locked_fraction
        ]
        # Content and table share the variance, so that the target holds for their sum.
        share = 0.5 if self.position == "learned" else 1.0
        width = self.frequency_proj.in_features
        with torch.no_grad():
            weights = self.frequency_proj.weight.chunk(self.num_heads)
            for weight, s in zip(weights, spread, strict=True):
                weight.normal_(std=s * (share / width) ** 0.5 / self.frequency_gain)
            self.phase_proj.weight.normal_(std=PHASE_STD * width**-0.5)
        if self.frequency_position is not None:
            table_std = torch.tensor(spread, device="cpu") * (1 - share) ** 0.5
            self.frequency_position.reset_parameters(math.sqrt(rho_squared), table_std)

    def reset_couplings(self) -> None:
        """Sets the couplings to their published initial values."""
        with torch.no_grad():
            self.raw_coupling_strength.fill_(1.0)
            self.raw_coupling_decay.fill_(1.0)

    @property
    def coupling_strength(self) -> Float[Tensor, " heads"]:
        """The coupling strength :math:`K > 0` of each head."""
        return positive_coupling(self.raw_coupling_strength).expand(self.num_heads)

    @property
    def coupling_decay(self) -> Float[Tensor, " heads"]:
        """The coupling decay :math:`a > 0` of each head."""
        return positive_coupling(self.raw_coupling_decay)

    @property
    def position_rate(self) -> nn.Parameter | None:
        """The rates of ``"coordinate"``, ``(heads, 1)``, or ``"drift"``, ``(heads, dim)``."""
        return None if self.frequency_position is None else self.frequency_position.rate

    def natural_frequency(
        self,
        hidden_states: Float[Tensor, "batch length width"],
        *,
        key_mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        state: SynchronizationState | None = None,
    ) -> Float[Tensor, "batch heads length dim"]:
        """Returns the natural frequency of every token, position included.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.
            key_mask: True where a token is real; places of a table are counted among these.
            cu_seqlens: Cumulative lengths of packed sequences.
            state: What came before, when decoding.

        Returns:
            ``(batch, heads, length, frequency_dim)``, one more with a position coordinate.
        """
        omega = self._content_frequency(hidden_states)
        if self.frequency_position is None:
            return omega
        past = 0 if state is None else state.length
        past_real = None if state is None else state.num_real[:, 0, 0, 0]
        return self.frequency_position(omega, key_mask, cu_seqlens, past=past, past_real=past_real)

    def phase(
        self, hidden_states: Float[Tensor, "batch length width"]
    ) -> Float[Tensor, "batch heads length phase_dim"]:
        """Returns the phases of every token in radians.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.

        Returns:
            ``(batch, heads, length, frequency_dim)``.
        """
        return split_heads(self.phase_proj(hidden_states), self.num_heads)

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
        self._require(hidden_states, **visibility)
        value = split_heads(self.v_proj(hidden_states), self.num_heads)
        if self.training and self.dropout > 0:
            weights = drop(self.synchrony(hidden_states, **visibility).weights, self.dropout)
            out = (weights @ value.to(weights.dtype)).to(value.dtype)
            return self.o_proj(merge_heads(out))
        omega = self._frequency(hidden_states, visibility)
        out = selective_synchronization(
            omega,
            omega,
            value,
            self.phase(hidden_states),
            self_pairs=True,
            **self._operator_options(),
            **visibility,
        )
        return self.o_proj(merge_heads(out))

    def step(
        self,
        hidden_states: Float[Tensor, "batch new width"],
        state: SynchronizationState | None = None,
        *,
        key_mask: Bool[Tensor, "batch new"] | None = None,
    ) -> tuple[Float[Tensor, "batch new width"], SynchronizationState]:
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
        self._require(hidden_states)
        out, after = selective_synchronization_step(
            self.natural_frequency(hidden_states, key_mask=key_mask, state=state),
            split_heads(self.v_proj(hidden_states), self.num_heads),
            self.phase(hidden_states),
            state,
            key_mask=key_mask,
            keep_phases=True,
            **self._operator_options(),
        )
        return self.o_proj(merge_heads(out)), after

    def synchrony(
        self, hidden_states: Float[Tensor, "batch length width"], **visibility: Any
    ) -> Synchrony:
        """Returns the weights, the order parameter and the locked pairs.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.
            **visibility: See `forward`.

        Returns:
            The dense picture of the layer.
        """
        self._require(hidden_states, **visibility)
        omega = self._frequency(hidden_states, visibility)
        return Synchrony(
            *selective_synchronization_weights(
                omega,
                omega,
                self.phase(hidden_states),
                coupling_strength=self.coupling_strength,
                coupling_decay=self.coupling_decay,
                self_pairs=True,
                **{name: given for name, given in self.options.items() if name != "backend"},
                **visibility,
            )
        )

    def locking_loss(
        self,
        hidden_states: Float[Tensor, "batch length width"],
        *,
        num_pairs: int = 16,
        **visibility: Any,
    ) -> Float[Tensor, ""]:
        """Returns what keeps or brings the heads near their target locked fraction.

        Position is left out, as in the target.

        Args:
            hidden_states: ``(batch, length, hidden_size)``, what `forward` gets.
            num_pairs: Partners drawn for every token.
            **visibility: See `forward`.

        Returns:
            A scalar to add, with a small weight, to the loss; see `syncattn.nn.locking_loss`.
        """
        self._require(hidden_states, **visibility)
        omega = self._content_frequency(hidden_states)
        phase = self.phase(hidden_states).detach()
        seen = check.require_visibility(omega, omega, **visibility)
        real = seen.seen_keys()
        phase = phase if real is None else torch.where(real, phase, 0.0)
        return locking_loss(
            omega,
            coupling_strength=self.coupling_strength,
            coupling_decay=self.coupling_decay,
            order_parameter=visible_order_parameter(
                phase, seen, unbiased=self.options["unbiased_order_parameter"]
            ),
            target_locked_fraction=self.target_locked_fraction,
            key_mask=seen.key_mask,
            num_pairs=num_pairs,
        )

    def load_author_state_dict(self, state_dict: Mapping[str, Any], *, prefix: str = "") -> None:
        """Loads the weights of the authors' public code, all of them or none.

        Args:
            state_dict: Tensors named W_omega, W_theta, W_v and W_o, each with .weight and .bias,
                K and alpha. `syncattn.nn.read_author_state_dict` reads them from a file.
            prefix: Beginning of these names in the state of a whole network; other names are then
                passed over.
        """
        load_author_layer(self, state_dict, prefix=prefix)

    def _require(self, x: Tensor, **visibility: Any) -> None:
        projection = self.frequency_proj
        require_stream(x, projection.in_features, projection.weight, **visibility)

    def _content_frequency(self, x: Tensor) -> Tensor:
        omega = split_heads(self.frequency_proj(x), self.num_heads)
        return omega if self.frequency_gain == 1 else self.frequency_gain * omega

    def _frequency(self, x: Tensor, visibility: dict[str, Any]) -> Tensor:
        return self.natural_frequency(
            x, key_mask=visibility.get("key_mask"), cu_seqlens=visibility.get("cu_seqlens")
        )

    def _operator_options(self) -> dict[str, Any]:
        coordinate = self.frequency_dim if self.position == "coordinate" else None
        return self.options | {
            "coupling_strength": self.coupling_strength,
            "coupling_decay": self.coupling_decay,
            "position_coordinate": coordinate,
        }
