"""The folder of a finished comparison, made without training: models as they were drawn."""

import json
from pathlib import Path

import torch

from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.records import Record, append_record
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from syncattn.models.quiet import quiet_transformers

MECHANISMS = ("softmax", "selective", "oscillator", "kuramoto", "frustrated")


def record(arm: str, seed: int, **changes) -> Record:
    place = list(MECHANISMS).index(arm) if arm in MECHANISMS else 9
    end = 2.5 + 0.1 * place + 0.02 * seed
    curve = [
        {"step": n, "tokens": 100 * n, "valid_bits_per_byte": end + 3 / n, "seed": seed}
        for n in (1, 2, 3)
    ]
    values = {
        "task": "compare",
        "arm": arm,
        "mechanism": arm if arm in MECHANISMS else "softmax",
        "seed": seed,
        "parameters": 12_000,
        "tokens": 300,
        "steps": 3,
        "tokens_per_second": 1000.0,
        "wall_seconds": 1.0,
        "peak_memory_bytes": 10_000_000,
        "valid_bits_per_byte": end,
        "test_bits_per_byte": end,
        "curve": curve,
        "data": {"name": "lines", "sha256": "ab" * 32, "whole": True},
        "versions": {"torch": "2"},
        "commit": None,
        "device": "cpu",
        "command": "syncattn compare --output run",
    }
    return Record(**(values | changes))


def model(mechanism: str, layers: int = 2, heads: int = 2) -> SyncAttnForCausalLM:
    torch.manual_seed(0)
    return SyncAttnForCausalLM(
        SyncAttnConfig(
            mechanism=mechanism,
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=16,
            max_position_embeddings=48,
        )
    )


def save_model(mechanism: str, folder: Path, **shape) -> None:
    with quiet_transformers():
        model(mechanism, **shape).save_pretrained(folder)


def finished_run(
    folder: Path, mechanisms: tuple[str, ...] = MECHANISMS, seeds: tuple[int, ...] = (0, 1)
) -> Path:
    """Writes the folder; only the first seed of every arm keeps its model."""
    for arm in mechanisms:
        for seed in seeds:
            append_record(folder / "records.jsonl", record(arm, seed))
        save_model(ARMS[arm].mechanism, folder / f"{arm}-seed{seeds[0]}" / "model")
    return folder


def training_run(folder: Path, mechanism: str = "selective") -> Path:
    """Writes the folder of one training."""
    save_model(mechanism, folder / "model")
    points = record(mechanism, 0).curve
    lines = "".join(json.dumps(point) + "\n" for point in points)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    return folder
