"""Long-range copying: which mechanism learns to read what followed an earlier place.

    python benchmarks/copying.py [--arms frustrated softmax] [--seeds 0 1 2 3 4] [--steps 250]

Two layers of 30 to 60 thousand parameters are trained on `syncattn.data.CopyingTask`; accuracy is
that of tokens inside the repetition of texts never seen. Every arm is trained at every rate of
`--rates`; the table has one line per arm, rate and seed, and the summary takes each arm's best
rate by its mean over seeds on texts that are not those reported. Besides blind chance a record
tells `bag_chance`, what counting alone reaches. With `--layers 1` only a mechanism that reads
successors can copy; two layers can learn to copy in two steps, more slowly. The whole grid takes
some minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch

from runs import descend
from syncattn.data import CopyingTask, copying_accuracy
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM

ARMS: dict[str, dict[str, Any]] = {
    "frustrated": {"mechanism": "frustrated", "attention_options": {"num_harmonics": 1}},
    "frustrated-without-delay": {
        "mechanism": "frustrated", "attention_options": {"num_harmonics": 1, "num_delays": 1}
    },
    "frustrated-delay-only": {
        "mechanism": "frustrated", "attention_options": {"num_harmonics": 1, "delay_only": True}
    },
    "kuramoto": {"mechanism": "kuramoto"},
    "softmax": {"mechanism": "softmax"},
}  # fmt: skip
DEFAULT_ARMS = ["frustrated", "frustrated-without-delay", "kuramoto", "softmax"]
VALIDATION_STEP, TEST_STEP = -2, -1


def build(arm: str, task: CopyingTask, layers: int) -> SyncAttnForCausalLM:
    """Returns a fresh model of an arm; softmax gets its saved gates back as feed-forward."""
    config = SyncAttnConfig(
        vocab_size=task.vocab_size, hidden_size=48, num_hidden_layers=layers,
        num_attention_heads=2, intermediate_size=96 if arm == "softmax" else 48,
        max_position_embeddings=task.length, **ARMS[arm],
    )  # fmt: skip
    return SyncAttnForCausalLM(config)


def run(
    arm: str, task: CopyingTask, seed: int, rate: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Trains one model and returns its accuracy on texts it has not seen."""
    torch.manual_seed(seed)
    model = build(arm, task, options.layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    warmup = max(options.steps // 10, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 1.0) * (1 - 0.9 * step / options.steps),
    )
    start = time.process_time()
    solved = None
    for step in range(options.steps):
        batch = task.batch(options.batch_size, seed=seed, step=step)
        output: Any = model(input_ids=batch.input_ids, labels=batch.labels)
        descend(model, optimizer, output.loss)
        schedule.step()
        if solved is None and copying_accuracy(output.logits.detach(), batch) > 0.99:
            solved = step + 1
    valid, test = (task.batch(256, seed=seed, step=s) for s in (VALIDATION_STEP, TEST_STEP))
    with torch.no_grad():
        chosen_by: Any = model(input_ids=valid.input_ids)
        output = model(input_ids=test.input_ids, labels=test.labels)
    return {
        "arm": arm, "rate": rate, "seed": seed, "steps": options.steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        "valid_accuracy": copying_accuracy(chosen_by.logits, valid),
        "accuracy": copying_accuracy(output.logits, test), "loss": float(output.loss),
        "steps_to_99": solved, "seconds": round(time.process_time() - start, 1),
        "chance": task.chance, "bag_chance": round(task.bag_chance(test), 4),
        "ceiling": task.ceiling(test, order=1 if task.distinct else 3),
    }  # fmt: skip


def best_rate(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the records of the rate that is best on what is not reported."""
    found: dict[float, list[dict[str, Any]]] = {}
    for record in records:
        found.setdefault(record["rate"], []).append(record)
    return max(found.values(), key=lambda each: statistics.mean(r["valid_accuracy"] for r in each))


def main() -> None:
    """Runs the grid and prints one record per run and a summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=DEFAULT_ARMS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rates", type=float, nargs="*", default=[1e-2])
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--recurring", action="store_true", help="symbols recur in a segment")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = CopyingTask(distinct=not options.recurring)
    records: list[dict[str, Any]] = []
    for arm in options.arms:
        for rate in options.rates:
            for seed in options.seeds:
                records.append(run(arm, task, seed, rate, options))
                print(json.dumps(records[-1]), flush=True)
    for arm in options.arms:
        best = best_rate([record for record in records if record["arm"] == arm])
        listed = " ".join(f"{record['accuracy']:.3f}" for record in best)
        print(f"{arm:26} rate {best[0]['rate']:g}  accuracy by seed {listed}")


if __name__ == "__main__":
    main()
