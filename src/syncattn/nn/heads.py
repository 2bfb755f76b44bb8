"""Between (batch, length, width) and (batch, heads, length, dim)."""

from syncattn._typing import Tensor


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
