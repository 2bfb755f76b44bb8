"""What a layer of selective synchronization couples by: synchronization against detuning."""

from __future__ import annotations

from typing import NamedTuple

import torch

from syncattn import _validation as check
from syncattn import reference
from syncattn._typing import Float, Tensor
from syncattn.nn import SelectiveSynchronization
from syncattn.nn.calibration import squared_cutoffs

__all__ = ["LockingCurves", "locking_curves"]


class LockingCurves(NamedTuple):
    """The synchronization of a pair by the detuning of its natural frequencies.

    Attributes:
        detuning: Norm of the difference of two frequencies, from 0 to beyond the largest cutoff.
        synchronization: Before rows are made to sum to 1, in [0, 1].
        cutoff: Largest detuning that locks.
    """

    detuning: Float[Tensor, " points"]
    synchronization: Float[Tensor, "heads points"]
    cutoff: Float[Tensor, " heads"]


@torch.no_grad()
def locking_curves(
    layer: SelectiveSynchronization,
    order_parameter: Float[Tensor, " heads"],
    *,
    num_points: int = 121,
) -> LockingCurves:
    """Returns the curve by which every head of a layer locks.

    Args:
        layer: A layer of selective synchronization.
        order_parameter: Coherence that a token sees, in (0, 1]; it widens the cutoff.
        num_points: Points of a curve.

    Returns:
        The curves in float64, on the CPU.

    Raises:
        TypeError: If `num_points` is not an integer.
        ValueError: If there are fewer than two points, or not one order parameter per head.
    """
    check.require_integer(num_points, "num_points", minimum=2)
    if order_parameter.shape != (layer.num_heads,):
        raise ValueError(
            f"`order_parameter` must have one value for each of {layer.num_heads} heads; got the "
            f"shape {tuple(order_parameter.shape)}. Average it over tokens."
        )
    strength, decay = (
        x.detach().double().cpu() for x in (layer.coupling_strength, layer.coupling_decay)
    )
    order = order_parameter.double().cpu()
    cutoff = squared_cutoffs(strength, decay, order).sqrt()
    detuning = torch.linspace(0, 1.25 * float(cutoff.max()), num_points, dtype=torch.float64)
    heads = layer.num_heads
    found = reference.synchronization(
        torch.zeros(1, heads, 1, 1, dtype=torch.float64),
        detuning[None, None, :, None].expand(1, heads, -1, 1),
        order[None, :, None],
        coupling_strength=strength,
        coupling_decay=decay,
        smoothing=layer.options["smoothing"],
    )
    return LockingCurves(detuning, found[0, :, 0], cutoff)
