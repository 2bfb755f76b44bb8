"""Time and memory of a call on any device, and what the device can do at best."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

__all__ = ["Machine", "measure_machine", "peak_bytes", "shortest_times"]

Call = Callable[[], object]

_COPY_BYTES = {"cuda": 1 << 32, "cpu": 1 << 27}
_MATRIX_SIDE = {"cuda": 8192, "cpu": 1024}

# A short call on CUDA is timed in a row: launching it takes longer than running it, and a program
# that keeps the device busy launches ahead.
_ENOUGH = 0.01
_MOST_IN_A_ROW = 50


class Machine(NamedTuple):
    """What the device reached in this process, the measure of all shares.

    Attributes:
        copy_bandwidth: Bytes read and written per second by a copy of a large tensor.
        matrix_rate: Multiplications and additions per second of a large product, two per term.
        dtype: The dtype of the product.
    """

    copy_bandwidth: float
    matrix_rate: float
    dtype: str


def shortest_times(
    calls: Mapping[str, Call], device: torch.device, repeats: int
) -> dict[str, float]:
    """Returns the shortest time of each call in seconds, run in turn so that load hits all alike.

    Args:
        calls: What to time; each runs once before its time counts.
        device: Where they run.
        repeats: How often each is timed.
    """
    times = dict.fromkeys(calls, float("inf"))
    for turn in range(repeats + 1):
        for name, call in calls.items():
            seconds = _seconds(call, device)
            if turn > 0:
                times[name] = min(times[name], seconds)
    return times


def _seconds(call: Call, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    seconds = _device_seconds(call, device, 1)
    count = min(_MOST_IN_A_ROW, int(_ENOUGH / max(seconds, 1e-9)))
    return seconds if count < 2 else _device_seconds(call, device, count)


def _device_seconds(call: Call, device: torch.device, count: int) -> float:
    """Returns the time of one of several calls in a row, by the clock of the device."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    first.record()
    for _ in range(count):
        call()
    last.record()
    torch.cuda.synchronize(device)
    return first.elapsed_time(last) / 1e3 / count


def peak_bytes(call: Call, device: torch.device) -> float:
    """Returns by how much a call raises the memory in use while it runs; NaN where unknown.

    On a CPU it is the peak of the process, read from Linux: what the process has already taken
    and not given back does not count.

    Args:
        call: What to run.
        device: Where it runs.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return float(torch.cuda.max_memory_allocated(device) - before)
    with contextlib.suppress(OSError):
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        before = _status("VmRSS")
        call()
        return float(max(0, _status("VmHWM") - before))
    return float("nan")


def _status(field: str) -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines[field].split()[0]) * 1024


def measure_machine(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> Machine:
    """Returns the bandwidth of a copy and the rate of a product on a device.

    Args:
        device: The device.
        dtype: Of the product.
        repeats: How often each is timed.
    """
    source = torch.ones(_COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    side = _MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    times = shortest_times(
        {"copy": lambda: target.copy_(source), "product": lambda: a @ b}, device, repeats
    )
    moved = 2 * source.numel() * source.element_size()
    name = str(dtype).removeprefix("torch.")
    return Machine(moved / times["copy"], 2 * side**3 / times["product"], name)
