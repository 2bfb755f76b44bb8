"""How much of a token was already in the context: copy depth, distance, and the loss by them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from syncattn import _validation as check
from syncattn._typing import Float, Int, Tensor

__all__ = [
    "Bin",
    "CopyDepth",
    "copy_depth",
    "loss_by_copy_depth",
    "loss_by_distance",
    "token_losses",
]

DEPTH_EDGES = (1, 2, 4, 8, 16)
DISTANCE_EDGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class CopyDepth(NamedTuple):
    """How the context of every token matches an earlier place, ``(batch, length)`` each.

    Attributes:
        depth: Length of the longest suffix before the token that occurred earlier in the context.
        distance: Tokens back to the most recent such place; 0 where the depth is 0.
        copied: True where the token is the one that followed there.
    """

    depth: np.ndarray
    distance: np.ndarray
    copied: np.ndarray


class Bin(NamedTuple):
    """The loss of some tokens.

    Attributes:
        name: What they have in common, such as ``"4 to 7"``.
        low: Smallest value in the bin.
        high: First value above it; None without end.
        num_tokens: Number of tokens.
        mean: Mean loss; NaN for none.
        error: Standard error of the mean as if tokens were independent; NaN below two.
    """

    name: str
    low: int
    high: int | None
    num_tokens: int
    mean: float
    error: float


def copy_depth(ids: Any) -> CopyDepth:
    r"""Returns the copy depth of every token within its own row.

    The depth of token t is the largest n for which :math:`x_{t-n} \dots x_{t-1}` also ends at some
    earlier place e < t; occurrences may overlap. A row must be the context that the model sees:
    with more context there would be more to copy.

    Time is quadratic in the length and linear in the batch, memory linear.

    Args:
        ids: Integer tokens, ``(batch, length)`` or ``(length,)``, a tensor or an array.

    Returns:
        Depth, distance and whether the token continues the match, of the shape of `ids`.

    Raises:
        TypeError: If the ids are not integers.
        ValueError: If they have another rank.
    """
    if isinstance(ids, torch.Tensor):
        check.require_values(ids, "ids")
        check.require_counts(ids, "ids", "Pass tokens, not embeddings.")
    array = ids.detach().cpu().numpy() if isinstance(ids, torch.Tensor) else np.asarray(ids)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"`ids` must be integers; got {array.dtype}. Pass tokens, not embeddings.")
    if array.ndim not in {1, 2}:
        raise ValueError(
            f"`ids` must be of shape (batch, length) or (length,); got {array.shape}. Reshape it."
        )
    rows = np.atleast_2d(array)
    batch, length = rows.shape
    # At t, run[:, e] is the length of the common suffix of the first e and the first t tokens.
    run = np.zeros((batch, length + 1), dtype=np.int32)
    depth = np.zeros((batch, length), dtype=np.int32)
    distance = np.zeros((batch, length), dtype=np.int32)
    copied = np.zeros((batch, length), dtype=bool)
    line = np.arange(batch)
    for t in range(1, length):
        same = rows[:, : t - 1] == rows[:, t - 1 : t]
        run[:, 1:t] = np.where(same, run[:, : t - 1] + 1, 0)
        # The last of equals is the most recent.
        last = t - 1 - np.argmax(run[:, t - 1 :: -1], axis=1)
        depth[:, t] = run[line, last]
        found = depth[:, t] > 0
        distance[:, t] = np.where(found, t - last, 0)
        copied[:, t] = found & (rows[line, last] == rows[:, t])
    shape = array.shape
    return CopyDepth(depth.reshape(shape), distance.reshape(shape), copied.reshape(shape))


def token_losses(
    logits: Float[Tensor, "batch length vocabulary"], ids: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch predicted"]:
    """Returns the loss of every token after the first, in nats.

    Args:
        logits: What a causal language model says after each token.
        ids: The tokens it read.

    Returns:
        ``(batch, length - 1)``.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit, or a token is none of the vocabulary.
    """
    check.require_tensor(logits, "logits", "batch length vocabulary")
    check.require_counts(ids, "ids", "Pass the tokens that the model read.")
    check.require_together({"logits": logits, "ids": ids})
    if ids.shape != logits.shape[:2]:
        raise ValueError(
            f"`ids` must have one token per row of `logits`, {tuple(logits.shape[:2])}; got "
            f"{tuple(ids.shape)}. Pass the tokens that the model read."
        )
    bad = int(((ids < 0) | (ids >= logits.shape[-1])).sum()) if ids.device.type != "meta" else 0
    if bad:
        raise ValueError(
            f"`ids` must be tokens of the vocabulary, below {logits.shape[-1]}; got {bad} others. "
            f"Pass the tokens that the model read."
        )
    logarithms = logits[:, :-1].float().log_softmax(-1)
    return -logarithms.gather(-1, ids[:, 1:, None].long())[..., 0]


def loss_by_copy_depth(
    losses: Any, ids: Any, *, edges: Sequence[int] = DEPTH_EDGES, copied_only: bool = True
) -> list[Bin]:
    """Returns the mean loss by copy depth, of any causal language model.

    Args:
        losses: Loss of each token, ``(batch, length)``, or ``(batch, length - 1)`` without the
            first; NaN is passed over.
        ids: The tokens in the windows that the model saw, ``(batch, length)``.
        edges: Rising first depths of the bins, from 1.
        copied_only: Count a token that does not continue its match as not copied, whatever the
            depth; False bins by the depth of the context alone.

    Returns:
        First the tokens that are not copied, then one bin per edge.

    Raises:
        ValueError: If shapes do not fit or edges do not rise from 1.
    """
    loss, found = _aligned(losses, ids)
    depth = np.where(found.copied, found.depth, 0) if copied_only else found.depth
    _require_edges(edges)
    none = "not copied" if copied_only else "0"
    return [_bin(none, 0, 1, loss[depth == 0]), *_bins(depth, loss, edges)]


def loss_by_distance(
    losses: Any,
    ids: Any,
    *,
    edges: Sequence[int] = DISTANCE_EDGES,
    min_depth: int = 1,
    copied_only: bool = True,
) -> list[Bin]:
    """Returns the mean loss of copied tokens by the distance to where they are copied from.

    Args:
        losses: See `loss_by_copy_depth`.
        ids: See `loss_by_copy_depth`.
        edges: Rising first distances of the bins, from 1.
        min_depth: Smallest copy depth that counts.
        copied_only: Whether the token itself must continue its match.

    Returns:
        One bin per edge.

    Raises:
        ValueError: If shapes do not fit or edges do not rise from 1.
    """
    loss, found = _aligned(losses, ids)
    _require_edges(edges)
    counted = found.depth >= max(min_depth, 1)
    if copied_only:
        counted &= found.copied
    return _bins(found.distance[counted], loss[counted], edges)


def _aligned(losses: Any, ids: Any) -> tuple[np.ndarray, CopyDepth]:
    """Returns the losses that are there and what their tokens copy."""
    found = copy_depth(ids)
    if isinstance(losses, torch.Tensor):
        check.require_floating(losses, "losses")
        check.require_values(losses, "losses")
    loss = losses.detach().double().cpu().numpy() if isinstance(losses, torch.Tensor) else losses
    try:
        loss = np.asarray(loss, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`losses` must be numbers; got {type(loss).__name__}. Pass one per token."
        ) from error
    if np.isinf(loss).any():
        raise ValueError(
            "`losses` must be finite, or NaN where there is none; got an infinite one. Look for "
            "a token of probability 0."
        )
    shape = found.depth.shape
    if loss.shape == (*shape[:-1], shape[-1] - 1):
        found = CopyDepth(*(x[..., 1:] for x in found))
    elif loss.shape != shape:
        raise ValueError(
            f"`losses` must have one value per token, with or without the first; got {loss.shape} "
            f"for `ids` of shape {shape}. Pass the windows that the model saw."
        )
    there = ~np.isnan(loss)
    return loss[there], CopyDepth(*(x[there] for x in found))


def _require_edges(edges: Any) -> None:
    numbers = isinstance(edges, Sequence) and all(type(x) is int for x in edges)
    rising = numbers and all(a < b for a, b in itertools.pairwise(edges))
    if not rising or not edges or edges[0] != 1 or not rising:
        raise ValueError(
            f"`edges` must rise from 1; got {edges!r}. Pass the first value of every bin."
        )


def _bins(values: np.ndarray, loss: np.ndarray, edges: Sequence[int]) -> list[Bin]:
    bins: list[Bin] = []
    for low, high in zip(edges, [*edges[1:], None], strict=True):
        inside = values >= low if high is None else (values >= low) & (values < high)
        if high is None:
            name = f"{low} and more"
        else:
            name = str(low) if high == low + 1 else f"{low} to {high - 1}"
        bins.append(_bin(name, low, high, loss[inside]))
    return bins


def _bin(name: str, low: int, high: int | None, loss: np.ndarray) -> Bin:
    count = int(loss.size)
    mean = float(loss.mean()) if count else float("nan")
    error = float(loss.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    return Bin(name, low, high, count, mean, error)
