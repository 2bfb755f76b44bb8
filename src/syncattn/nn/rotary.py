"""Rotary position: pairs of coordinates turn with the place in the sequence."""

import torch

from syncattn._typing import Tensor


def rotate(x: Tensor, *, base: float = 10_000.0, offset: int = 0) -> Tensor:
    r"""Returns the rows turned by :math:`t\, b^{-2k/d}` in each plane (k, k + d/2).

    Args:
        x: ``(batch, heads, length, dim)``, dim even.
        base: :math:`b`.
        offset: Position of the first row.

    Returns:
        The turned rows; inner products depend on differences of position alone.
    """
    half = x.shape[-1] // 2
    k = torch.arange(half, device=x.device, dtype=torch.float32)
    t = torch.arange(offset, offset + x.shape[-2], device=x.device, dtype=torch.float32)
    angle = t[:, None] * base ** (-k / half)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
