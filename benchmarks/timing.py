"""What the benchmarks share: the clock, the shortest of several times, and the memory of a call."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Mapping

import torch

from syncattn.benchmarks.kernels_clock import peak_bytes

Clock = Callable[[], float]


def shortest(
    functions: Mapping[str, Callable[[], object]], repeats: int, clock: Clock
) -> dict[str, float]:
    """Returns the shortest time of each function in seconds, run in turn so that load hits all."""
    times = dict.fromkeys(functions, float("inf"))
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = clock()
            function()
            # The first turn is for warming up.
            if turn > 0:
                times[name] = min(times[name], clock() - start)
    return times


def without_gradient(function: Callable[[], object]) -> Callable[[], object]:
    """Returns the function, run without recording gradients."""

    def run() -> object:
        with torch.no_grad():
            return function()

    return run


def extra_megabytes(function: Callable[[], object]) -> float:
    """Returns by how much a call raises the memory of the process while it runs, from Linux."""
    return peak_bytes(function, torch.device("cpu")) / 1e6


def add_clock(parser: argparse.ArgumentParser, *, threads: int = 2) -> None:
    """Adds the options that every benchmark of speed has."""
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument(
        "--cpu-time", action="store_true", help="time of the processor; wants one thread"
    )


def start_clock(options: argparse.Namespace) -> Clock:
    """Sets the threads, prints what the figures are of, and returns the clock."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    kind = "CPU" if options.cpu_time else "wall"
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"float32, {kind} seconds",
        flush=True,
    )
    return time.process_time if options.cpu_time else time.perf_counter
