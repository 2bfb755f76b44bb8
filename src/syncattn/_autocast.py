"""Autocast on every device, and on the meta device, which has none."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from syncattn._typing import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Returns a context in which operations keep the dtype of what they are given.

    Args:
        x: Any tensor of the device.
    """
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Returns what autocast multiplies matrices in on a tensor's device, None where it is off.

    Args:
        x: Any tensor of the device.
    """
    kind = x.device.type
    on = not x.is_meta and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if on else None
