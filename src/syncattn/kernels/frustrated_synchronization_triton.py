"""The two torus operators through Triton: one softmax pass over values of any width, and a sink."""

from __future__ import annotations

import torch

from syncattn._typing import Tensor
from syncattn.kernels.frustrated_synchronization import (
    _add_rotated,
    _rotated,
    _unfolded,
    harmonics,
)
from syncattn.kernels.kuramoto_attention import Columns, Part, Targets, encode, tangent
from syncattn.kernels.pairwise_operator_triton import Kernel, pair_sums
from syncattn.kernels.score import Score

__all__ = ["frustrated_synchronization", "kuramoto_attention"]

_WHOLE: Part = (slice(None), slice(None))


def kuramoto_attention(score: Score, dtype: torch.dtype) -> Tensor:
    r"""Returns :math:`\cos\theta_t \sum_u A \sin\theta_u - \sin\theta_t \sum_u A \cos\theta_u`.

    Args:
        score: What makes the weights, without attention mask.
        dtype: Of the features that are multiplied; phases stay as they are.

    Returns:
        The phase increment.
    """

    def fold(cos: Tensor, sin: Tensor, part: Part, targets: Targets) -> list[Tensor]:
        return [cos, sin]

    columns = encode(score._replace(sink=None), _WHOLE, fold)
    return tangent(columns.cos, columns.sin, _mean(score, columns, dtype))


def frustrated_synchronization(
    score: Score, harmonic_amplitude: Tensor, frustration: Tensor, dtype: torch.dtype
) -> Tensor:
    r"""Returns the increment with the sum over delays taken before attention.

    All harmonics are one pass over the weights: queries and keys stay twice as wide as a head
    while the values are 2 M times as wide, and nothing is padded.

    Args:
        score: What makes the weights; no visible key may have a successor that is not.
        harmonic_amplitude: ``(heads, delays, harmonics, dim | 1)``, at most two delays.
        frustration: The same shape, radians.
        dtype: Of the features that are multiplied.

    Returns:
        The phase increment.
    """
    a, b = harmonic_amplitude * frustration.cos(), harmonic_amplitude * frustration.sin()
    num_harmonics = harmonic_amplitude.shape[2]
    key_mask = score.visibility.key_mask

    def fold(cos: Tensor, sin: Tensor, part: Part, targets: Targets) -> list[Tensor]:
        if key_mask is not None:
            hidden = ~key_mask[:, None, :, None]
            cos, sin = cos.masked_fill(hidden, 0.0), sin.masked_fill(hidden, 0.0)
        columns: list[Tensor] = []
        for m, (c, s) in enumerate(zip(*harmonics(cos, sin, num_harmonics), strict=True)):
            columns += _rotated(c, s, a[:, 0, m, None], b[:, 0, m, None])
            for n in range(1, min(a.shape[1], c.shape[-2])):
                late = c[..., n:, :], s[..., n:, :]
                _add_rotated(columns, late, a[:, n, m, None], b[:, n, m, None], True)
        return columns

    columns = encode(score._replace(sink=None), _WHOLE, fold)
    return _unfolded(columns.cos, columns.sin, _mean(score, columns, dtype), num_harmonics)


def _mean(score: Score, columns: Columns, dtype: torch.dtype) -> Tensor:
    query, key, value = (torch.cat(side, -1).to(dtype) for side in columns[:3])
    kernel = Kernel("softmax", scale=score.scale)
    mean, _ = pair_sums(query, key, value, kernel, score.visibility, sink=score.sink)
    return mean.to(score.query_phase.dtype)
