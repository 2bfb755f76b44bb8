"""Torus models beside softmax at character level: the same bytes, parameters and grid of rates.

    python benchmarks/frustrated_language.py [TEXT] [--arms softmax frustrated ...] [--seeds 3]

Every arm has as many parameters as softmax has (within 2 percent, by the width of its
feed-forward) and sees the same windows in the same order. Its learning rate is the best of
`--rates` by the validation loss of a run of `--tuning-steps` steps; then every seed trains for
`--steps` steps. Reported are bits per byte on the validation and on the test part, and the loss
by copy depth in nats. TEXT is a file, split 90/5/5 in order; without one it is the source of the
interpreter's standard library, split by file. `--records` keeps what is finished.
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

from runs import add_runs, as_large_as_softmax, descend, finish, written
from syncattn import fuse
from syncattn.analysis.copy_depth import loss_by_copy_depth, token_losses
from syncattn.benchmarks.arms import Arm
from syncattn.data import Corpus, evaluation_batches, load_corpus, training_batch
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from syncattn.training.setup import parameter_groups

BATCH = 16
BEST = {"num_harmonics": 1}
"""Of the kernel; at this size a second harmonic changes little, see `two-harmonics`."""
ABLATIONS: dict[str, dict[str, Any]] = {
    "frustrated": {},
    "two-harmonics": {"num_harmonics": 2},
    "four-harmonics": {"num_harmonics": 4},
    "no-delay": {"num_delays": 1},
    "delay-only": {"delay_only": True},
    "no-static-angles": {"frustration": False},
    "no-repulsion": {"repulsion": False},
    "all-coupled": {"coupled": 1.0},
    "kernel-per-head": {"per_coordinate": False},
    "token-gate": {"gate_input": "token"},
    "static-gate": {"gate": "static"},
    "self-visible": {"exclude_self": False},
    "no-drift": {"drift_base": None},
}
FEEDFORWARDS = {"mean-field": "mean-field", "no-feedforward": "none"}
FEATURES = {"cosine-sine-feedforward": "cosine-sine"}
HEADS = {"softmax-four-heads": 4}
ARMS = ("softmax", *HEADS, "kuramoto", *ABLATIONS, *FEEDFORWARDS, *FEATURES)


def arm_of(name: str) -> Arm:
    """Returns an arm by its name here."""
    mechanism = name.removesuffix("-four-heads")
    if mechanism in {"softmax", "kuramoto"}:
        return Arm(mechanism, "", 0.0)
    feedforward = FEEDFORWARDS.get(name, "swiglu")
    features = FEATURES.get(name, "sine")
    return Arm("frustrated", "", 0.0, feedforward, features, BEST | ABLATIONS.get(name, {}))


def config_of(name: str, options: argparse.Namespace) -> SyncAttnConfig:
    """Returns the model of an arm, matched to the parameters of softmax."""
    shape = {
        "hidden_size": options.hidden_size,
        "num_hidden_layers": options.layers,
        "num_attention_heads": HEADS.get(name, options.heads),
    }
    arm = arm_of(name)
    if arm.feedforward == "none":
        # Nothing is left to match by; the record tells the count.
        return SyncAttnConfig(
            mechanism=arm.mechanism, feedforward="none", max_position_embeddings=options.context,
            attention_options=dict(arm.options), **shape,
        )  # fmt: skip
    return as_large_as_softmax(arm, options.context, **shape)


@torch.no_grad()
def measure(
    model: nn.Module, split: Tensor, options: argparse.Namespace, tokens: int | None
) -> tuple[float, list[list[Any]]]:
    """Returns bits per byte, and the loss by copy depth: name, number of tokens, nats."""
    model.eval()
    total, count, losses, ids = 0.0, 0, [], []
    for batch in evaluation_batches(
        split, batch_size=32, context_length=options.context, max_tokens=tokens
    ):
        logits = model(input_ids=batch[:, :-1]).logits
        total += cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum").item()
        count += batch[:, 1:].numel()
        if batch.shape[1] == options.context + 1:
            losses.append(token_losses(logits, batch[:, :-1]))
            ids.append(batch[:, :-1])
    model.train()
    bins = loss_by_copy_depth(torch.cat(losses).numpy(), torch.cat(ids).numpy())
    return total / count / math.log(2), [[b.name, b.num_tokens, round(b.mean, 4)] for b in bins]


def fit(
    name: str, seed: int, rate: float, steps: int, corpus: Corpus, options: argparse.Namespace
) -> SyncAttnForCausalLM:
    """Returns a trained model."""
    torch.manual_seed(seed)
    model = SyncAttnForCausalLM(config_of(name, options))
    optimizer = torch.optim.AdamW(
        parameter_groups(model, 0.1), lr=rate, betas=(0.9, 0.95), fused=True
    )
    # A trial warms up for as long as the run: a shorter warm-up would forbid rates the run bears.
    warm = options.steps // 20
    for step in range(steps):
        progress = max(0.0, (step - warm) / max(1, steps - 1 - warm))
        factor = (step + 1) / warm if step < warm else 0.55 + 0.45 * math.cos(math.pi * progress)
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
        batch = training_batch(
            corpus.train, batch_size=BATCH, context_length=options.context, seed=seed, step=step
        )
        logits = model(input_ids=batch[:, :-1]).logits
        loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        descend(model, optimizer, loss)
    return model


def tune(name: str, corpus: Corpus, options: argparse.Namespace) -> dict[str, float]:
    """Returns the validation bits of every rate after the shorter training."""
    found: dict[str, float] = {}
    for rate in options.rates:
        model = fit(name, 0, rate, options.tuning_steps, corpus, options)
        bits, _ = measure(model, corpus.valid, options, options.evaluation_tokens)
        found[f"{rate:g}"] = bits if math.isfinite(bits) else math.inf
    return found


_tuned: dict[str, dict[str, float]] = {}


def train(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Trains one model at its arm's best rate and returns what it reached."""
    torch.set_num_threads(options.threads)
    fuse()
    corpus = load_corpus(options.text, context_length=options.context)
    if name not in _tuned:
        known = [r["trials"] for r in written(options) if r["arm"] == name]
        _tuned[name] = known[0] if known else tune(name, corpus, options)
    rate = float(min(_tuned[name], key=_tuned[name].__getitem__))
    start = time.perf_counter()
    model = fit(name, seed, rate, options.steps, corpus, options)
    seconds = round(time.perf_counter() - start)
    valid, _ = measure(model, corpus.valid, options, None)
    test, depth = measure(model, corpus.test, options, None)
    # A record tells the data by its name and checksum: folders differ between machines.
    data = corpus.identity.as_dict() | {"source": options.text and options.text.name}
    return {
        "arm": name, "seed": seed, "valid": valid, "test": test, "rate": rate,
        "trials": _tuned[name], "copy_depth": depth, "seconds": seconds,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": options.steps * BATCH * options.context, "data": data,
    }  # fmt: skip


def main() -> None:
    """Trains every arm and seed and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("text", type=Path, nargs="?")
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, default=["softmax", "frustrated", "mean-field"]
    )
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 4e-3, 8e-3, 1.6e-2])
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--tuning-steps", type=int, default=400)
    parser.add_argument("--hidden-size", type=int, default=80)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--evaluation-tokens", type=int, default=65_536, help="of a trial")
    parser.add_argument("--threads", type=int, default=1, help="of one training")
    add_runs(parser, seeds=3)
    options = parser.parse_args()
    done = finish(train, options)
    base = [r["valid"] for r in done if r["arm"] == "softmax"]
    print(
        f"\n{'arm':18} {'parameters':>10} {'rate':>7} {'valid':>16} {'test':>8} {'to softmax':>11}"
    )
    for name in options.arms:
        mine = [r for r in done if r["arm"] == name]
        valid = [float(r["valid"]) for r in mine]
        spread = statistics.stdev(valid) if len(valid) > 1 else 0.0
        test = statistics.mean(float(r["test"]) for r in mine)
        gap = f"{statistics.mean(valid) / statistics.mean(base) - 1:+11.2%}" if base else ""
        print(
            f"{name:18} {mine[0]['parameters']:10,} {mine[0]['rate']:7g} "
            f"{statistics.mean(valid):8.4f} ± {spread:.4f} {test:8.4f} {gap}"
        )


if __name__ == "__main__":
    main()
