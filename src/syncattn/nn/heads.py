"""Heads: between (batch, length, width) and (batch, heads, length, dim), and a map of each."""

from __future__ import annotations

import torch
from torch import nn

from syncattn._typing import Float, Tensor


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Returns ``(batch, heads, length, width / heads)``.

    Args:
        x: ``(batch, length, width)``.
        num_heads: Number of heads; divides the width.

    Returns:
        A view of `x`.
    """
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Returns ``(batch, length, heads * dim)``, the inverse of `split_heads`.

    Args:
        x: ``(batch, heads, length, dim)``.

    Returns:
        The heads side by side.
    """
    return x.transpose(1, 2).flatten(-2)


class HeadwiseLinear(nn.Module):
    """A linear map of every head's own features: a block-diagonal `torch.nn.Linear`.

    Args:
        num_heads: Number of heads.
        in_features: Features of a head.
        out_features: Outputs of a head.
    """

    def __init__(self, num_heads: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.weight = nn.Parameter(torch.empty(num_heads, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(num_heads * out_features))
        nn.init.normal_(self.weight, std=in_features**-0.5)
        nn.init.zeros_(self.bias)

    def forward(
        self, x: Float[Tensor, "batch heads length _"]
    ) -> Float[Tensor, "batch heads length _"]:
        """Returns each head's outputs.

        Args:
            x: ``(batch, heads, length, in_features)``.

        Returns:
            ``(batch, heads, length, out_features)``.
        """
        bias = self.bias.view(self.weight.shape[0], 1, -1)
        # One product per head over all tokens; a broadcast one would copy the weight per sequence.
        return torch.einsum("bhli,hio->bhlo", x, self.weight) + bias
