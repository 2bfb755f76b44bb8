"""How attention spreads: entropy, neighbours, largest weight, sparsity, rank, diversity."""

from __future__ import annotations

import itertools
from typing import Any, TypeAlias

import numpy as np
import torch

from syncattn import _validation as check
from syncattn._typing import Bool, Float, Tensor

__all__ = [
    "describe",
    "effective_neighbours",
    "effective_rank",
    "entropy",
    "head_divergence",
    "head_diversity",
    "largest_weight",
    "sparsity",
]

_Rows: TypeAlias = Float[Tensor, "*batch queries keys"] | Float[np.ndarray, "*batch queries keys"]
_Visible: TypeAlias = Bool[Tensor, "..."] | Bool[np.ndarray, "..."] | None

# bfloat16 rounds a weight, and so the sum of a row, by at most 2^-9 of itself.
_ROW_TOLERANCE = 0.01


def entropy(
    weights: _Rows, *, visible: _Visible = None, normalised: bool = False
) -> Float[Tensor, "*batch queries"]:
    r"""Returns the Shannon entropy of every row of weights.

    .. math:: H_i = -\sum_j a_{ij} \ln a_{ij}, \qquad \hat{H}_i = H_i / \ln n_i

    with :math:`n_i` the number of keys that query i sees and :math:`0 \ln 0 = 0`.

    Args:
        weights: Rows that sum to 1, or to 0.
        visible: True where a query sees a key, broadcastable to the weights; None for everywhere.
        normalised: Divide by :math:`\ln n_i`, so that even weights give 1.

    Returns:
        Nats in [0, ln n], or a number in [0, 1] when normalised. NaN where the row attends to
        nothing, and when normalised also where it sees one key only.

    Raises:
        ValueError: If a weight is negative or not finite, a row sums to neither 0 nor 1, or a
            hidden key has weight.
    """
    rows, seen = _checked(weights, visible)
    nats = _nats(rows).masked_fill(rows.sum(-1) == 0, torch.nan)
    if not normalised:
        return nats
    count = seen.sum(-1)
    return (nats / count.clamp(min=2).double().log()).masked_fill(count < 2, torch.nan)


def effective_neighbours(weights: _Rows) -> Float[Tensor, "*batch queries"]:
    r"""Returns the number of keys a query attends to, :math:`\exp H_i`, counted by entropy.

    Even weights over n keys give n.

    Args:
        weights: Rows that sum to 1, or to 0.

    Returns:
        A number from 1 to the number of keys; 0 where the row attends to nothing.

    Raises:
        ValueError: If a weight is negative or not finite, or a row sums to neither 0 nor 1.

    References:
        | Diversity and evenness: a unifying notation and its consequences (Hill, 1973)
    """
    rows, _ = _checked(weights, None)
    return _nats(rows).exp().masked_fill(rows.sum(-1) == 0, 0.0)


def largest_weight(weights: _Rows) -> Float[Tensor, "*batch queries"]:
    r"""Returns the largest weight of every row, :math:`\max_j a_{ij}`.

    Args:
        weights: Rows that sum to 1, or to 0.

    Returns:
        A number in (0, 1]; 0 where the row attends to nothing.

    Raises:
        ValueError: If a weight is negative or not finite, or a row sums to neither 0 nor 1.
    """
    rows, _ = _checked(weights, None)
    return rows.amax(-1)


def sparsity(weights: _Rows, *, visible: _Visible = None) -> Float[Tensor, "*batch"]:
    r"""Returns the share of visible pairs whose weight is exactly zero.

    .. math:: \frac{|\{(i, j) \text{ visible} : a_{ij} = 0\}|}{|\{(i, j) \text{ visible}\}|}

    Args:
        weights: Rows that sum to 1, or to 0.
        visible: True where a query sees a key, broadcastable to the weights; None for everywhere.

    Returns:
        A number in [0, 1] for every head; NaN where no pair is visible.

    Raises:
        ValueError: If a weight is negative or not finite, a row sums to neither 0 nor 1, or a
            hidden key has weight.
    """
    rows, seen = _checked(weights, visible)
    zero = ((rows == 0) & seen).sum((-2, -1)).double()
    return zero / seen.sum((-2, -1))


def effective_rank(weights: _Rows) -> Float[Tensor, "*batch"]:
    r"""Returns the number of directions in which a matrix of weights mixes, counted by entropy.

    .. math:: \exp\Big(-\sum_k p_k \ln p_k\Big), \qquad p_k = \sigma_k \Big/ \sum_l \sigma_l

    with the singular values :math:`\sigma_k`. Every token reading itself gives the number of
    tokens; all tokens reading alike give 1.

    Args:
        weights: Rows that sum to 1, or to 0.

    Returns:
        A number from 1 to the smaller side of the matrix; 0 for a matrix of zeros.

    Raises:
        ValueError: If a weight is negative or not finite, or a row sums to neither 0 nor 1.

    References:
        | The effective rank: a measure of effective dimensionality (Roy and Vetterli, 2007)
    """
    rows, _ = _checked(weights, None)
    sizes = torch.linalg.svdvals(rows)
    total = sizes.sum(-1, keepdim=True)
    share = sizes / total.where(total > 0, 1.0)
    return _nats(share).exp().masked_fill(total[..., 0] == 0, 0.0)


def head_divergence(
    weights: Float[Tensor, "*batch heads queries keys"]
    | Float[np.ndarray, "*batch heads queries keys"],
) -> Float[Tensor, "*batch heads heads"]:
    r"""Returns how differently every two heads attend: their mean Jensen–Shannon divergence.

    .. math:: \frac{1}{|I_{ab}|} \sum_{i \in I_{ab}}
        \left[ H\!\left(\tfrac{1}{2} (p_i^a + p_i^b)\right)
        - \tfrac{1}{2} H(p_i^a) - \tfrac{1}{2} H(p_i^b) \right]

    where :math:`p_i^a` is row i of head a and :math:`I_{ab}` are the rows in which both heads
    attend to something. Time and memory are those of one pair of heads at once.

    Args:
        weights: Rows that sum to 1, or to 0.

    Returns:
        Symmetric matrices in nats, in [0, ln 2], with zeros on the diagonal: 0 when two heads
        agree, ln 2 when they share no key, NaN where they have no row in common.

    Raises:
        ValueError: If a weight is negative or not finite, or a row sums to neither 0 nor 1.

    References:
        | Divergence measures based on the Shannon entropy (Lin, 1991)
    """
    rows, _ = _checked(weights, None)
    if rows.dim() < 3:
        raise ValueError(
            f"`weights` must have an axis of heads before queries and keys; got the shape "
            f"{tuple(rows.shape)}. Add an axis of size 1."
        )
    alive, nats = rows.sum(-1) > 0, _nats(rows)
    heads = rows.shape[-3]
    found = rows.new_zeros((*rows.shape[:-3], heads, heads))
    for a, b in itertools.combinations(range(heads), 2):
        both = alive[..., a, :] & alive[..., b, :]
        middle = _nats((rows[..., a, :, :] + rows[..., b, :, :]) / 2)
        # Rounding may leave equal heads a hair below zero.
        apart = (middle - (nats[..., a, :] + nats[..., b, :]) / 2).clamp(min=0)
        mean = apart.masked_fill(~both, torch.nan).nanmean(-1)
        found[..., a, b] = found[..., b, a] = mean
    return found


def head_diversity(
    weights: Float[Tensor, "*batch heads queries keys"]
    | Float[np.ndarray, "*batch heads queries keys"],
) -> Float[Tensor, "*batch"]:
    """Returns how differently the heads attend: the mean `head_divergence` over pairs of heads.

    Args:
        weights: Rows that sum to 1, or to 0, of at least two heads.

    Returns:
        Nats in [0, ln 2]: 0 when all heads agree, ln 2 when none share a key. Pairs of heads
        without a common row are left out; NaN when none is left, as with a single head.
    """
    divergence = head_divergence(weights)
    heads = divergence.shape[-1]
    a, b = torch.triu_indices(heads, heads, offset=1)
    return divergence[..., a, b].nanmean(-1)


def describe(weights: _Rows, *, visible: _Visible = None) -> dict[str, float | None]:
    """Returns the means of all measures over rows and heads, ready for a record.

    Args:
        weights: ``(..., heads, queries, keys)`` rows that sum to 1, or to 0.
        visible: True where a query sees a key, broadcastable to the weights; None for everywhere.

    Returns:
        `entropy` in nats, `normalised_entropy`, `effective_neighbours`, `largest_weight`,
        `sparsity`, `head_diversity` in nats, and `empty_rows`, the share of rows that attend to
        nothing though they see a key. Undefined rows are left out of a mean; None where nothing
        is left.

    Raises:
        ValueError: If a weight is negative or not finite, a row sums to neither 0 nor 1, a hidden
            key has weight, or there is no axis of heads.
    """
    if _tensor(weights, "weights").dim() < 3:
        raise ValueError(
            "`weights` must have an axis of heads before queries and keys; got the shape "
            f"{tuple(weights.shape)}. Add an axis of size 1."
        )
    rows, seen = _checked(weights, visible)
    able = seen.any(-1)
    empty = (rows.sum(-1) == 0).double().masked_fill(~able, torch.nan)
    neighbours = effective_neighbours(rows).masked_fill(~able, torch.nan)
    measures = {
        "entropy": entropy(rows, visible=seen),
        "normalised_entropy": entropy(rows, visible=seen, normalised=True),
        "effective_neighbours": neighbours,
        "largest_weight": largest_weight(rows).masked_fill(~able, torch.nan),
        "sparsity": sparsity(rows, visible=seen),
        "head_diversity": head_diversity(rows),
        "empty_rows": empty,
    }
    means = {name: float(values.nanmean()) for name, values in measures.items()}
    return {name: None if mean != mean else mean for name, mean in means.items()}


def _tensor(x: Any, name: str) -> Tensor:
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(
            f"`{name}` must be a tensor or an array; got {type(x).__name__}. Convert it first."
        )
    x = torch.as_tensor(x)
    check.require_values(x, name)
    return x


def _nats(rows: Tensor) -> Tensor:
    return torch.special.entr(rows).sum(-1)


def _checked(
    weights: Tensor | np.ndarray, visible: Tensor | np.ndarray | None
) -> tuple[Tensor, Tensor]:
    """Returns the weights in float64 with rows that sum to 1 exactly, or 0, and who sees whom."""
    weights = _tensor(weights, "weights")
    check.require_floating(weights, "weights")
    if weights.dim() < 2 or not weights.shape[-1]:
        raise ValueError(
            f"`weights` must have the axes (..., queries, keys) and at least one key; got shape "
            f"{tuple(weights.shape)}. Add what is missing."
        )
    rows = weights.detach().double()
    if not (torch.isfinite(rows) & (rows >= 0)).all():
        raise ValueError(
            "`weights` must be finite and at least 0; got a value that is not. Pass the weights "
            "after normalisation, not the scores."
        )
    total = rows.sum(-1, keepdim=True)
    off = torch.minimum(total, (total - 1).abs()).max().item() if total.numel() else 0.0
    if off > _ROW_TOLERANCE:
        raise ValueError(
            f"`weights` must have rows that sum to 1, or to 0; got a row that is off by {off:.3g}. "
            "Pass the weights after normalisation and before dropout."
        )
    if visible is None:
        seen = torch.ones_like(rows, dtype=torch.bool)
    else:
        visible = _tensor(visible, "visible")
        check.require_mask(visible, "visible", tuple(rows.shape), rows.device)
        seen = visible.expand(rows.shape)
    if (rows * ~seen).any():
        raise ValueError(
            "`weights` must be 0 where `visible` is False; got a positive weight there. Pass the "
            "mask the weights were made with."
        )
    return rows / total.where(total > 0, 1.0), seen
