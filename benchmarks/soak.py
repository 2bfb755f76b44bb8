"""Trains and decodes for a while and fails if the memory of the process grows.

    python benchmarks/soak.py                        # 10 minutes of each
    SYNCATTN_SOAK_MINUTES=30 python benchmarks/soak.py

Resident memory is read at equal intervals. The first half warms up: allocators keep what they once
took. Growth is the slope of a line through the second half, times its length; it must stay below
the tolerance. A leak of one tensor of 4 kB a step would show within seconds.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable

import psutil
import torch

from syncattn.models import MECHANISMS, SyncAttnConfig, SyncAttnForCausalLM

SAMPLES = 40


def model(mechanism: str) -> SyncAttnForCausalLM:
    """Returns a small language model of a mechanism."""
    torch.manual_seed(0)
    return SyncAttnForCausalLM(
        SyncAttnConfig(
            mechanism=mechanism,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=128,
        )
    )


def training(mechanism: str) -> Callable[[], int]:
    """Returns a function that does one training step and returns its tokens."""
    network = model(mechanism).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def step() -> int:
        ids = torch.randint(256, (4, 64))
        network(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return ids.numel()

    return step


def decoding(mechanism: str) -> Callable[[], int]:
    """Returns a function that generates a text from a short prompt and returns its tokens."""
    network = model(mechanism).eval()

    def step() -> int:
        prompt = torch.randint(1, 256, (2, 8))
        out = network.generate(prompt, max_new_tokens=56, do_sample=True, pad_token_id=0)
        return out.numel() - prompt.numel()

    return step


def megabytes() -> float:
    """Returns the resident memory of this process."""
    gc.collect()
    return psutil.Process().memory_info().rss / 1e6


def growth(samples: list[float]) -> float:
    """Returns the growth over the second half of the samples, by least squares."""
    late = torch.tensor(samples[len(samples) // 2 :], dtype=torch.float64)
    place = torch.arange(len(late), dtype=torch.float64)
    place = place - place.mean()
    return ((place * late).sum() / place.square().sum()).item() * (len(late) - 1)


def soak(step: Callable[[], int], seconds: float) -> tuple[int, list[float]]:
    """Repeats a step for a time and returns the tokens and the memory at equal intervals."""
    samples: list[float] = []
    tokens = 0
    started = time.monotonic()
    for index in range(SAMPLES):
        while True:
            tokens += step()
            if time.monotonic() - started >= seconds * (index + 1) / SAMPLES:
                break
        samples.append(megabytes())
    return tokens, samples


def main() -> int:
    """Prints a table and returns 1 if anything grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    minutes = float(os.environ.get("SYNCATTN_SOAK_MINUTES", "10"))
    parser.add_argument(
        "--minutes", type=float, default=minutes, help="of training, and of decoding"
    )
    parser.add_argument("--tolerance", type=float, default=8.0, help="growth in MB that is noise")
    parser.add_argument("--mechanisms", nargs="+", default=list(MECHANISMS), choices=MECHANISMS)
    arguments = parser.parse_args()
    seconds = 60 * arguments.minutes / len(arguments.mechanisms)
    print(
        f"| what | mechanism | tokens | start MB | half MB | end MB | growth MB |\n|{' -- |' * 7}"
    )
    failed = 0
    for what, make in (("training", training), ("decoding", decoding)):
        for mechanism in arguments.mechanisms:
            tokens, samples = soak(make(mechanism), seconds)
            grown = growth(samples)
            failed += grown > arguments.tolerance
            half = samples[len(samples) // 2]
            print(
                f"| {what} | {mechanism} | {tokens:,} | {samples[0]:.1f} | {half:.1f} | "
                f"{samples[-1]:.1f} | {grown:+.2f} |",
                flush=True,
            )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
