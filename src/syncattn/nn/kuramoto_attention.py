"""Kuramoto attention with learned gates on a stream of phases."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from syncattn._typing import Tensor
from syncattn.functional import kuramoto_attention
from syncattn.nn.phase_coupling import PhaseCoupling


class KuramotoAttention(PhaseCoupling):
    r"""Tokens as phases on a torus: gated cosine scores couple them, sines move them.

    The state of a token is its phase; there is no value and no output projection, only the step
    :math:`\eta` of each head: :math:`\theta_t \leftarrow \theta_t + \eta \sum_u A_{tu}
    \sin(\theta_u - \theta_t)`.

    Args:
        hidden_size: Number of phases of a token.
        num_heads: Number of heads; divides `hidden_size`.
        gate: See `PhaseCoupling`.
        drift_base: See `PhaseCoupling`.
        exclude_self: See `PhaseCoupling`.

    References:
        | Kuramoto Attention: Synchronizing Self-Attention on the Torus (arXiv 2606.11585)
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        gate: str = "query-key",
        drift_base: float | None = 1_000.0,
        exclude_self: bool = True,
    ) -> None:
        super().__init__(
            hidden_size, num_heads, gate=gate, drift_base=drift_base, exclude_self=exclude_self
        )
        self.step_size = nn.Parameter(torch.ones(num_heads, 1, 1))

    def reset_parameters(self) -> None:
        """Starts with open gates and a step of 1."""
        super().reset_parameters()
        with torch.no_grad():
            self.step_size.fill_(1.0)

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
        return self.step_size * kuramoto_attention(
            theta, theta, query_gate, key_gate, natural_frequency=self.natural_frequency(theta),
            exclude_self=self.exclude_self, **visibility,
        )  # fmt: skip
