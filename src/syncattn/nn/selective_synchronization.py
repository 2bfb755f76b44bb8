"""Selective synchronization with learned frequencies, phases and couplings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import softplus

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.functional import selective_synchronization, selective_synchronization_weights
from syncattn.functional.oscillators import at_least_float32
from syncattn.nn.calibration import frequency_std, squared_cutoff
from syncattn.nn.heads import merge_heads, split_heads
from syncattn.nn.synchrony import Synchrony

PAPER_COUPLING = math.log1p(math.e)
"""softplus(1): the published initial value of both the coupling strength and its decay."""
PHASE_STD = 0.5
"""Standard deviation of the phases at first, radians."""


class SelectiveSynchronization(nn.Module):
    r"""Tokens whose natural frequencies are near lock and exchange values; others get 0.

    The initial frequencies are calibrated so that `target_locked_fraction` of the pairs of a
    normalised Gaussian stream lock: the published initial values lock nothing at practical sizes.

    Args:
        hidden_size: Width of the stream, expected to have unit variance (after a norm).
        num_heads: Number of heads; divides `hidden_size`.
        frequency_dim: Coordinates of a head's frequency.
        phase_dim: Channels of a head's phase; `frequency_dim` when None.
        target_locked_fraction: Share of pairs that lock at first, one number or one per head.
        position: ``"coordinate"`` adds :math:`g_h t` as one more coordinate of the frequency, so
            that a lock implies a distance of at most :math:`\rho_*/g_h` tokens; ``"drift"`` adds
            :math:`t v_h` to the frequency; None leaves position out, as published.
        position_window: Smallest and largest reach in tokens of the heads at first.
        bias: Whether the projections have a bias.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If heads do not divide, or a target is not strictly between 0 and 1.

    References:
        | Selective Synchronization Attention (arXiv 2602.14445)
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        frequency_dim: int = 8,
        phase_dim: int | None = None,
        target_locked_fraction: float | Sequence[float] = 0.3,
        position: str | None = None,
        position_window: tuple[float, float] = (4.0, 256.0),
        bias: bool = False,
    ) -> None:
        super().__init__()
        check.require_divisible(hidden_size, "hidden_size", num_heads, "num_heads")
        check.require_integer(frequency_dim, "frequency_dim", minimum=1)
        phase_dim = frequency_dim if phase_dim is None else phase_dim
        check.require_integer(phase_dim, "phase_dim", minimum=1)
        check.require_choice(position, "position", (None, "coordinate", "drift"))
        self.num_heads = num_heads
        self.frequency_dim = frequency_dim
        self.target_locked_fraction = _per_head(target_locked_fraction, num_heads)
        self.position = position
        self.position_window = position_window
        self.frequency_proj = nn.Linear(hidden_size, num_heads * frequency_dim, bias=False)
        # A common phase turns every oscillator alike and leaves the coherence as it is: no bias.
        self.phase_proj = nn.Linear(hidden_size, num_heads * phase_dim, bias=False)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.o_proj = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.raw_coupling_strength = nn.Parameter(torch.empty(num_heads))
        self.raw_coupling_decay = nn.Parameter(torch.empty(num_heads))
        self.position_rate = None
        if position is not None:
            width = frequency_dim if position == "drift" else 1
            self.position_rate = nn.Parameter(torch.empty(num_heads, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Calibrates the spread of the frequencies to the target locked fraction."""
        # Phases of standard deviation 1/2 have the coherence exp(-1/8).
        rho_squared = squared_cutoff(PAPER_COUPLING, PAPER_COUPLING, math.exp(-(PHASE_STD**2) / 2))
        with torch.no_grad():
            self.raw_coupling_strength.fill_(1.0)
            self.raw_coupling_decay.fill_(1.0)
            width = self.frequency_proj.in_features
            for weight, target in zip(
                self.frequency_proj.weight.chunk(self.num_heads),
                self.target_locked_fraction,
                strict=True,
            ):
                s = frequency_std(target, rho_squared, self.frequency_dim)
                weight.normal_(std=s * width**-0.5)
            self.phase_proj.weight.normal_(std=PHASE_STD * width**-0.5)
            if self.position_rate is not None:
                self._reset_position(math.sqrt(rho_squared))

    def _reset_position(self, cutoff: float) -> None:
        assert self.position_rate is not None
        smallest, largest = (math.log(w) for w in self.position_window)
        reach = torch.linspace(
            smallest, largest, self.num_heads, device=self.position_rate.device
        ).exp()
        direction = torch.randn_like(self.position_rate)
        if self.position == "coordinate":
            direction = torch.ones_like(direction)
        direction = direction / direction.norm(dim=-1, keepdim=True)
        self.position_rate.copy_(direction * (cutoff / reach)[:, None])

    @property
    def coupling_strength(self) -> Float[Tensor, " heads"]:
        """The coupling strength :math:`K > 0` of each head."""
        return softplus(self.raw_coupling_strength)

    @property
    def coupling_decay(self) -> Float[Tensor, " heads"]:
        """The coupling decay :math:`a > 0` of each head."""
        return softplus(self.raw_coupling_decay)

    def natural_frequency(
        self, hidden_states: Float[Tensor, "batch length width"]
    ) -> Float[Tensor, "batch heads length dim"]:
        """Returns the natural frequency of every token, position included.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.

        Returns:
            ``(batch, heads, length, frequency_dim)``, one more with a position coordinate.
        """
        omega = split_heads(self.frequency_proj(hidden_states), self.num_heads)
        if self.position_rate is None:
            return omega
        # Rates and places in float32 at least: half precision cannot count beyond 256 tokens.
        omega = at_least_float32(omega)
        t = torch.arange(omega.shape[2], device=omega.device, dtype=omega.dtype)
        drift = t[:, None] * self.position_rate.to(omega.dtype)[:, None, :]
        if self.position == "drift":
            return omega + drift
        return torch.cat([omega, drift.expand(omega.shape[0], -1, -1, -1)], -1)

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
        omega = self.natural_frequency(hidden_states)
        out = selective_synchronization(
            omega,
            omega,
            split_heads(self.v_proj(hidden_states), self.num_heads),
            split_heads(self.phase_proj(hidden_states), self.num_heads),
            coupling_strength=self.coupling_strength,
            coupling_decay=self.coupling_decay,
            **visibility,
        )
        return self.o_proj(merge_heads(out))

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
        omega = self.natural_frequency(hidden_states)
        return Synchrony(
            *selective_synchronization_weights(
                omega,
                omega,
                split_heads(self.phase_proj(hidden_states), self.num_heads),
                coupling_strength=self.coupling_strength,
                coupling_decay=self.coupling_decay,
                **visibility,
            )
        )


def _per_head(target: float | Sequence[float], num_heads: int) -> tuple[float, ...]:
    targets = (target,) * num_heads if isinstance(target, int | float) else tuple(target)
    if len(targets) != num_heads:
        raise ValueError(
            f"`target_locked_fraction` must be a number or one per head; got {len(targets)} values "
            f"and {num_heads} heads. Repeat or drop values."
        )
    for value in targets:
        check.require_number(
            value, "target_locked_fraction", minimum=0.0, maximum=1.0, exclusive=True
        )
    return targets
