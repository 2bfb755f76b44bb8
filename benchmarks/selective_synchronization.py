"""Time and memory of selective synchronization beside softmax attention, in one run.

    python benchmarks/selective_synchronization.py [--threads 2] [--cpu-time] [name ...]

The names are blockwise, window, growth, pruned, repeats, training and top_k; without any, all run,
in a few minutes. `--cpu-time` counts the time of the processor, steadier beside other work, and
wants `--threads 1`. Each ratio is of two times of the same run; the extra memory is the growth of
the process's peak during forward and backward, read from Linux. Lines marked "fused" use the
compiled sums of `fuse`, whose compilation is printed once and not part of any time.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from syncattn import fuse
from syncattn._masks import Visibility
from syncattn.kernels.selective_synchronization import selective_synchronization
from syncattn.kernels.selective_synchronization_pairs import Method, planned_pairs
from timing import extra_megabytes, without_gradient

HEADS, DIM = 8, 64
clock: Callable[[], float] = time.perf_counter


def best(function: Callable[[], object], repeats: int = 3) -> float:
    """Returns the shortest of several times in seconds, after one call that does not count."""
    function()
    times: list[float] = []
    for _ in range(repeats):
        start = clock()
        function()
        times.append(clock() - start)
    return min(times)


def normal(*shape: int, std: float = 1.0) -> Tensor:
    """Returns normal numbers that want a gradient."""
    return (std * torch.randn(*shape)).requires_grad_()


class Case:
    """One size: frequencies, values and the softmax attention to compare with."""

    def __init__(self, frequency: Tensor, threshold: float, *, is_causal: bool = False) -> None:
        batch, heads, length, _ = frequency.shape
        self.frequency = frequency.detach().requires_grad_()
        self.value = normal(batch, heads, length, DIM)
        self.inverse_threshold = torch.full((batch, heads, length), threshold)
        self.visibility = Visibility(length, length, is_causal)
        self.gradient = torch.randn(batch, heads, length, DIM)
        self.softmax_times: tuple[float, float] | None = None
        self.softmax = [normal(batch, heads, length, DIM) for _ in range(3)]

    def synchronize(self, method: Method, top_k: int | None = None) -> Tensor:
        """Returns the output of the operator."""
        return selective_synchronization(
            self.frequency,
            self.frequency,
            self.value,
            self.inverse_threshold,
            visibility=self.visibility,
            method=method,
            self_pairs=True,
            top_k=top_k,
        )[0]

    def attend(self) -> Tensor:
        """Returns the output of softmax attention."""
        query, key, value = self.softmax
        return scaled_dot_product_attention(query, key, value, is_causal=self.visibility.is_causal)

    def planned(self, method: Method) -> float:
        """Returns the share of all pairs that the method computes."""
        pairs = planned_pairs(
            self.frequency, self.frequency, self.inverse_threshold, self.visibility, method
        )
        return pairs / (self.inverse_threshold.numel() * self.visibility.num_keys)

    def locked(self) -> float:
        """Returns the share of pairs that lock, from the queries at 64 places of the first head."""
        length = self.visibility.num_keys
        rows = torch.arange(0, length, max(1, length // 64))
        points = self.frequency[0, 0].detach()
        x = torch.cdist(points[rows], points).square()
        return (torch.exp(-x) > self.inverse_threshold[0, 0, rows, None] * x).float().mean().item()

    def times(self, function: Callable[[], Tensor]) -> tuple[float, float]:
        """Returns the times of the forward pass and of both passes."""
        repeats = 3 if self.visibility.num_keys < 8192 else 1
        forward = best(without_gradient(function), repeats)
        return forward, best(lambda: function().backward(self.gradient), repeats)

    def report(
        self,
        name: str,
        method: Method,
        *,
        softmax: bool = True,
        top_k: int | None = None,
    ) -> tuple[float, float]:
        """Prints one row of the table and returns the two times."""

        def run() -> Tensor:
            return self.synchronize(method, top_k)

        ours = self.times(run)
        line = f"{name:34}{ours[0]:9.3f}{ours[1]:9.3f}"
        if softmax:
            if self.softmax_times is None:
                self.softmax_times = self.times(self.attend)
            theirs = self.softmax_times
            line += f"{theirs[0]:9.3f}{theirs[1]:9.3f}"
            line += f"{ours[0] / theirs[0]:8.2f}{ours[1] / theirs[1]:8.2f}"
        else:
            line += f"{'-':>9}{'-':>9}{'-':>8}{'-':>8}"
        memory = extra_megabytes(lambda: run().backward(self.gradient))
        line += f"{self.planned(method):9.4f}{self.locked():9.4f}{memory:7.0f}"
        print(line, flush=True)
        return ours


def blockwise() -> None:
    """All pairs at the width of a head, operation by operation and fused."""
    for length in (2048, 4096, 8192):
        case = Case(normal(1, HEADS, length, DIM, std=0.1), 0.2)
        case.report(f"blockwise {length}", "blockwise")
        start = time.perf_counter()
        if fuse():
            seconds = time.perf_counter() - start
            note = f" ({seconds:.1f} s)" if length == 2048 else ""
            case.report(f"blockwise {length} fused{note}", "blockwise")
            fuse(False)
    case = Case(normal(1, HEADS, 4096, DIM, std=0.1), 0.2, is_causal=True)
    case.report("blockwise 4096 causal", "blockwise")


# At an inverse threshold of 0.2 a pair locks within x = W0(5) = 1.327; a uniform spread of 46 then
# locks 5 percent.
SPREAD = 46.0


def window() -> None:
    """One frequency per head, 5 percent of the pairs locked."""
    case = Case(SPREAD * torch.rand(1, HEADS, 16384, 1), 0.2)
    case.report("window 16384", "window")
    position = (SPREAD / 16384 * torch.arange(16384.0)).expand(1, HEADS, -1)[..., None]
    Case(position, 0.2, is_causal=True).report("band 16384 causal", "window", softmax=False)


def growth() -> None:
    """Four times the length, at a constant number of locked keys and at a constant share."""
    for name, power in (("keys per query", 1.0), ("share of pairs", 0.0)):
        times: list[tuple[float, float]] = []
        for length in (16384, 65536):
            spread = SPREAD * (length / 16384) ** power
            # One head: at a constant share the work is 16 times as large.
            case = Case(spread * torch.rand(1, 1, length, 1), 0.2)
            times.append(case.report(f"{length}, same {name}", "window", softmax=False))
        (short, short_both), (long, long_both) = times
        print(f"{'times as long':34}{long / short:9.2f}{long_both / short_both:9.2f}", flush=True)


def pruned() -> None:
    """Clustered frequencies in 16 dimensions, beside a dense form that holds all differences."""
    length, dim = 4096, 16
    # A decay of 1.313 and a threshold at coherence 0.85: 0.7 percent of the pairs lock.
    scale, threshold = (2 * 1.31326) ** 0.5, 1 / 3.25
    centre = 1.5 * scale * torch.randn(HEADS, 64, dim)
    member = torch.randint(64, (HEADS, length, 1)).expand(-1, -1, dim)
    points = centre.gather(1, member) + 0.12 * scale * torch.randn(HEADS, length, dim)
    case = Case(points[None], threshold)
    forward, _ = case.report(f"pruned {length}", "pruned")

    def dense() -> Tensor:
        points = case.frequency[0, 0]
        x = (points[:, None] - points[None]).square().sum(-1)
        strength = (torch.exp(-x) - threshold * x).clamp(min=0).sqrt()
        return strength @ case.value[0, 0] / strength.sum(-1, keepdim=True)

    # It takes half a minute with all heads, so one of them counts eight times.
    reference = HEADS * best(without_gradient(dense), 1)
    times = f"{reference / forward:.0f} times as long"
    print(f"{'dense, forward of one head x 8':34}{reference:9.3f}  {times}", flush=True)


def repeats() -> None:
    """Text of 61 distinct bytes: 2048 tokens are computed as 61."""
    table, token = normal(1, HEADS, 61, DIM, std=0.1), torch.randint(61, (2048,))
    Case(table[:, :, token], 0.2).report("repeats 2048 of 61", "repeats")


def training() -> None:
    """Short sequences in a batch, as in the training of a small model."""
    case = Case(normal(16, 4, 128, 8, std=0.3), 0.2, is_causal=True)
    case.report("training 16 x 4 x 128 causal", "blockwise")


def top_k() -> None:
    """The 64 strongest of all pairs, by whole rows."""
    case = Case(normal(1, HEADS, 2048, DIM, std=0.1), 0.2)
    case.report("strongest 64 of 2048", "blockwise", top_k=64)


SECTIONS = {f.__name__: f for f in (blockwise, window, growth, pruned, repeats, training, top_k)}


def main() -> None:
    """Runs the measurements named on the command line."""
    global clock
    parser = argparse.ArgumentParser(description="Selective synchronization beside SDPA.")
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(SECTIONS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="time of the processor")
    options = parser.parse_args()
    names: list[str] = options.names or list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"names must be among {', '.join(SECTIONS)}; got {', '.join(unknown)}.")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.cpu_time:
        clock = time.process_time
    kind = "CPU" if options.cpu_time else "wall"
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"float32, {kind} seconds"
    )
    print(
        f"{'':34}{'forward':>9}{'both':>9}{'SDPA':>9}{'both':>9}{'ratio':>8}{'both':>8}"
        f"{'pairs':>9}{'locked':>9}{'MB':>7}",
        flush=True,
    )
    for name in names:
        SECTIONS[name]()


if __name__ == "__main__":
    main()
