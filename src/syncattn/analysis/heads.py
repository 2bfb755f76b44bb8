"""Every head of a layer in figures: coherence, locking, clusters, spread and rank."""

from __future__ import annotations

import torch

from syncattn._typing import Bool, Float, Tensor
from syncattn.analysis.distributions import (
    effective_neighbours,
    effective_rank,
    entropy,
    largest_weight,
)
from syncattn.analysis.synchrony import connected_components
from syncattn.nn import Synchrony

__all__ = ["MEASURES", "measure_heads"]

MEASURES = {
    "order_parameter": "order parameter R",
    "locked_fraction": "locked fraction",
    "clusters": "clusters of the lock graph",
    "entropy": "entropy, share of the largest",
    "effective_neighbours": "effective neighbours",
    "effective_rank": "effective rank",
    "largest_weight": "largest weight",
}
"""What `measure_heads` returns, in words."""


def measure_heads(
    picture: Synchrony, *, visible: Bool[Tensor, "queries keys"]
) -> dict[str, Float[Tensor, " heads"]]:
    """Returns what every head of a layer does with one sequence, means over its tokens.

    Args:
        picture: One layer's picture of one sequence, without the batch axis.
        visible: True where a query may see a key.

    Returns:
        One number per head by the names of `MEASURES`; those of oscillators are left out where
        the layer has none. A pair of a token with itself counts as no locked pair, and a token
        that locks with no other is a cluster. NaN where a measure is undefined.
    """
    weights = picture.weights.double()
    sees = visible.any(-1)
    found: dict[str, Tensor] = {}
    if picture.order_parameter is not None:
        found["order_parameter"] = picture.order_parameter.double()[:, sees].nanmean(-1)
    if picture.locked is not None:
        pairs = visible & ~torch.eye(visible.shape[-1], dtype=torch.bool)[-visible.shape[0] :]
        locked = picture.locked & pairs
        found["locked_fraction"] = locked.sum((-2, -1)).double() / pairs.sum()
        if visible.shape[0] == visible.shape[1]:
            found["clusters"] = connected_components(locked).double()
    found["entropy"] = entropy(weights, visible=visible, normalised=True).nanmean(-1)
    found["effective_neighbours"] = effective_neighbours(weights)[:, sees].mean(-1)
    found["effective_rank"] = effective_rank(weights)
    found["largest_weight"] = largest_weight(weights)[:, sees].mean(-1)
    return {name: found[name] for name in MEASURES if name in found}
