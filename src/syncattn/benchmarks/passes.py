"""The compiled passes during a training, and as they were after it."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager

from syncattn.kernels import fuse, fused

__all__ = ["compiled_passes"]


@contextmanager
def compiled_passes(wanted: bool) -> Generator[bool]:
    """Switches the compiled passes of a CPU on or off for a while; see `syncattn.fuse`.

    A machine without a C compiler goes on without them, silently: records tell (`device`).

    Args:
        wanted: Whether they are used where they can be.

    Yields:
        Whether they are on.
    """
    before = fused()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        now = fuse(wanted)
    try:
        yield now
    finally:
        fuse(before)
