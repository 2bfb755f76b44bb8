"""Time and memory of selective synchronization beside softmax attention, in one run.

    python benchmarks/selective_synchronization.py [name ...]

The names are blockwise, window, pruned, repeats and training; without any, all run, in a few
minutes. OMP_NUM_THREADS=1 gives steadier numbers on a machine with other work. Each ratio is of
two times of the same run; the extra memory is the growth of the process's peak, read from Linux.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from syncattn._masks import Visibility
from syncattn.kernels.selective_synchronization import selective_synchronization
from syncattn.kernels.selective_synchronization_tiles import Method, planned_pairs

HEADS, DIM = 8, 64


def best(function: Callable[[], object], repeats: int = 3) -> float:
    """Returns the shortest of several times in seconds, after one call that does not count."""
    function()
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def status(field: str) -> int:
    """Returns a field of the process's status in bytes; 0 where there is none."""
    try:
        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines[field].split()[0]) * 1024
    except (OSError, KeyError):
        return 0


def extra_megabytes(function: Callable[[], object]) -> float:
    """Returns by how much a call raises the memory of the process while it runs."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return float("nan")
    before = status("VmRSS")
    function()
    return (status("VmHWM") - before) / 1e6


def without_gradient(function: Callable[[], object]) -> Callable[[], object]:
    """Returns the function, run without recording gradients."""

    def run() -> object:
        with torch.no_grad():
            return function()

    return run


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
        self.softmax = [normal(batch, heads, length, DIM) for _ in range(3)]

    def synchronize(self, method: Method) -> Tensor:
        """Returns the output of the operator."""
        return selective_synchronization(
            self.frequency,
            self.frequency,
            self.value,
            self.inverse_threshold,
            visibility=self.visibility,
            method=method,
            self_pairs=True,
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

    def report(self, name: str, method: Method, *, softmax: bool = True) -> tuple[float, float]:
        """Prints one line and returns the two times."""
        ours = self.times(lambda: self.synchronize(method))
        line = f"{name:34} forward {ours[0]:7.3f} s  both {ours[1]:7.3f} s"
        if softmax:
            theirs = self.times(self.attend)
            line += f"  / SDPA {theirs[0]:7.3f} {theirs[1]:7.3f}"
            line += f" = {ours[0] / theirs[0]:5.2f} {ours[1] / theirs[1]:5.2f}"
        memory = extra_megabytes(lambda: self.synchronize(method).backward(self.gradient))
        line += f"  pairs {self.planned(method):6.4f}  locked {self.locked():6.4f}"
        print(line + f"  extra {memory:5.0f} MB", flush=True)
        return ours


def blockwise() -> None:
    """All pairs at the width of a head, beside softmax attention."""
    for is_causal in (False, True):
        for length in (2048, 4096, 8192):
            case = Case(normal(1, HEADS, length, DIM, std=0.1), 0.2, is_causal=is_causal)
            case.report(f"blockwise {length}{' causal' if is_causal else ''}", "blockwise")


def window() -> None:
    """One frequency per head: 5 percent locked, then a constant number of locked keys."""
    # At 0.2 a pair locks within x = W0(5) = 1.327; a uniform spread of 46 then locks 5 percent.
    for length in (16384, 32768, 65536):
        spread = 46.0 * length / 16384
        frequency = spread * torch.rand(1, HEADS, length, 1)
        Case(frequency, 0.2).report(f"window {length}", "window", softmax=length == 16384)
    position = (46.0 / 16384 * torch.arange(16384.0)).expand(1, HEADS, -1)[..., None]
    Case(position, 0.2, is_causal=True).report("band 16384 causal", "window")


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
        heads: list[Tensor] = []
        for head in range(HEADS):
            points = case.frequency[0, head]
            x = (points[:, None] - points[None]).square().sum(-1)
            strength = (torch.exp(-x) - threshold * x).clamp(min=0).sqrt()
            heads.append(strength @ case.value[0, head] / strength.sum(-1, keepdim=True))
        return torch.stack(heads)

    reference = best(without_gradient(dense), 1)
    print(f"{'':34} dense {reference:.3f} s, {reference / forward:.0f} times as long", flush=True)


def repeats() -> None:
    """Text of 61 distinct bytes: 2048 tokens are computed as 61."""
    table, token = normal(1, HEADS, 61, DIM, std=0.1), torch.randint(61, (2048,))
    Case(table[:, :, token], 0.2).report("repeats 2048 of 61", "repeats")


def training() -> None:
    """Short sequences in a batch, as in the training of a small model."""
    case = Case(normal(16, 4, 128, 8, std=0.3), 0.2, is_causal=True)
    case.report("training 16 x 4 x 128 causal", "blockwise")


def main() -> None:
    """Runs the measurements named on the command line."""
    torch.manual_seed(0)
    known = {f.__name__: f for f in (blockwise, window, pruned, repeats, training)}
    names = sys.argv[1:] or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"names must be among {', '.join(known)}; got {', '.join(unknown)}.")
    cores = torch.get_num_threads()
    print(f"torch {torch.__version__}, {cores} threads, {platform.machine()}, float32", flush=True)
    for name in names:
        known[name]()


if __name__ == "__main__":
    main()
