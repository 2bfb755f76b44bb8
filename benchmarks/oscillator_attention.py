"""Time and memory of oscillator attention beside softmax attention, in one run.

    python benchmarks/oscillator_attention.py [--threads 2] [--cpu-time] [--lengths 2048 4096 8192]

Eight heads of 64, oscillators of 8 dimensions, anchors in the unit ball. At read-out power 1 the
values are read out in linear time, so that only the drive is quadratic; at powers 2 and 4 both are.
"compiled" is after `syncattn.kernels.fuse`, whose compilation is no part of any time. `decode` is
one token after a prefix, with the state of the layer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention

from syncattn.functional import oscillator_attention
from syncattn.kernels import fuse
from timing import add_clock, extra_megabytes, shortest, start_clock, without_gradient

HEADS, DIM, OSCILLATOR_DIM = 8, 64, 8


def calls(length: int, *, power: int, is_causal: bool) -> dict[str, Callable[[], Tensor]]:
    """Returns the two operators on operands that want gradients."""
    query, key, value = (torch.randn(1, HEADS, length, DIM, requires_grad=True) for _ in range(3))
    anchor = normalize(torch.randn(1, HEADS, length, OSCILLATOR_DIM), dim=-1).requires_grad_()

    def oscillators() -> Tensor:
        return oscillator_attention(
            query, key, value, anchor,
            is_causal=is_causal, readout_power=power, anchor_bounded=True,
        )  # fmt: skip

    def softmax() -> Tensor:
        return scaled_dot_product_attention(query, key, value, is_causal=is_causal)

    return {"ours": oscillators, "SDPA": softmax}


def both(function: Callable[[], Tensor]) -> Callable[[], None]:
    """Returns the function followed by its backward pass."""

    def run() -> None:
        out = function()
        out.backward(torch.ones_like(out))

    return run


def main() -> None:
    """Prints one line per size and form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--powers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=3)
    add_clock(parser)
    options = parser.parse_args()
    clock = start_clock(options)
    print(f"{'':38}{'forward':>9}{'both':>9}{'SDPA':>9}{'both':>9}{'ratio':>8}{'both':>8}{'MB':>7}")
    for power in options.powers:
        for is_causal in (False, True):
            for length in options.lengths:
                case = calls(length, power=power, is_causal=is_causal)
                for compiled in (False, True):
                    if compiled and not fuse():
                        continue
                    forward = {n: without_gradient(f) for n, f in case.items()}
                    one = shortest(forward, options.repeats, clock)
                    two = shortest({n: both(f) for n, f in case.items()}, options.repeats, clock)
                    memory = extra_megabytes(both(case["ours"]))
                    fuse(False)
                    name = f"{length} power {power}{' causal' * is_causal}{' compiled' * compiled}"
                    print(
                        f"{name:38}{one['ours']:9.3f}{two['ours']:9.3f}{one['SDPA']:9.3f}"
                        f"{two['SDPA']:9.3f}{one['ours'] / one['SDPA']:8.2f}"
                        f"{two['ours'] / two['SDPA']:8.2f}{memory:7.0f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
