"""Who may see whom: causality, padding, packing and arbitrary masks in one value."""

from __future__ import annotations

from typing import NamedTuple

import torch

from syncattn._typing import Tensor


class Visibility(NamedTuple):
    """The visibility of keys to queries, kept as O(L + S) facts where it can be.

    Attributes:
        num_queries: Number of queries L.
        num_keys: Number of keys S.
        is_causal: Query i sees key j only if ``j <= i + S - L`` (aligned bottom-right).
        key_mask: ``(batch, keys)``, True where a key is real.
        segment: ``(keys,)`` segment number of packed sequences; queries are the last L of them.
        attn_mask: Boolean, broadcastable to ``(batch, heads, queries, keys)``.
        exclude_self: Query i does not see key ``i + S - L``.
    """

    num_queries: int
    num_keys: int
    is_causal: bool = False
    key_mask: Tensor | None = None
    segment: Tensor | None = None
    attn_mask: Tensor | None = None
    exclude_self: bool = False

    @property
    def offset(self) -> int:
        """Position of the first query among the keys."""
        return self.num_keys - self.num_queries

    @property
    def everything(self) -> bool:
        """True when every query sees every key."""
        return (
            not self.is_causal
            and self.key_mask is None
            and self.segment is None
            and self.attn_mask is None
            and not self.exclude_self
        )

    def dense(self, device: torch.device) -> Tensor | None:
        """Returns the mask, broadcastable to (batch, heads, queries, keys); None for all True."""
        return self.tile(
            torch.arange(self.num_queries, device=device),
            torch.arange(self.num_keys, device=device),
        )

    def tile(
        self, queries: Tensor, keys: Tensor, batch: slice | None = None, heads: slice | None = None
    ) -> Tensor | None:
        """Returns the mask of the given query and key indices, rank 4, or None for all True.

        Args:
            queries: ``(q,)`` indices of queries, in any order.
            keys: ``(k,)`` indices of keys, in any order.
            batch: The part of the batch to look at; everything when None.
            heads: The part of the heads to look at; everything when None.
        """
        parts: list[Tensor] = []
        position = queries[:, None] + self.offset
        if self.is_causal:
            parts.append((keys[None, :] <= position)[None, None])
        if self.exclude_self:
            parts.append((keys[None, :] != position)[None, None])
        if self.segment is not None:
            same = self.segment[position[:, 0]][:, None] == self.segment[keys][None, :]
            parts.append(same[None, None])
        if self.key_mask is not None:
            key_mask = self.key_mask if batch is None else self.key_mask[batch]
            parts.append(key_mask[:, keys][:, None, None, :])
        if self.attn_mask is not None:
            mask = self.attn_mask
            if batch is not None and mask.shape[0] > 1:
                mask = mask[batch]
            if heads is not None and mask.shape[1] > 1:
                mask = mask[:, heads]
            rows = queries if mask.shape[2] != 1 else queries.new_zeros(1)
            columns = keys if mask.shape[3] != 1 else keys.new_zeros(1)
            parts.append(mask[:, :, rows[:, None], columns[None, :]])
        if not parts:
            return None
        total = parts[0]
        for part in parts[1:]:
            total = total & part
        # Not `len`, which would fix the length of an exported graph.
        return total.expand(*total.shape[:2], queries.shape[0], keys.shape[0])

    def seen_keys(self, *, itself: bool = False) -> Tensor | None:
        """Returns which keys some query may see by the masks that were passed, None for all.

        What is stored elsewhere must never matter: blank it before any product.

        Args:
            itself: Count the keys that are queries too, whatever `attn_mask` says of them.

        Returns:
            Broadcastable to ``(batch, heads, keys, 1)``.
        """
        seen = None if self.key_mask is None else self.key_mask[:, None, :, None]
        if self.attn_mask is not None:
            some = self.attn_mask.any(-2).expand(-1, -1, self.num_keys).unsqueeze(-1)
            if itself:
                place = torch.arange(self.num_keys, device=some.device)
                some = some | (place >= self.offset)[:, None]
            seen = some if seen is None else seen & some
        return seen


def segments(cu_seqlens: Tensor, num_tokens: int) -> Tensor:
    """Returns the segment number of each token, ``(tokens,)``, from cumulative lengths."""
    token = torch.arange(num_tokens, device=cu_seqlens.device)
    return torch.searchsorted(cu_seqlens[1:].contiguous(), token, right=True)
