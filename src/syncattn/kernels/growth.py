"""Tokens appended to those of the past without copying the past each time."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from syncattn._typing import Tensor

__all__ = ["appended"]

_LEAST = 64


@dataclass
class _Room:
    """A buffer and how many of its tokens are taken, by whichever state came furthest."""

    buffer: Tensor
    taken: int


def appended(past: Tensor, new: Tensor) -> Tensor:
    """Returns the tokens of the past and the new ones, along the second axis from the end.

    The past stays as it is: room behind it is used once, by the first who appends, and whoever
    branches off later gets a copy. Where gradients may be recorded everything is copied: what needs
    none itself may be kept for those of others, and must then stay as it is.

    Args:
        past: ``(..., tokens, width)``.
        new: ``(..., more, width)``.

    Returns:
        ``(..., tokens + more, width)``, of the dtype that holds both.
    """
    alike = past.dtype == new.dtype
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or not alike:
        return torch.cat([past, new], -2)
    length, total = past.shape[-2], past.shape[-2] + new.shape[-2]
    room: _Room | None = getattr(past, "_room", None)
    # Outside of inference mode nothing made in it may be written.
    if (
        room is None
        or room.taken != length
        or room.buffer.shape[-2] < total
        or room.buffer.is_inference() != torch.is_inference_mode_enabled()
    ):
        size = total + max(_LEAST, total // 4)
        room = _Room(new.new_empty(*past.shape[:-2], size, past.shape[-1]), length)
        room.buffer[..., :length, :] = past
    room.buffer[..., length:total, :] = new
    room.taken = total
    whole = room.buffer[..., :total, :]
    whole._room = room  # pyright: ignore[reportAttributeAccessIssue]
    return whole
