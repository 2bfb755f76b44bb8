"""One training of a comparison: from a description that can cross processes to a record."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from syncattn.benchmarks.arms import ARMS, count_parameters
from syncattn.benchmarks.environment import environment
from syncattn.benchmarks.passes import compiled_passes
from syncattn.benchmarks.pictures import diagnostics, draw_weights, layer_patterns, snippet
from syncattn.benchmarks.records import Record
from syncattn.data import Corpus, load_corpus
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from syncattn.models.quiet import quiet_transformers
from syncattn.models.text import generate_text
from syncattn.training import DivergedError, TrainingConfig, train

__all__ = ["Job", "failed_job", "run_job"]


@dataclass(frozen=True)
class Job:
    """What one training is.

    Attributes:
        arm: Name of the arm.
        model: Arguments of its `SyncAttnConfig`.
        training: How it is trained.
        directory: Where it writes.
        corpus: Path of the corpus, or None for the standard library.
        max_bytes: How much of the corpus is used.
        corpus_sha256: What the corpus must be.
        sample_length: Bytes of text the trained model writes.
        command: The command that repeats the comparison.
        position: Row of the progress bar.
        compiled: Whether a CPU uses the compiled passes; see `syncattn.fuse`.
    """

    arm: str
    model: dict[str, Any]
    training: TrainingConfig
    directory: Path
    corpus: Path | None
    max_bytes: int | None
    corpus_sha256: str
    sample_length: int
    command: str
    position: int = 0
    compiled: bool = True


def run_job(job: Job) -> Record:
    """Trains one model and describes it; a training that diverges is a result too.

    A training that was stopped goes on from its last whole checkpoint.

    Args:
        job: What to do.

    Returns:
        The record.

    Raises:
        RuntimeError: If the corpus changed since the comparison was set up.
    """
    with compiled_passes(job.compiled and not torch.cuda.is_available()):
        return _run(job)


def failed_job(job: Job, corpus: Corpus, error: BaseException, **known: Any) -> Record:
    """Returns the record of a training that failed.

    Args:
        job: The training.
        corpus: Its data.
        error: Why it failed.
        **known: Fields of the record that are known nevertheless.
    """
    failure = str(error) or type(error).__name__
    common = _description(job, SyncAttnConfig(**job.model), corpus)
    return Record(**common, status="failed", failure=failure, **known)


def _run(job: Job) -> Record:
    corpus = _corpus(job.corpus, job.training.context_length, job.max_bytes)
    if corpus.identity.sha256 != job.corpus_sha256:
        raise RuntimeError(
            f"The corpus must stay as it was when the comparison began; its sha256 was "
            f"{job.corpus_sha256} and is {corpus.identity.sha256}. Start a new comparison."
        )
    config = SyncAttnConfig(**job.model)
    seed = job.training.seed
    torch.manual_seed(seed)
    model = SyncAttnForCausalLM(config)
    common = _description(job, config, corpus)
    started = time.perf_counter()
    try:
        result = train(
            model,
            corpus,
            job.training,
            directory=job.directory,
            label=job.arm if seed == 0 else f"{job.arm} seed {seed}",
            position=job.position,
            resume=True,
        )
    except DivergedError as error:
        seconds = time.perf_counter() - started
        return failed_job(job, corpus, error, steps=error.step, wall_seconds=seconds)
    with quiet_transformers():
        model.save_pretrained(job.directory / "model")
        patterns = _look(job, model, corpus)
    return Record(
        **common,
        tokens=result.num_tokens,
        steps=job.training.steps,
        tokens_per_second=result.tokens_per_second,
        wall_seconds=time.perf_counter() - started,
        peak_memory_bytes=result.peak_memory_bytes,
        valid_bits_per_byte=result.valid_bits_per_byte,
        test_bits_per_byte=result.test_bits_per_byte,
        curve=[asdict(point) | {"seed": seed} for point in result.curve],
        diagnostics=diagnostics(patterns),
    )


def _look(job: Job, model: SyncAttnForCausalLM, corpus: Corpus) -> list[Any]:
    """Draws what the trained model looks at and lets it write."""
    text = snippet(corpus.valid, min(36, job.training.context_length))
    patterns = layer_patterns(model, text)
    draw_weights(
        patterns, text, job.directory / "weights", name=job.arm, legend=ARMS[job.arm].legend
    )
    prompt = text[: len(text) // 2].decode("utf-8", errors="ignore") or "\n"
    sample = generate_text(model, prompt, max_new_tokens=job.sample_length, seed=0)
    (job.directory / "sample.txt").write_text(sample, encoding="utf-8")
    return patterns


def _description(job: Job, config: SyncAttnConfig, corpus: Corpus) -> dict[str, Any]:
    return {
        "task": "compare",
        "arm": job.arm,
        "mechanism": config.mechanism,
        "variant": config.attention_options | {"feedforward": config.feedforward},
        "seed": job.training.seed,
        "parameters": count_parameters(config),
        "data": corpus.identity.as_dict(),
        "command": job.command,
        "learning_rate": job.training.learning_rate,
        **environment(),
    }


@lru_cache(maxsize=1)
def _corpus(path: Path | None, context_length: int, max_bytes: int | None) -> Corpus:
    return load_corpus(path, context_length=context_length, max_bytes=max_bytes)
