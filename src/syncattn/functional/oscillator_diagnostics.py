"""How well free oscillators settle: rate, order parameter, time, and who hardly settles at all."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from syncattn import _validation as check
from syncattn._autocast import without_autocast
from syncattn._typing import Bool, Float, Keys, Queries, Tensor
from syncattn.functional.oscillator_attention import chosen, settled_inputs
from syncattn.functional.oscillator_inputs import Anchors, Options, checked
from syncattn.functional.oscillator_settling import Settle, settling_mode

PerOscillator = Float[Tensor, "batch heads queries"]


class SettlingDiagnostics(NamedTuple):
    r"""How every free oscillator settles.

    Attributes:
        drive: :math:`K = |h|`, the rate of settling, ``(batch, heads, queries)``; the order
            parameter under row gain.
        order_parameter: :math:`\rho = |\sum_j W_j r_j| / \sum_j W_j`; at most the largest norm
            of an anchor. NaN for an oscillator that sees nothing, as in `settling_time`.
        settling_time: Time from the initial state to within the angle of the equilibrium; infinite
            without drive.
        near_degenerate: Whether the pulls nearly cancel.
        near_antipode: Whether the initial state is near the point that repels.
        coupled: Whether the oscillator sees any anchor; False ones are in no count.
    """

    drive: PerOscillator
    order_parameter: PerOscillator
    settling_time: PerOscillator
    near_degenerate: Bool[Tensor, "batch heads queries"]
    near_antipode: Bool[Tensor, "batch heads queries"]
    coupled: Bool[Tensor, "batch heads queries"]

    @property
    def num_coupled(self) -> int:
        """Oscillators that see an anchor."""
        return int(self.coupled.sum())

    @property
    def num_near_degenerate(self) -> int:
        """Oscillators whose pulls nearly cancel: report these as not settled."""
        return int(self.near_degenerate.sum())

    @property
    def num_near_antipode(self) -> int:
        """Oscillators that begin near the point that repels."""
        return int(self.near_antipode.sum())

    def settled_fraction(self, time: float) -> float:
        """Returns the share of coupled oscillators that are settled at a time.

        Args:
            time: Since the start, in the inverse unit of the couplings.
        """
        settled = (self.settling_time <= time) & self.coupled
        return int(settled.sum()) / max(self.num_coupled, 1)


def settling_diagnostics(
    query: Queries,
    key: Keys,
    anchor: Anchors,
    *,
    angle: float = 0.01,
    degenerate_below: float = 1e-3,
    antipode_within: float = math.pi / 6,
    **options: Any,
) -> SettlingDiagnostics:
    r"""Returns how the free oscillators of `oscillator_attention` settle, without settling them.

    .. math:: t_\varepsilon = \frac{1}{K} \ln \frac{\tan(\theta_0 / 2)}{\tan(\varepsilon / 2)}

    Args:
        query: See `oscillator_attention`.
        key: See `oscillator_attention`.
        anchor: See `oscillator_attention`.
        angle: :math:`\varepsilon` in radians, the distance from the equilibrium that counts as
            settled.
        degenerate_below: Order parameter below which the pulls count as cancelled.
        antipode_within: Angle in radians from the antipode that counts as near.
        **options: Other keywords of `oscillator_attention`, without `backend`. The initial state
            matters in every mode here.

    Returns:
        The diagnostics, detached.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit or a number is out of range.
    """
    check.require_number(angle, "angle", minimum=0.0, maximum=math.pi, exclusive=True)
    check.require_number(antipode_within, "antipode_within", minimum=0.0, maximum=math.pi)
    check.require_number(degenerate_below, "degenerate_below", minimum=0.0)
    settling_mode(options.pop("mode", "equilibrium"))
    # The state at time 0 is the initial one, whatever the mode.
    inputs = checked(query, key, None, anchor, Options(**options, mode=Settle(0.0)))
    with torch.no_grad(), without_autocast(query):
        start, h, total = settled_inputs(inputs, chosen(inputs, "auto"))
        strength = torch.linalg.vector_norm(h, dim=-1)
        rho = strength / total.clamp(min=1e-20)
        K = rho if inputs.options.row_gain else strength
        theta = _angle(start, h)
        ratio = (theta / 2).tan() / math.tan(angle / 2)
        time = torch.where(K > 0, ratio.log().clamp(min=0) / K, torch.inf)
        coupled = torch.ones_like(rho, dtype=torch.bool)
        seen = inputs.visibility.dense(h.device)
        if seen is not None:
            coupled = seen.any(-1).expand_as(coupled)
        return SettlingDiagnostics(
            K,
            torch.where(coupled, rho, torch.nan),
            torch.where(coupled, time, torch.nan),
            (rho < degenerate_below) & coupled,
            (theta > math.pi - antipode_within) & coupled & (K > 0),
            coupled,
        )


def _angle(x: Tensor, h: Tensor) -> Tensor:
    """Returns the angle between unit vectors and a drive, exact near 0 and near the antipode."""
    K = torch.linalg.vector_norm(h, dim=-1, keepdim=True)
    e = h / torch.where(K > 0, K, 1.0)
    apart, together = (torch.linalg.vector_norm(x + s * e, dim=-1) for s in (-1, 1))
    return 2 * torch.atan2(apart, together)
