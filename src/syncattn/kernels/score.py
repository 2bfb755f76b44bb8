"""What makes the weights of the torus operators: gated cosines of differences."""

from __future__ import annotations

from typing import NamedTuple

from syncattn._masks import Visibility
from syncattn._typing import Tensor


class Score(NamedTuple):
    """What makes the weights, checked and in one dtype.

    Attributes:
        query_phase: ``(batch, heads, queries, dim)`` radians, without drift.
        key_phase: ``(batch, heads, keys, dim)``; the same object when queries are keys.
        query_gate: Like `query_phase`.
        key_gate: Like `key_phase`.
        drift: Cosines and sines of the drift at every key's place, ``(keys, dim)`` each; the
            queries are the last keys. None without drift.
        scale: Factor of the score.
        sink: ``(heads,)``, the logit of attending to nothing, or None.
        visibility: Who sees whom.
    """

    query_phase: Tensor
    key_phase: Tensor
    query_gate: Tensor
    key_gate: Tensor
    drift: tuple[Tensor, Tensor] | None
    scale: float
    sink: Tensor | None
    visibility: Visibility

    @property
    def ordered(self) -> bool:
        """True when causality alone, strict or not, says who sees whom."""
        free = self.visibility._replace(is_causal=False, exclude_self=False)
        return self.visibility.is_causal and free.everything

    @property
    def less(self) -> Visibility | None:
        """Strictly before t among t's own row as what it is one row up: plain causality.

        None where that is not what the score sees; with a sink the first row is not empty.
        """
        seen = self.visibility
        square = seen.num_queries == seen.num_keys > 1
        if not (square and self.ordered and seen.exclude_self and self.sink is None):
            return None
        return Visibility(seen.num_queries - 1, seen.num_keys - 1, is_causal=True)
