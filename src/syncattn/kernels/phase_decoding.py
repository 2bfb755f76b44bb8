"""The next tokens of a causal sequence on the torus, from columns of the past."""

from __future__ import annotations

from typing import NamedTuple

import torch

from syncattn._masks import Visibility
from syncattn._typing import Float, Tensor
from syncattn.kernels.growth import appended
from syncattn.kernels.kuramoto_attention import WHOLE, Fold, Unfold, encode
from syncattn.kernels.scaled_dot_product import attend, masked_softmax
from syncattn.kernels.score import Score

__all__ = ["FEW", "Past", "continued", "remembered"]

FEW = 16
"""Most new tokens whose weights are held: above it memory must stay linear."""


class Past(NamedTuple):
    """What attention reads of the tokens so far, as it reads it.

    Attributes:
        key: Gated and drifted cosines and sines, ``(batch, heads, keys, 2 dim)``.
        value: Folded harmonics, ``(batch, heads, keys - 1, width)``: of the last token they wait
            for its successor.
    """

    key: Float[Tensor, "batch heads keys _"]
    value: Float[Tensor, "batch heads known _"]

    def crop(self, length: int) -> Past:
        """Returns the columns of the first tokens.

        Args:
            length: Tokens to keep.
        """
        return Past(self.key[:, :, :length], self.value[:, :, : length - 1])


def remembered(score: Score, fold: Fold) -> Past:
    """Returns the columns of the tokens so far.

    Args:
        score: Of all of them, without sink.
        fold: See `kuramoto_attention.couple`.
    """
    columns = encode(score, WHOLE, fold)
    return Past(torch.cat(columns.key, -1), torch.cat(columns.value, -1)[:, :, :-1])


def continued(
    score: Score, past: Past | None, key_mask: Tensor | None, fold: Fold, unfold: Unfold
) -> tuple[Tensor, Past]:
    """Returns the increments of new tokens that see what is strictly before them.

    Args:
        score: Of the last token of the past, if there is one, and the new tokens, without sink.
        past: Columns of the past; None at the start, where there is one new token.
        key_mask: True where a token is real, ``(batch, keys)`` with the past; None for all.
        fold: See `kuramoto_attention.couple`.
        unfold: See there.

    Returns:
        The increments, and the columns with the new tokens.
    """
    lead = 0 if past is None else 1
    columns = encode(score, WHOLE, fold)
    query, key, value = (torch.cat(side, -1) for side in columns[:3])
    query, key, value = query[:, :, lead:], key[:, :, lead:], value[:, :, :-1]
    if past is not None:
        key, value = appended(past.key, key), appended(past.value, value)
    mean = _mean(query, key[:, :, :-1], value, score.scale, key_mask)
    cos, sin = columns.cos[:, :, lead:], columns.sin[:, :, lead:]
    return unfold(cos, sin, mean), Past(key, value)


def _mean(
    query: Tensor, key: Tensor, value: Tensor, scale: float, key_mask: Tensor | None
) -> Tensor:
    """Returns the mean values of rows of which the first sees all but the other rows' tokens."""
    new, before = query.shape[2], key.shape[2]
    if before == 0:
        return query.new_zeros(*query.shape[:3], value.shape[-1])
    mask = None if key_mask is None else key_mask[:, :-1]
    seen = Visibility(new, before, is_causal=new > 1, key_mask=mask)
    if new > FEW:
        return attend(query, key, value, scale=scale, visibility=seen)
    return masked_softmax(scale * (query @ key.mT), seen.dense(query.device)) @ value
