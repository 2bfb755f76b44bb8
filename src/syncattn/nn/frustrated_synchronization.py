"""Frustrated synchronization: the value path is one learned complex coupling kernel."""

from __future__ import annotations

from typing import Any, Unpack

from syncattn import _validation as check
from syncattn._typing import Tensor
from syncattn.functional import (
    PhaseState,
    frustrated_synchronization,
    frustrated_synchronization_step,
)
from syncattn.nn.coupling_kernel import CouplingKernel
from syncattn.nn.phase_coupling import PhaseCoupling, ScoreOptions


class FrustratedSynchronization(PhaseCoupling):
    r"""Kuramoto attention whose coupling is a kernel over harmonics and a one-step delay.

    The kernel :math:`\kappa_{sm} = a_{sm} e^{i\alpha_{sm}}` is `coupling_kernel`, where each
    coefficient can be read, set and frozen by name. Theory: FS-1 to FS-9.

    Args:
        hidden_size: Number of phases of a token.
        num_heads: Number of heads; divides `hidden_size`.
        num_harmonics: :math:`M \ge 1`.
        num_delays: 1 for the tokens seen alone, 2 for their successors too.
        delay_only: Couple to successors alone.
        repulsion: Whether coefficients may repel; False keeps all amplitudes at least 0.
        per_coordinate: One kernel per coordinate, or one per head.
        frustration: Whether static angles are learned; False fixes them at 0.
        step_size: Initial amplitude of the first harmonics.
        coupled: Share of a head's coordinates, evenly spread, that start coupled; the others keep
            the token's own phase until they learn otherwise. Needs `per_coordinate`.
        **score: `gate`, `gate_input`, `drift_base`, `exclude_self` and `sink`; see `PhaseCoupling`.
            A visible self takes the dense way when there is a delay, since its successor is the
            future.

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
        delay_only: bool = False,
        repulsion: bool = True,
        per_coordinate: bool = True,
        frustration: bool = True,
        step_size: float = 1.0,
        coupled: float = 0.5,
        **score: Unpack[ScoreOptions],
    ) -> None:
        super().__init__(hidden_size, num_heads, **score)
        check.require_integer(num_delays, "num_delays", minimum=1)
        if delay_only and num_delays < 2:
            raise ValueError(
                f"`delay_only` needs a delay to couple to; got `num_delays` {num_delays}. "
                f"Use 2, or leave `delay_only` out."
            )
        self.coupling_kernel = CouplingKernel(
            num_heads, num_delays, num_harmonics, hidden_size // num_heads if per_coordinate else 1,
            amplitude=step_size, coupled=coupled, repulsion=repulsion,
            learn_frustration=frustration, delay_only=delay_only,
        )  # fmt: skip

    def reset_parameters(self) -> None:
        """Starts at Kuramoto coupling of some coordinates to tokens and successors."""
        super().reset_parameters()
        self.coupling_kernel.reset_parameters()

    def _couple(self, theta: Tensor, gates: tuple[Tensor, Tensor], **visibility: Any) -> Tensor:
        return frustrated_synchronization(
            theta, theta, *gates, **self._kernel(), **self.score_options(theta),
            **visibility,
        )  # fmt: skip

    def _couple_step(
        self,
        theta: Tensor,
        gates: tuple[Tensor, Tensor],
        state: PhaseState | None,
        key_mask: Tensor | None,
    ) -> tuple[Tensor, PhaseState]:
        return frustrated_synchronization_step(
            theta, *gates, state, key_mask=key_mask, **self._kernel(),
            **self.score_options(theta),
        )  # fmt: skip

    def _kernel(self) -> dict[str, Tensor]:
        kernel = self.coupling_kernel
        return {"harmonic_amplitude": kernel.signed_amplitude, "frustration": kernel.frustration}
