"""How far oscillator attention is behind softmax in language modelling, and what closes the gap.

    python benchmarks/oscillator_language.py TEXT [--arms softmax readout-8 ...] [--seeds 3]

Word-level causal models (two blocks of width 128, four heads, SwiGLU 344, context 128) on one text,
all arms on the same batches for the same number of steps, AdamW with warm-up and cosine, the last
step's perplexity on the validation part. The arms differ in the attention alone; the number behind
a name is the dimension of the oscillators. Published gaps, relative to the perplexity of softmax:
6.3 and 3.6 percent (WikiText-2), 12.8 and 5.0 percent (TinyStories) at dimensions 8 and 32.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from runs import add_runs, descend, finish
from syncattn.data import load_words
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from syncattn.training.setup import parameter_groups

CONTEXT = 128
BEST: dict[str, Any] = {"anchors": "rotary", "readout_power": 4, "readout_gain": 4.0}
LADDER: dict[str, dict[str, Any]] = {
    "published": {"variant": "paper"},
    "best": BEST,
    "no-bias": BEST | {"coupling_bias": None},
    "no-gain": BEST | {"readout_gain": None},
    "no-power": BEST | {"readout_power": 1, "readout_gain": None},
    "table": BEST | {"anchors": "ball"},
    "content": BEST | {"anchors": "rotary-content"},
}
"""The published layer, the best one found, and that one without one of its parts."""


def options_of(arm: str) -> dict[str, Any]:
    """Returns the mechanism and the options of an arm."""
    if arm == "softmax":
        return {"mechanism": "softmax"}
    name, _, dim = arm.rpartition("-")
    if name not in LADDER or not dim.isdigit():
        raise argparse.ArgumentTypeError(
            f"arms must be softmax, or one of {', '.join(LADDER)} with a dimension, as "
            f"{next(iter(LADDER))}-8; got {arm}"
        )
    options = {"oscillator_dim": int(dim), **LADDER[name]}
    return {"mechanism": "oscillator", "attention_options": options}


def named(arm: str) -> str:
    """Returns an arm that exists."""
    options_of(arm)
    return arm


@torch.no_grad()
def perplexity(model: nn.Module, ids: Tensor) -> float:
    """Returns the perplexity over whole windows."""
    model.eval()
    windows = ids[: len(ids) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)
    total = 0.0
    for batch in windows.split(16):
        logits = model(input_ids=batch[:, :-1]).logits
        total += cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum").item()
    model.train()
    return math.exp(total / (len(windows) * CONTEXT))


def train(arm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Trains one model and returns what it reached."""
    torch.set_num_threads(1)
    words = load_words(options.text, vocabulary_size=options.vocabulary)
    if len(words.valid) <= CONTEXT:
        raise SystemExit(
            f"The validation part must hold more than {CONTEXT} words; got {len(words.valid)}. "
            f"Give a longer text."
        )
    torch.manual_seed(seed)
    config = SyncAttnConfig(
        vocab_size=len(words.vocabulary), hidden_size=128, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=344, max_position_embeddings=CONTEXT,
        **options_of(arm),
    )  # fmt: skip
    model = SyncAttnForCausalLM(config)
    rate = options.learning_rate
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=rate, betas=(0.9, 0.95))
    draw = torch.Generator().manual_seed(seed)
    start = time.perf_counter()
    for step in range(options.steps):
        warm = min(1.0, (step + 1) / 50)
        cosine = 0.1 + 0.45 * (1 + math.cos(math.pi * step / options.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * cosine
        at = torch.randint(len(words.train) - CONTEXT, (options.batch, 1), generator=draw)
        batch = words.train[at + torch.arange(CONTEXT + 1)]
        logits = model(input_ids=batch[:, :-1]).logits
        loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        descend(model, optimizer, loss)
    return {
        "arm": arm,
        "seed": seed,
        "perplexity": perplexity(model, words.valid),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": options.steps * options.batch * CONTEXT,
        "learning_rate": rate,
        "seconds": round(time.perf_counter() - start),
        "text": words.sha256[:12],
        "unknown": round(words.unknown, 4),
    }


def report(done: list[dict[str, Any]], arms: list[str]) -> None:
    """Prints the table: perplexity, and the gap to softmax of the same seed."""
    by = {(r["arm"], r["seed"]): float(r["perplexity"]) for r in done}
    seeds = sorted({seed for _, seed in by})
    print(f"\n{'arm':26}{'parameters':>11}{'perplexity':>18}{'gap to softmax, percent':>28}")
    for arm in arms:
        own = [by[arm, s] for s in seeds if (arm, s) in by]
        if not own:
            continue
        size = next(r["parameters"] for r in done if r["arm"] == arm)
        spread = statistics.stdev(own) if len(own) > 1 else 0.0
        pairs = [
            (by[arm, s], by["softmax", s]) for s in seeds if {(arm, s), ("softmax", s)} <= {*by}
        ]
        gaps = [100 * (a / b - 1) for a, b in pairs]
        line = f"{arm:26}{size:11,}{statistics.mean(own):10.2f} ± {spread:5.2f}"
        if gaps:
            spread = statistics.stdev(gaps) if len(gaps) > 1 else 0.0
            line += f"{statistics.mean(gaps):+18.2f} ± {spread:5.2f}"
        print(line)


def main() -> None:
    """Trains every arm and seed and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("text", type=Path)
    default = ["softmax", "published-8", "best-8", "published-32", "best-32"]
    parser.add_argument("--arms", nargs="+", type=named, default=default)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=2_004)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    add_runs(parser, seeds=3)
    options = parser.parse_args()
    done = finish(train, options)
    report(done, options.arms)


if __name__ == "__main__":
    main()
