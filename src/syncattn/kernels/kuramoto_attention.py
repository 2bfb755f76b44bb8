"""Cosines of differences as inner products, through one SDPA call."""

import torch

from syncattn._masks import Visibility
from syncattn._typing import Tensor
from syncattn.kernels.scaled_dot_product import attend


def kuramoto_attention(
    query_phase: Tensor,
    key_phase: Tensor,
    query_feature: Tensor,
    key_feature: Tensor,
    *,
    scale: float,
    visibility: Visibility,
) -> Tensor:
    r"""Returns :math:`\cos\theta_t \sum_u A \sin\theta_u - \sin\theta_t \sum_u A \cos\theta_u`.

    Args:
        query_phase: ``(batch, heads, queries, dim)`` radians.
        key_phase: ``(batch, heads, keys, dim)`` radians.
        query_feature: Gated cosines and sines of the queries, width ``2 dim``.
        key_feature: Gated cosines and sines of the keys.
        scale: Factor of the score.
        visibility: Who sees whom.

    Returns:
        The phase increment.
    """
    cos, sin = key_phase.cos(), key_phase.sin()
    value = torch.cat([cos, sin], -1)
    mean = attend(query_feature, key_feature, value, scale=scale, visibility=visibility)
    mean_cos, mean_sin = mean.chunk(2, -1)
    if query_phase is not key_phase:
        cos, sin = query_phase.cos(), query_phase.sin()
    return torch.addcmul(cos * mean_sin, sin, mean_cos, value=-1)
