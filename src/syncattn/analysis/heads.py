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

__all__ = ["MEASURES", "locked_share", "measure_heads"]

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
        pairs = _of_two(visible)
        locked = picture.locked & pairs
        found["locked_fraction"] = locked.sum((-2, -1)).double() / pairs.sum()
        if visible.shape[0] == visible.shape[1]:
            found["clusters"] = connected_components(locked).double()
    found["entropy"] = entropy(weights, visible=visible, normalised=True).nanmean(-1)
    found["effective_neighbours"] = effective_neighbours(weights)[:, sees].mean(-1)
    found["effective_rank"] = effective_rank(weights)
    found["largest_weight"] = largest_weight(weights)[:, sees].mean(-1)
    return {name: found[name] for name in MEASURES if name in found}


def locked_share(
    locked: Bool[Tensor, "*batch queries keys"], visible: Bool[Tensor, "*#batch queries keys"]
) -> float | None:
    """Returns the share of visible pairs of two different tokens that lock.

    Args:
        locked: True where a pair locks.
        visible: True where a query may see a key; queries are the last tokens.

    Returns:
        Between 0 and 1; None where there is no such pair.
    """
    pairs = _of_two(visible).expand_as(locked)
    return float(locked[pairs].double().mean()) if bool(pairs.any()) else None


def _of_two(visible: Bool[Tensor, "*batch queries keys"]) -> Bool[Tensor, "*batch queries keys"]:
    """Returns what is visible of another token than the query itself."""
    queries, keys = visible.shape[-2:]
    return visible & ~torch.eye(keys, dtype=torch.bool, device=visible.device)[-queries:]
