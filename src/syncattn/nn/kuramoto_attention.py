"""Kuramoto attention with learned gates on a stream of phases."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Tensor
from syncattn.functional import PhaseState, kuramoto_attention, kuramoto_attention_step
from syncattn.nn.coupling_kernel import coupled_coordinates
from syncattn.nn.decay import without_decay
from syncattn.nn.phase_coupling import PhaseCoupling, ScoreOptions


class KuramotoAttention(PhaseCoupling):
    r"""Tokens as phases on a torus: gated cosine scores couple them, sines move them.

    The state of a token is its phase; there is no value and no output projection, only the step
    :math:`\eta` of each coordinate: :math:`\theta_t \leftarrow \theta_t + \eta \sum_u A_{tu}
    \sin(\theta_u - \theta_t)`.

    Args:
        hidden_size: Number of phases of a token.
        num_heads: Number of heads; divides `hidden_size`.
        step_size: Initial step of the coordinates that start coupled.
        coupled: Share of a head's coordinates, evenly spread, that start with it; the others start
            at 0 and keep the token's own phase. 1 is the published layer.
        **score: `gate`, `gate_input`, `drift_base`, `exclude_self` and `sink`; see `PhaseCoupling`.

    References:
        | Kuramoto Attention: Synchronizing Self-Attention on the Torus (arXiv 2606.11585)
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        step_size: float = 1.0,
        coupled: float = 0.5,
        **score: Unpack[ScoreOptions],
    ) -> None:
        super().__init__(hidden_size, num_heads, **score)
        check.require_number(step_size, "step_size")
        check.require_number(coupled, "coupled", minimum=0.0, maximum=1.0)
        self.initial_step_size = step_size
        self.coupled = coupled
        self.step_size = nn.Parameter(torch.empty(num_heads, 1, hidden_size // num_heads))
        without_decay(self, "step_size")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts with open gates and the initial step."""
        super().reset_parameters()
        with torch.no_grad():
            self.step_size.copy_(
                self.initial_step_size * coupled_coordinates(self.step_size, self.coupled)
            )

    def _couple(self, theta: Tensor, gates: tuple[Tensor, Tensor], **visibility: Any) -> Tensor:
        return self.step_size * kuramoto_attention(
            theta, theta, *gates, **self.score_options(theta), **visibility
        )

    def _couple_step(
        self,
        theta: Tensor,
        gates: tuple[Tensor, Tensor],
        state: PhaseState | None,
        key_mask: Tensor | None,
    ) -> tuple[Tensor, PhaseState]:
        out, after = kuramoto_attention_step(
            theta, *gates, state, key_mask=key_mask, **self.score_options(theta)
        )
        return self.step_size * out, after
