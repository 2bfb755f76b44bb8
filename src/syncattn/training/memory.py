"""The most memory a piece of code used, measured as well as its device allows."""

from __future__ import annotations

import ctypes
import gc
import threading
from types import TracebackType

import psutil
import torch

__all__ = ["PeakMemory"]

_INTERVAL = 0.01


class PeakMemory:
    """Measures the most memory used inside a `with` block.

    On CUDA it is `torch.cuda.max_memory_allocated`: all tensors of the device, those there before
    the block included. On other devices it is how far the resident set of the process grew beyond
    its size at the start, sampled every 10 ms: it leaves out what was there before (the weights,
    the corpus) and can miss a shorter spike. Free memory that earlier work in the same process left
    with the allocator is given back first where the C library can (glibc); elsewhere the figure
    is too small by what is reused. Figures of the two kinds do not compare.

    Args:
        device: The device the block works on.

    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._grown = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            _return_free_memory()
            self._process = psutil.Process()
            self._start = self._process.memory_info().rss
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.device.type != "cuda":
            self._done.set()
            self._thread.join()
            self._sample()

    @property
    def num_bytes(self) -> int:
        """The figure so far, in bytes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return self._grown

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL):
            self._sample()

    def _sample(self) -> None:
        grown = self._process.memory_info().rss - self._start
        self._grown = max(self._grown, grown)


def _return_free_memory() -> None:
    """Gives what the allocator holds unused back to the system, where there is a call for it."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
