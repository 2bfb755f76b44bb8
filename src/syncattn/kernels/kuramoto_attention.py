"""Cosines of differences as inner products, through one SDPA call."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from syncattn._typing import Tensor
from syncattn.kernels.phase_passes import couple_compiled, fits_compiled
from syncattn.kernels.scaled_dot_product import attend, masked_softmax, widths
from syncattn.kernels.score import Score

# Some hundred kilobytes of float32 stay in cache, where a pass costs less than half of what it does
# in memory; a single head is never split.
CACHED_ELEMENTS = 2**15

Part = tuple[slice, slice]
Targets = list[Tensor] | None
Fold = Callable[[Tensor, Tensor, Part, Targets], list[Tensor]]
Unfold = Callable[[Tensor, Tensor, Tensor], Tensor]


class Columns(NamedTuple):
    """Columns of queries, keys and values, and the queries' own cosines and sines."""

    query: list[Tensor]
    key: list[Tensor]
    value: list[Tensor]
    cos: Tensor
    sin: Tensor


def kuramoto_attention(score: Score) -> Tensor:
    r"""Returns :math:`\cos\theta_t \sum_u A \sin\theta_u - \sin\theta_t \sum_u A \cos\theta_u`.

    Theory: KA-5.

    Args:
        score: What makes the weights.

    Returns:
        The phase increment.
    """
    if fits_compiled(score, 1):
        one = score.key_phase.new_ones(score.key_phase.shape[1], 1, 1, 1)
        return couple_compiled(score, one, torch.zeros_like(one))
    return couple(score, unchanged, tangent, 2)


def unchanged(cos: Tensor, sin: Tensor, part: Part, targets: Targets) -> list[Tensor]:
    """Folds nothing: the values are the cosines and sines themselves; see `couple`."""
    if targets is not None:
        for target, column in zip(targets, (cos, sin), strict=True):
            target.copy_(column)
    return [cos, sin]


def tangent(cos: Tensor, sin: Tensor, mean: Tensor) -> Tensor:
    """Returns the part of a mean of cosines and sines along the tangent.

    Args:
        cos: Cosines of the queries.
        sin: Their sines.
        mean: Mean cosines, then mean sines of what they see.

    Returns:
        ``sin(mean - query)`` times the mean's length.
    """
    mean_cos, mean_sin = mean.chunk(2, -1)
    return (cos * mean_sin).addcmul_(sin, mean_cos, value=-1)


def dense_weights(score: Score) -> Tensor:
    """Returns the dense weights; rows that see nothing are 0.

    Args:
        score: What makes the weights.

    Returns:
        ``(batch, heads, queries, keys)``.
    """
    columns = encode(score, WHOLE, lambda *_: [])
    dim = score.key_phase.shape[-1]
    query, key = torch.cat(columns.query, -1)[..., : 2 * dim], torch.cat(columns.key, -1)
    logits = query @ key.mT
    if score.sink is None:
        logits = score.scale * logits
    mask = score.visibility.dense(logits.device)
    if score.sink is not None:
        if mask is not None:
            logits = torch.where(mask, logits, -torch.inf)
        sink = score.sink[:, None, None].expand_as(logits[..., :1])
        return torch.cat([sink, logits], -1).softmax(-1)[..., 1:]
    return masked_softmax(logits, mask)


def couple(
    score: Score, fold: Fold, unfold: Unfold, num_columns: int, learned: tuple[Tensor, ...] = ()
) -> Tensor:
    """Returns what a coupling makes of the weighted mean of its folded values.

    Without gradients the batch and its heads are worked on in parts that stay in cache, before
    and after one call of SDPA for all.

    Args:
        score: What makes the weights.
        fold: From cosines and sines of some keys, and where to write them if anywhere, to the
            columns of their values.
        unfold: From cosines and sines of some queries and their mean columns to increments.
        num_columns: Number of value columns, each as wide as a head.
        learned: Tensors inside `fold` that may want gradients.

    Returns:
        ``(batch, heads, queries, dim)``.
    """
    dim = score.key_phase.shape[-1]
    value_width = num_columns * dim
    width = _widths(score, value_width)
    parts = _parts(score, learned)
    if len(parts) == 1:
        columns = encode(score, WHOLE, fold)
        mean, first = _attended(score, *_joined(score, columns, width))
        cos, sin = columns.cos, columns.sin
        if first:
            cos, sin = cos[..., first:, :], sin[..., first:, :]
        out = unfold(cos, sin, mean[..., :value_width])
        return pad(out, (0, 0, first, 0)) if first else out
    buffers = _buffers(score, width, value_width)
    lead = 0 if score.sink is None else 1
    for part in parts:
        query, key, value = (x[part] for x in buffers)
        targets = [
            *query[..., : 2 * dim].split(dim, -1),
            *key[..., lead:, : 2 * dim].split(dim, -1),
            *value[..., lead:, :value_width].split(dim, -1),
        ]
        encode(score, part, fold, targets)
    mean, first = _attended(score, *buffers)
    out = torch.empty_like(score.query_phase, memory_format=torch.contiguous_format)
    out[..., :first, :] = 0.0
    for part in parts:
        phase = score.query_phase[part][..., first:, :]
        out[part][..., first:, :] = unfold(phase.cos(), phase.sin(), mean[part][..., :value_width])
    return out


WHOLE: Part = (slice(None), slice(None))


def _parts(score: Score, learned: tuple[Tensor, ...]) -> list[Part]:
    """Returns the slices of batch and heads to work on at once."""
    batch, heads, length, dim = score.key_phase.shape
    given = (x for x in score if isinstance(x, torch.Tensor))
    tensors = (*given, *(score.drift or ()), *learned)
    recorded = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    looped = score.key_phase.device.type == "cpu" and not torch.compiler.is_compiling()
    if recorded or not looped or batch * heads == 0:
        return [WHOLE]
    most = max(CACHED_ELEMENTS // max(length * dim, 1), 1)
    sequences, some = max(most // heads, 1), min(most, heads)
    return [
        (slice(b, b + sequences), slice(h, h + some))
        for b in range(0, batch, sequences)
        for h in range(0, heads, some)
    ]


def encode(score: Score, part: Part, fold: Fold, targets: Targets = None) -> Columns:
    """Returns the score as an inner product: gated cosines and sines of both sides.

    Args:
        score: What makes the weights.
        part: Batch and heads to look at.
        fold: See `couple`.
        targets: Where to write the columns: two of the queries, two of the keys, then the values.

    Returns:
        Columns whose widths may differ.
    """
    theta = score.key_phase[part]
    cos, sin = own = theta.cos(), theta.sin()
    value = fold(cos, sin, part, None if targets is None else targets[4:])
    same = score.query_phase is score.key_phase
    if not same:
        theta = score.query_phase[part]
        own = theta.cos(), theta.sin()
    turned = own
    if score.drift is not None:
        cos, sin = _turned(cos, sin, *score.drift)
        late = (x[score.visibility.offset :] for x in score.drift)
        turned = (cos, sin) if same else _turned(*own, *late)
    query_gate, key_gate = score.query_gate[part], score.key_gate[part]
    if score.sink is not None:
        # The scale cannot wait for SDPA, which would scale the sink too.
        query_gate = score.scale * query_gate
    factors = (query_gate, turned[0]), (query_gate, turned[1]), (key_gate, cos), (key_gate, sin)
    if targets is not None:
        score_columns = [
            torch.mul(gate, x, out=target)
            for (gate, x), target in zip(factors, targets[:4], strict=True)
        ]
    else:
        score_columns = [gate * x for gate, x in factors]
    query = score_columns[:2]
    if score.sink is not None:
        query.append(torch.ones_like(query[0][..., :1]))
    return Columns(query, score_columns[2:], value, *own)


def _turned(cos: Tensor, sin: Tensor, by_cos: Tensor, by_sin: Tensor) -> tuple[Tensor, Tensor]:
    """Returns cosine and sine of a sum of angles, which no angle's size can blur."""
    return (
        (cos * by_cos).addcmul_(sin, by_sin, value=-1),
        (sin * by_cos).addcmul_(cos, by_sin),
    )


def _widths(score: Score, value_width: int) -> tuple[int, int]:
    """Returns the widths of queries and keys, and of values, that attention is called with."""
    width = 2 * score.key_phase.shape[-1]
    if score.sink is None:
        return widths(width, value_width, score.less or score.visibility, score.key_phase.device)
    # One column more for the sink: up to what accelerators load at once.
    width = 8 * -(-max(width + 1, value_width) // 8)
    return width, width


def _joined(
    score: Score, columns: Columns, width: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    query, key = (_padded(side, width[0]) for side in columns[:2])
    value = _padded(columns.value, width[1])
    if score.sink is not None:
        shape = (*key.shape[:2], 1)
        b = score.sink[:, None].expand(shape)[..., None]
        left = key.new_zeros(()).expand(*shape, 2 * score.key_phase.shape[-1])
        key = torch.cat([_padded([left, b], width[0]), key], -2)
        value = pad(value, (0, 0, 1, 0))
    return query, key, value


def _padded(columns: list[Tensor], width: int) -> Tensor:
    missing = width - sum(x.shape[-1] for x in columns)
    zero = columns[0].new_zeros(()).expand(*columns[0].shape[:-1], missing)
    return torch.cat([*columns, zero], -1)


def _buffers(
    score: Score, width: tuple[int, int], value_width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns room for queries, keys and values with everything but their columns in place."""
    theta_t, theta_u = score.query_phase, score.key_phase
    dim, lead = theta_u.shape[-1], 0 if score.sink is None else 1
    long = (*theta_u.shape[:2], theta_u.shape[2] + lead)
    query = theta_t.new_empty(*theta_t.shape[:3], width[0])
    key, value = theta_u.new_empty(*long, width[0]), theta_u.new_empty(*long, width[1])
    for tensor, used in ((query, 2 * dim), (key, 2 * dim), (value, value_width)):
        tensor[..., used:] = 0.0
    if score.sink is not None:
        query[..., 2 * dim] = 1.0
        key[..., 0, :] = value[..., 0, :] = 0.0
        key[..., 0, 2 * dim] = score.sink
    return query, key, value


def _attended(score: Score, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, int]:
    """Returns the mean values from the first row that sees something, and that row."""
    seen, several = score.visibility, query.shape[-2] > 1
    strict = score.ordered and seen.exclude_self
    square = several and seen.num_queries == seen.num_keys
    if score.sink is None:
        less = score.less
        if less is None:
            return attend(query, key, value, scale=score.scale, visibility=seen), 0
        query, key, value = query[..., 1:, :], key[..., :-1, :], value[..., :-1, :]
        return attend(query, key, value, scale=score.scale, visibility=less), 1
    if strict and (square or not several):
        # After the sink, what is strictly before t is what is not after t.
        key, value = key[..., :-1, :], value[..., :-1, :]
        return scaled_dot_product_attention(query, key, value, is_causal=square, scale=1.0), 0
    mask = seen.dense(query.device)
    mask = None if mask is None else pad(mask, (1, 0), value=True)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0), 0
