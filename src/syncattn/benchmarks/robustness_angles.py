"""How far a device turned its oscillators, over all layers and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from syncattn._typing import Float, Tensor
from syncattn.simulation.device_layers import DeviceRun

__all__ = ["joined"]


def joined(runs: Sequence[DeviceRun]) -> dict[str, Any]:
    """Returns the statistics of all layers of all runs as of one.

    Args:
        runs: One per seed, measured.

    Returns:
        What `LayerStatistics` has, over all oscillators; None where nothing is known.
    """
    seen = [layer for run in runs for layer in run.statistics()]
    total = sum(layer.num_oscillators for layer in seen)
    small = [layer.num_oscillators * layer.predictable_share for layer in seen]

    def rms(name: str) -> float | None:
        squares = sum(
            n * getattr(layer, name) ** 2 for n, layer in zip(small, seen, strict=True) if n
        )
        return math.sqrt(squares / sum(small)) if sum(small) else None

    def share(name: str) -> float | None:
        parts = [(layer.num_oscillators, getattr(layer, name)) for layer in seen]
        known = [(n, part) for n, part in parts if part is not None]
        return sum(n * part for n, part in known) / total if known else None

    return {
        "rms_angle": rms("rms_angle"),
        "predicted_rms_angle": rms("predicted_rms_angle"),
        "predictable_share": sum(small) / total,
        # No mean of the layers' medians is the median.
        "median_angle": float(_angles(runs).double().median()),
        "unlocked_share": share("unlocked_share"),
        "bistable_share": share("bistable_share"),
    }


def _angles(runs: Sequence[DeviceRun]) -> Float[Tensor, " oscillators"]:
    return torch.cat([angle for run in runs for angle in run.angles()])
