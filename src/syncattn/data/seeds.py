"""Random numbers that depend on a name alone, the same on every machine."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["named_generator"]


def named_generator(*parts: str | int) -> torch.Generator:
    """Returns a generator whose numbers depend on the given parts and nothing else.

    Args:
        *parts: What the numbers are for, such as a task, a seed and a step.

    Returns:
        A generator on the CPU.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
