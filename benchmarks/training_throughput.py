"""Training throughput of every mechanism relative to softmax, models of equal size, in one run.

    python benchmarks/training_throughput.py [--shapes 16x128 8x256] [--compiled] [--cpu-time]

A step is forward, loss and backward; all mechanisms take theirs in turn and keep the shortest time.
The models have one million parameters at the default width and depth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from runs import as_large_as_softmax
from syncattn import fuse
from syncattn.benchmarks.arms import ARMS
from syncattn.models import SyncAttnForCausalLM
from timing import add_clock, shortest, start_clock


def step(name: str, batch: int, length: int, options: argparse.Namespace) -> Callable[[], object]:
    """Returns a training step of a model as large as softmax's."""
    shape = {
        "hidden_size": options.hidden_size,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
    }
    model = SyncAttnForCausalLM(as_large_as_softmax(ARMS[name], length, **shape))
    ids = torch.randint(256, (batch, length))

    def call() -> None:
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()

    return call


def main() -> None:
    """Parses the command line and prints one line per mechanism."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add_clock(parser, threads=1)
    parser.add_argument("--mechanisms", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    parser.add_argument("--shapes", nargs="+", default=["16x128", "8x256"], help="batch x length")
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--compiled", action="store_true", help="after syncattn.fuse()")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    clock = start_clock(options)
    if options.compiled:
        fuse()
    for shape in options.shapes:
        batch, length = map(int, shape.split("x"))
        names = dict.fromkeys(["softmax", *options.mechanisms])
        steps = {name: step(name, batch, length, options) for name in names}
        times = shortest(steps, options.repeats, clock)
        print(f"\n{shape} tokens a step")
        print(f"{'mechanism':22} {'ms':>8} {'tokens/s':>9} {'of softmax':>10}")
        for name, seconds in times.items():
            print(
                f"{name:22} {seconds * 1e3:8.1f} {batch * length / seconds:9,.0f} "
                f"{times['softmax'] / seconds:10.2f}", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
