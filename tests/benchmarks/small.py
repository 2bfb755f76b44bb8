"""A comparison small enough for a test."""

from pathlib import Path

from syncattn.benchmarks.compare import CompareConfig, Comparison

TEXT = "".join(f"line {i}: the phase of {i * 7 % 13} locks to {i * 5 % 11}\n" for i in range(500))


def corpus(folder: Path) -> Path:
    path = folder / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def config(folder: Path, **changes) -> CompareConfig:
    values = {
        "mechanisms": ("softmax", "selective", "oscillator", "kuramoto", "frustrated"),
        "corpus": corpus(folder),
        "output": folder / "run",
        "steps": 4,
        "batch_size": 2,
        "context_length": 24,
        "hidden_size": 16,
        "num_layers": 1,
        "num_heads": 2,
        "parameters": 16_000,
        "sample_length": 4,
        "workers": 1,
    }
    return CompareConfig(**(values | changes))


def comparison(folder: Path, **changes) -> Comparison:
    return Comparison(config(folder, **changes))
