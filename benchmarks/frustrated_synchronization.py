"""Time of frustrated synchronization beside one SDPA call of the same widths, in one run.

    python benchmarks/frustrated_synchronization.py [--cpu-time] [--training] [--compiled]

Both run in turn and each keeps its shortest time. "same widths" is causal SDPA with queries, keys
and values of the width that the operator calls it with, max(2, 2 M) x dim: what is beyond 1 is the
work around the call. "useful" is SDPA of equal widths with as many multiplications as the operator
needs, (1 + M) x dim: what is beyond "same widths" is padding, because SDPA takes one width.
`--cpu-time` counts the time of the processor, steadier beside other work; it wants one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from syncattn import functional, fuse
from timing import add_clock, shortest, start_clock

HEADS = 8
Timed = Callable[[], object]


def softmax(length: int, width: int, training: bool) -> Timed:
    """Returns a call of causal SDPA with three operands of one width."""
    query, key, value = (
        torch.randn(1, HEADS, length, width, requires_grad=training) for _ in range(3)
    )

    def call() -> Tensor:
        out = scaled_dot_product_attention(query, key, value, is_causal=True)
        return _backward(out) if training else out

    return call


def frustrated(length: int, dim: int, num_harmonics: int, training: bool) -> Timed:
    """Returns a call of the operator with gates, drift and a delay."""
    theta, query_gate, key_gate = (
        torch.randn(1, HEADS, length, dim, requires_grad=training) for _ in range(3)
    )
    kernel = torch.randn(HEADS, 2, num_harmonics, dim, requires_grad=training)
    drift = functional.rotary_drift(dim)

    def call() -> Tensor:
        out = functional.frustrated_synchronization(
            theta, theta, query_gate, key_gate, harmonic_amplitude=kernel, frustration=kernel,
            natural_frequency=drift, is_causal=True, backend="sdpa",
        )  # fmt: skip
        return _backward(out) if training else out

    return call


def _backward(out: Tensor) -> Tensor:
    out.sum().backward()
    return out


def main() -> None:
    """Parses the command line and prints one line per case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add_clock(parser, threads=1)
    parser.add_argument("--training", action="store_true", help="forward and backward")
    parser.add_argument("--compiled", action="store_true", help="after syncattn.fuse()")
    parser.add_argument("--lengths", type=int, nargs="*", default=[512, 1024, 2048, 4096])
    parser.add_argument("--dims", type=int, nargs="*", default=[32, 64])
    parser.add_argument("--harmonics", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    clock = start_clock(options)
    if options.compiled:
        fuse()
    kind = "forward and backward" if options.training else "forward"
    print(f"{kind}, 1 x {HEADS} heads")
    header = ("length", "dim", "M", "ms", "SDPA ms", "ratio", "useful ms", "ratio")
    print(" ".join(f"{name:>9}" for name in header))
    for dim in options.dims:
        for harmonics in options.harmonics:
            for length in options.lengths:
                training = options.training
                cases = {
                    "frustrated": frustrated(length, dim, harmonics, training),
                    "same widths": softmax(length, 2 * harmonics * dim, training),
                    "useful": softmax(length, (1 + harmonics) * dim, training),
                }
                with torch.set_grad_enabled(training):
                    ours, same, useful = shortest(cases, options.repeats, clock).values()
                print(
                    f"{length:9d} {dim:9d} {harmonics:9d} {ours * 1e3:9.1f} {same * 1e3:9.1f} "
                    f"{ours / same:9.2f} {useful * 1e3:9.1f} {ours / useful:9.2f}", flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
