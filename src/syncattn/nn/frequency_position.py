"""Position inside the natural frequency: a coordinate, a drift, or a learned table."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Bool, Float, Int, Tensor
from syncattn.functional.oscillator_inputs import token_places
from syncattn.functional.oscillators import at_least_float32
from syncattn.nn.decay import without_decay

POSITIONS = ("coordinate", "drift", "learned")


class FrequencyPosition(nn.Module):
    r"""Adds the place of a token to its natural frequency, without which place has no effect.

    ``"coordinate"`` appends :math:`g_h t`, so that a lock implies a distance of at most
    :math:`\rho_*/g_h` tokens: a hard window of each head. ``"drift"`` adds :math:`t v_h`.
    ``"learned"`` adds a table :math:`p_h(t)`, t counted among the real tokens of the sequence.

    Args:
        kind: One of the three.
        num_heads: Number of heads.
        frequency_dim: Coordinates of a head's frequency.
        window: Smallest and largest reach of the heads at first, in tokens; a single head has
            their geometric mean.
        max_positions: Rows of the table; needed by ``"learned"`` alone.

    Raises:
        TypeError: If `max_positions` is not an integer, or `window` not two numbers.
        ValueError: If `kind` is unknown, the table has no row, or the window is not positive.
    """

    def __init__(
        self,
        kind: str,
        num_heads: int,
        frequency_dim: int,
        *,
        window: tuple[float, float] = (4.0, 256.0),
        max_positions: int | None = None,
    ) -> None:
        super().__init__()
        check.require_choice(kind, "position", POSITIONS)
        self.kind = kind
        self.window = _checked_window(window)
        self.rate: nn.Parameter | None = None
        self.table: nn.Parameter | None = None
        if kind == "learned":
            if max_positions is None:
                raise ValueError(
                    "`max_positions` must be given with `position` 'learned', whose table has a "
                    "row per place; got None. Pass the longest length, or use 'coordinate'."
                )
            check.require_integer(max_positions, "max_positions", minimum=1)
            self.table = nn.Parameter(torch.empty(num_heads, max_positions, frequency_dim))
        else:
            width = frequency_dim if kind == "drift" else 1
            self.rate = nn.Parameter(torch.empty(num_heads, width))
        without_decay(self)

    def reset_parameters(self, cutoff: float, std: Float[Tensor, " heads"]) -> None:
        """Draws the rates for the window, or the table with the spread of the frequencies.

        Args:
            cutoff: Largest detuning that locks.
            std: Standard deviation of one coordinate of the table, per head.
        """
        with torch.no_grad():
            if self.table is not None:
                self.table.normal_().mul_(std.to(self.table)[:, None, None])
            if self.rate is None:
                return
            first, last = (math.log(width) for width in self.window)
            if len(self.rate) == 1:
                first = last = (first + last) / 2
            reach = torch.linspace(first, last, len(self.rate), device=self.rate.device).exp()
            direction = torch.randn_like(self.rate)
            if self.kind == "coordinate":
                direction = torch.ones_like(direction)
            direction = direction / direction.norm(dim=-1, keepdim=True)
            self.rate.copy_(direction * (cutoff / reach)[:, None])

    def forward(
        self,
        omega: Float[Tensor, "batch heads length dim"],
        key_mask: Bool[Tensor, "batch length"] | None = None,
        cu_seqlens: Int[Tensor, " ends"] | None = None,
        *,
        past: int = 0,
        past_real: Tensor | None = None,
    ) -> Float[Tensor, "batch heads length position_dim"]:
        """Returns the frequencies with their places, in float32 at least.

        Args:
            omega: ``(batch, heads, length, frequency_dim)``.
            key_mask: True where a token is real.
            cu_seqlens: Cumulative lengths of packed sequences.
            past: Tokens that came before these, when decoding.
            past_real: How many of them are real, ``(batch,)``; None for all.

        Returns:
            One coordinate more with ``"coordinate"``, else the same shape.

        Raises:
            ValueError: If the table has fewer rows than there are places.
        """
        # Rates and places in float32 at least: half precision cannot count beyond 256 tokens.
        omega = at_least_float32(omega)
        length = omega.shape[2]
        if self.table is not None:
            if past + length > self.table.shape[1]:
                raise ValueError(
                    f"`max_positions` must be at least the length of the sequence; got "
                    f"{self.table.shape[1]} rows and {past + length} tokens. Build it with more."
                )
            table = self.table.to(omega.dtype)
            place = token_places(length, key_mask, cu_seqlens, omega.device)
            place = place + (past if past_real is None else past_real.long()[:, None])
            return (
                omega + table[:, place].movedim(1, 0)
                if place.dim() == 2
                else (omega + table[:, place])
            )
        assert self.rate is not None
        # Only differences of places matter here, so padding and packing need no count.
        t = torch.arange(past, past + length, device=omega.device, dtype=omega.dtype)
        drift = t[:, None] * self.rate.to(omega.dtype)[:, None, :]
        if self.kind == "drift":
            return omega + drift
        return torch.cat([omega, drift.expand(omega.shape[0], -1, -1, -1)], -1)


def _checked_window(window: Any) -> tuple[float, float]:
    try:
        smallest, largest = window
    except (TypeError, ValueError):
        raise TypeError(
            f"`position_window` must be the smallest and the largest reach of the heads, in tokens;"
            f" got {window!r}. Pass (4.0, 256.0), for example."
        ) from None
    for width in (smallest, largest):
        check.require_number(width, "position_window", minimum=0.0, exclusive=True)
    return smallest, largest
