"""The strongest keys of every query: exact, with ties to the earlier key."""

import torch

from syncattn._typing import Float, Int, Tensor

__all__ = ["keep_strongest"]


def keep_strongest(
    strength: Float[Tensor, "tiles queries keys"], place: Int[Tensor, "#tiles keys"], top_k: int
) -> None:
    """Sets all but the `top_k` largest strengths of every row to 0, in place.

    Args:
        strength: Whole rows of strengths, at least 0.
        place: Place of each key in the sequence; of equal strengths the earlier places stay.
        top_k: How many to keep, at least 1.
    """
    if top_k >= strength.shape[-1]:
        return
    edge = strength.topk(top_k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    strength.mul_((strength >= edge).to(strength.dtype))
    over = (strength > 0).sum(-1) - top_k
    # Only repeated tokens tie at the edge, so the few rows that hold too many are sorted apart.
    tile, row = (over > 0).nonzero(as_tuple=True)
    if len(tile) == 0:
        return
    crowded = strength[tile, row]
    tied = crowded == edge[tile, row]
    last = torch.iinfo(place.dtype).max
    places = torch.where(tied, place.expand(len(strength), -1)[tile], last)
    kept = tied.sum(-1) - over[tile, row]
    limit = places.sort(-1).values.gather(1, kept[:, None] - 1)
    strength[tile, row] = crowded.masked_fill_(tied & (places > limit), 0.0)
