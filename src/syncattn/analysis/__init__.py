"""Looking at trained models: distributions of attention weights, and pictures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from syncattn.analysis.copy_depth import (
    copy_depth,
    loss_by_copy_depth,
    loss_by_distance,
    token_losses,
)
from syncattn.analysis.coupling import (
    coupling_functions,
    frustration_parts,
    order_by_head,
    order_by_layer,
)
from syncattn.analysis.distributions import (
    describe,
    effective_neighbours,
    effective_rank,
    entropy,
    head_divergence,
    head_diversity,
    largest_weight,
    sparsity,
)

if TYPE_CHECKING:
    from syncattn.analysis.heatmaps import LayerPattern, attention_weights
    from syncattn.analysis.plots import learning_curves, save_figure

__all__ = [
    "LayerPattern",
    "attention_weights",
    "copy_depth",
    "coupling_functions",
    "describe",
    "effective_neighbours",
    "effective_rank",
    "entropy",
    "frustration_parts",
    "head_divergence",
    "head_diversity",
    "largest_weight",
    "learning_curves",
    "loss_by_copy_depth",
    "loss_by_distance",
    "order_by_head",
    "order_by_layer",
    "save_figure",
    "sparsity",
    "token_losses",
]

# The figures need matplotlib, which the numbers do not.
_FIGURES = ("LayerPattern", "attention_weights", "learning_curves", "save_figure")


def __getattr__(name: str) -> Any:
    if name in _FIGURES:
        return getattr(importlib.import_module("syncattn.analysis.plots"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
