"""Every head of a layer in figures: coherence, locking, clusters, spread and rank."""

from __future__ import annotations

import torch

from syncattn import _validation as check
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

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If the shapes of weights, masks and order parameters do not fit.
    """
    check.require_instance(picture, "picture", Synchrony, "Call `synchrony` of a layer.")
    check.require_tensor(picture.weights, "picture.weights", "heads queries keys")
    check.require_values(picture.weights, "picture.weights")
    _require_last(picture.weights, "picture.weights")
    shape, device = tuple(picture.weights.shape), picture.weights.device
    check.require_mask(visible, "visible", shape[1:], device, "queries and keys")
    visible = visible.expand(shape[1:])
    if picture.locked is not None:
        check.require_mask(picture.locked, "picture.locked", shape, device, "as the weights")
    if picture.order_parameter is not None:
        r = picture.order_parameter
        check.require_tensor(r, "picture.order_parameter", "heads queries")
        check.require_same(picture.weights, "picture.weights", r, "picture.order_parameter", 0,
                           "heads")  # fmt: skip
        check.require_same(picture.weights, "picture.weights", r, "picture.order_parameter", 1,
                           "queries")  # fmt: skip
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

    Raises:
        TypeError: If an argument is not a boolean tensor.
        ValueError: If there are more queries than keys, or the shapes do not fit.
    """
    check.require_instance(locked, "locked", torch.Tensor, "Compare strengths with 0.")
    _require_last(locked, "locked")
    check.require_mask(locked, "locked", tuple(locked.shape), locked.device)
    check.require_values(locked, "locked")
    check.require_mask(visible, "visible", tuple(locked.shape), locked.device)
    pairs = _of_two(visible.expand_as(locked))
    return float(locked[pairs].double().mean()) if bool(pairs.any()) else None


def _require_last(pairs: Tensor, name: str) -> None:
    if pairs.dim() < 2 or pairs.shape[-2] > pairs.shape[-1]:
        raise ValueError(
            f"`{name}` must have the axes (..., queries, keys), the queries the last of the keys; "
            f"got shape {check.shape_of(pairs)}. Add or swap axes."
        )


def _of_two(visible: Bool[Tensor, "*batch queries keys"]) -> Bool[Tensor, "*batch queries keys"]:
    """Returns what is visible of another token than the query itself."""
    queries, keys = visible.shape[-2:]
    return visible & ~torch.eye(keys, dtype=torch.bool, device=visible.device)[keys - queries :]
