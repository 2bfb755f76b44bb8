"""Frustrated synchronization: the value path is one learned complex coupling kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Tensor
from syncattn.functional import frustrated_synchronization
from syncattn.nn.phase_coupling import PhaseCoupling


class FrustratedSynchronization(PhaseCoupling):
    r"""Kuramoto attention whose coupling is a kernel over harmonics and a one-step delay.

    The kernel is :math:`\kappa_{sm} = a_{sm} e^{i\alpha_{sm}}`: `harmonic_amplitude` (signed;
    negative is repulsive) and `frustration` (radians), ``(heads, delays, harmonics, dim)``.

    Args:
        hidden_size: Number of phases of a token.
        num_heads: Number of heads; divides `hidden_size`.
        num_harmonics: :math:`M \ge 1`.
        num_delays: 1 for the token itself, 2 for its successor too.
        per_coordinate: One kernel per coordinate, or one per head.
        gate: See `PhaseCoupling`.
        drift_base: See `PhaseCoupling`.
        exclude_self: See `PhaseCoupling`.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If a count is smaller than 1 or heads do not divide.

    References:
        | Attention as Frustrated Synchronization (arXiv 2606.18694)
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        num_harmonics: int = 2,
        num_delays: int = 2,
        per_coordinate: bool = True,
        gate: str = "query-key",
        drift_base: float | None = 1_000.0,
        exclude_self: bool = True,
    ) -> None:
        super().__init__(
            hidden_size, num_heads, gate=gate, drift_base=drift_base, exclude_self=exclude_self
        )
        check.require_integer(num_harmonics, "num_harmonics", minimum=1)
        check.require_integer(num_delays, "num_delays", minimum=1)
        width = hidden_size // num_heads if per_coordinate else 1
        shape = (num_heads, num_delays, num_harmonics, width)
        self.harmonic_amplitude = nn.Parameter(torch.empty(shape))
        self.frustration = nn.Parameter(torch.empty(shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts at Kuramoto coupling to the token and to its successor, hardly frustrated."""
        super().reset_parameters()
        with torch.no_grad():
            self.harmonic_amplitude.zero_()
            self.harmonic_amplitude[:, :, 0] = 1.0
            self.frustration.normal_(std=0.02)

    def couple(
        self, theta: Tensor, query_gate: Tensor, key_gate: Tensor, **visibility: Any
    ) -> Tensor:
        """Returns the increment of each head.

        Args:
            theta: ``(batch, heads, length, dim)`` radians.
            query_gate: Broadcastable to `theta`.
            key_gate: Broadcastable to `theta`.
            **visibility: See `forward`.

        Returns:
            The increment, like `theta`.
        """
        # No token of a short text has successors beyond its end.
        delays = max(2, theta.shape[2])
        return frustrated_synchronization(
            theta,
            theta,
            query_gate,
            key_gate,
            harmonic_amplitude=self.harmonic_amplitude[:, :delays],
            frustration=self.frustration[:, :delays],
            natural_frequency=self.natural_frequency(theta),
            exclude_self=self.exclude_self,
            **visibility,
        )
