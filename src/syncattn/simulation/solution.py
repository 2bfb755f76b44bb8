"""What an integration returns: the record, its statistics, and how it ended in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from syncattn import _validation as check
from syncattn._typing import Bool, Float, Tensor

__all__ = ["Solution", "Statistics", "locked_fraction", "locked_group"]


@dataclass(frozen=True, eq=False)
class Statistics:
    """The stationary part of an integration in numbers, one of each per population.

    Attributes:
        start: Time where the stationary part begins.
        mean_order_parameter: Mean coherence ``(*batch)``.
        std_order_parameter: Its standard deviation over time ``(*batch)``.
        rotation_number: Mean velocity of every phase ``(*batch, oscillators)``; None on the sphere.
        locked: Who is of the largest group that turns together ``(*batch, oscillators)``; None on
            the sphere.
    """

    start: float
    mean_order_parameter: Float[Tensor, "*batch"]
    std_order_parameter: Float[Tensor, "*batch"]
    rotation_number: Float[Tensor, "*batch oscillators"] | None = None
    locked: Bool[Tensor, "*batch oscillators"] | None = None

    @property
    def locked_fraction(self) -> Float[Tensor, "*batch"] | None:
        """Share of the largest group that turns together ``(*batch)``; None on the sphere."""
        if self.locked is None:
            return None
        return self.locked.to(self.mean_order_parameter.dtype).mean(-1)


@dataclass(frozen=True, eq=False)
class Solution:
    """An integration.

    Attributes:
        times: Saved times, from the start.
        trajectory: State at every saved time, time first; None when not kept.
        final_state: The last state.
        order_parameter: Coherence ``(time, *batch)``.
        residual: Distance from rest ``(time, *batch)``, see the system.
        energy: Energy ``(time, *batch)``; None where the system has none.
        observed: What the caller asked for, by name, time first.
        settled: Which populations met the tolerance of `stop` at the end; None without `stop`.
        success: False when the state left the finite numbers, or `stop` was not met.
        status: How it ended, in words, with the remedy.
        statistics: The stationary part in numbers.
        num_steps: Steps taken.
        num_evaluations: Drifts evaluated by the solver.
    """

    times: Float[Tensor, " time"]
    trajectory: Tensor | None
    final_state: Tensor
    order_parameter: Tensor
    residual: Tensor
    energy: Tensor | None
    settled: Bool[Tensor, "*batch"] | None
    success: bool
    status: str
    statistics: Statistics
    num_steps: int
    num_evaluations: int
    observed: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


def locked_fraction(
    rotation_number: Float[Tensor, "*batch oscillators"], resolution: float
) -> Float[Tensor, "*batch"]:
    """Returns the share of the largest group whose rotation numbers agree.

    Args:
        rotation_number: Mean velocities of the oscillators.
        resolution: Width of a group, radians per unit time.

    Returns:
        A share between 0 and 1; a group of one is not locked, unless it is all there is.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there is no oscillator, or the resolution is negative.
    """
    locked = locked_group(rotation_number, resolution)
    return locked.to(rotation_number.dtype).mean(-1)


def locked_group(
    rotation_number: Float[Tensor, "*batch oscillators"], resolution: float
) -> Bool[Tensor, "*batch oscillators"]:
    """Returns who is of the largest group whose rotation numbers agree.

    Args:
        rotation_number: Mean velocities of the oscillators.
        resolution: Width of a group, radians per unit time.

    Returns:
        True for its members; a group of one is not locked, unless it is all there is.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there is no oscillator, or the resolution is negative.
    """
    check.require_floating(rotation_number, "rotation_number")
    check.require_number(resolution, "resolution", minimum=0.0)
    if not rotation_number.dim() or not rotation_number.shape[-1]:
        raise ValueError(
            f"`rotation_number` must hold at least one oscillator; got shape "
            f"{tuple(rotation_number.shape)}. Its last axis counts them."
        )
    ordered = rotation_number.sort(-1).values.contiguous()
    ends = torch.searchsorted(ordered, ordered + resolution, right=True)
    starts = torch.arange(ordered.shape[-1], device=ordered.device)
    largest, first = (ends - starts).max(-1, keepdim=True)
    slowest, fastest = (ordered.gather(-1, at) for at in (first, first + largest - 1))
    alone = (largest == 1) & (ordered.shape[-1] > 1)
    unknown = ~ordered.isfinite().all(-1, keepdim=True)
    together = (rotation_number >= slowest) & (rotation_number <= fastest)
    return together & ~alone & ~unknown


def sentence(
    *,
    diverged_at: float | None,
    settled: Tensor | None,
    residual: Tensor,
    tolerance: float | None,
    time: float,
    step: float,
) -> str:
    """Returns how an integration ended, with the remedy where one is needed.

    Args:
        diverged_at: When the state was first not finite; None if never.
        settled: Which populations met the tolerance.
        residual: The last residual of every population.
        tolerance: What `stop` asked for.
        time: When the integration ended.
        step: The step.

    Returns:
        One sentence.
    """
    if diverged_at is not None:
        return (
            f"Diverged: the state was not finite at time {diverged_at:.6g}; lower `step`, which "
            f"was {step:.3g}, or check the couplings."
        )
    if settled is None or tolerance is None:
        return f"Finished at time {time:.6g}."
    if bool(settled.all()):
        return f"Settled at time {time:.6g}: every residual is below {tolerance:.3g}."
    largest = residual.amax().item() if residual.numel() else math.nan
    return (
        f"Not settled at time {time:.6g}: the largest of {settled.numel()} residuals is "
        f"{largest:.3g}, above `stop` = {tolerance:.3g}, in {int((~settled).sum())} of them; "
        f"lengthen `duration`, or raise the coupling above its critical value."
    )
