"""One comparison: mechanisms of equal size learn one corpus, and a folder tells the story."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from syncattn import _validation as check
from syncattn.analysis import learning_curves, save_figure
from syncattn.benchmarks.arms import ARMS, count_parameters, matched_config
from syncattn.benchmarks.executors import in_process, in_workers, usable_cores
from syncattn.benchmarks.folders import held, holds_files, require_output
from syncattn.benchmarks.job import Job, failed_job, run_job
from syncattn.benchmarks.records import Record, append_record, by_seed, read_records
from syncattn.benchmarks.tables import print_table, summary_table, to_csv, to_markdown
from syncattn.data import Corpus, load_corpus
from syncattn.models import SyncAttnConfig
from syncattn.training import TrainingConfig
from syncattn.training.writing import require_name

__all__ = ["CompareConfig", "Comparison"]

_ARGUMENTS = (
    *(
        name
        for name, parameter in signature(SyncAttnConfig).parameters.items()
        if parameter.kind is not Parameter.VAR_KEYWORD
    ),
    "tie_word_embeddings",
)


@dataclass(frozen=True)
class CompareConfig:
    """What is compared, on what text, and for how long."""

    mechanisms: tuple[str, ...] = ("softmax", "selective", "oscillator", "kuramoto", "frustrated")
    """Mechanisms to train: softmax, selective, oscillator, oscillator-2, kuramoto, frustrated,
    frustrated-meanfield."""

    corpus: Path | None = None
    """A file or folder of text; the source of Python's standard library when left out."""

    output: Path = Path("runs/compare")
    """Folder of the run; must be new or empty, unless resumed."""

    seeds: tuple[int, ...] = (0,)
    """Seeds; every mechanism is trained once with each."""

    steps: int = 450
    """Optimiser steps of every training."""

    batch_size: int = 8
    """Windows of text in a step."""

    context_length: int = 128
    """Bytes a model sees at once."""

    hidden_size: int = 64
    """Width of the stream, or number of phases of a token."""

    num_layers: int = 3
    """Number of blocks."""

    num_heads: int = 4
    """Number of heads; divides the hidden size."""

    parameters: int | None = None
    """Parameters of every model, within 2 %; when left out, what softmax has with a feed-forward
    8/3 as wide as the stream."""

    learning_rate: float | None = None
    """Peak learning rate of all; when left out, each mechanism's own."""

    max_bytes: int | None = None
    """Use at most so many bytes of the corpus."""

    sample_length: int = 200
    """Bytes of text that every trained model writes."""

    workers: int | None = None
    """Trainings at a time, each in a process of its own; when left out, one per core, or one in
    all where there is an accelerator."""

    compiled: bool = True
    """Compile what happens around the products, on a CPU with a C compiler: about half the time."""

    resume: bool = False
    """Go on with a run that was stopped; what ended well is kept, what failed is tried again."""


class Comparison:
    """A checked comparison, ready to run; nothing is written before `run`.

    Args:
        config: What to compare.

    Raises:
        ValueError: If a setting, the corpus or the folder cannot be used.
    """

    def __init__(self, config: CompareConfig) -> None:
        self.config = config
        self.arms = {name: ARMS[name] for name in _mechanisms(config)}
        if not config.seeds or len(set(config.seeds)) < len(config.seeds):
            raise ValueError(
                f"`seeds` must be different numbers, one at least; got {list(config.seeds)}. "
                f"For example --seeds 0 1 2."
            )
        check.require_integer(config.sample_length, "sample_length", minimum=1)
        if config.workers is not None:
            check.require_integer(config.workers, "workers", minimum=1)
        self.training = {
            (name, seed): self._training(name, seed) for name in self.arms for seed in config.seeds
        }
        self.corpus = _corpus(config)
        self.models = self._models()
        self.records = config.output / "records.jsonl"
        require_output(config.output)
        if holds_files(config.output):
            self._require_same_settings()

    def run(self, console: Console) -> bool:
        """Trains what is not trained yet, then writes table and pictures.

        Args:
            console: Where progress and table go.

        Returns:
            True when every training ended well.

        Raises:
            BusyFolderError: If another process writes the folder.
        """
        with held(self.config.output):
            self._train(console)
            return self._report(console)

    def _train(self, console: Console) -> None:
        _write_json(self.config.output / "settings.json", self._settings())
        identity = self.corpus.identity
        console.print(
            f"Corpus {identity.name}: {sum(identity.num_bytes.values()):,} bytes in "
            f"{identity.num_files:,} files, {'whole' if identity.whole else 'a part'}.",
            markup=False,
        )
        done = {(r.arm, r.seed) for r in self._finished() if r.status == "ok"}
        jobs = [job for job in self._jobs() if (job.arm, job.training.seed) not in done]
        workers = min(self.config.workers or _default_workers(), max(1, len(jobs)))
        if jobs:
            console.print(
                f"{len(jobs)} trainings of {self.config.steps} steps, {workers} at a time."
            )
        # The mechanisms stand in order of cost: the longest first leaves no core idle at the end.
        outcomes = (
            in_process(run_job, jobs, None) if workers == 1
            else in_workers(run_job, jobs[::-1], None, workers=workers)
        )  # fmt: skip
        with closing(outcomes):
            for job, record, error in outcomes:
                if error is not None:
                    record = failed_job(job, self.corpus, error)
                append_record(self.records, record)

    def _jobs(self) -> list[Job]:
        config = self.config
        return [
            Job(
                arm=name,
                model=_plain(self.models[name]),
                training=training,
                directory=config.output / f"{name}-seed{seed}",
                corpus=config.corpus,
                max_bytes=config.max_bytes,
                corpus_sha256=self.corpus.identity.sha256,
                sample_length=config.sample_length,
                command=shlex.join(["syncattn", *sys.argv[1:]]),
                position=position,
                compiled=config.compiled,
            )
            for position, ((name, seed), training) in enumerate(self.training.items())
        ]

    def _report(self, console: Console) -> bool:
        output, records = self.config.output, self._finished()
        rows = summary_table(records)
        _write_text(output / "table.md", to_markdown(rows))
        _write_text(output / "table.csv", to_csv(rows))
        curves = {
            name: [point for r in records if r.arm == name for point in r.curve]
            for name in self.arms
        }
        curves = {name: points for name, points in curves.items() if points}
        if curves:
            save_figure(learning_curves(curves), output / "curves")
        print_table(rows, console=console)
        console.print(
            f"Written to {output}: table.md, curves.png and, for each mechanism,", markup=False
        )
        console.print("  weights.png (what it looks at), sample.txt (what it writes) and model/.")
        for record in records:
            if record.status != "ok":
                failed = f"{record.arm}, seed {record.seed}, failed: {record.failure}"
                console.print(failed, markup=False)
        return all(record.status == "ok" for record in records)

    def _finished(self) -> list[Record]:
        if not self.records.exists():
            return []
        records, _ = read_records(self.records)
        runs = {name: by_seed(r for r in records if r.arm == name) for name in self.arms}
        return [runs[name][seed] for name, seed in self.training if seed in runs[name]]

    def _training(self, name: str, seed: int) -> TrainingConfig:
        config = self.config
        rate = self.arms[name].learning_rate if config.learning_rate is None else None
        return TrainingConfig(
            steps=config.steps,
            batch_size=config.batch_size,
            context_length=config.context_length,
            learning_rate=config.learning_rate if rate is None else rate,  # pyright: ignore[reportArgumentType]
            evaluation_interval=max(1, config.steps // 10),
            evaluation_tokens=16_384,
            test_tokens=65_536,
            seed=seed,
        )

    def _models(self) -> dict[str, SyncAttnConfig]:
        config = self.config
        shape: dict[str, Any] = {
            "hidden_size": config.hidden_size,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
        }
        for argument, value in zip(("hidden_size", "num_layers", "num_heads"), shape.values(),
                                   strict=True):  # fmt: skip
            check.require_integer(value, argument, minimum=1)
        check.require_divisible(
            config.hidden_size, "hidden_size", 2 * config.num_heads, "2 * num_heads"
        )
        target = config.parameters
        if target is None:
            target = count_parameters(
                SyncAttnConfig(intermediate_size=round(8 / 3 * config.hidden_size), **shape)
            )
        check.require_integer(target, "parameters", minimum=1)
        return {
            name: matched_config(
                arm, parameters=target, context_length=config.context_length, **shape
            )
            for name, arm in self.arms.items()
        }

    def _settings(self) -> dict[str, Any]:
        settings = asdict(self.config) | {"corpus": self.corpus.identity.as_dict()}
        return {k: v for k, v in settings.items() if k not in {"output", "resume", "workers"}}

    def _require_same_settings(self) -> None:
        output, path = self.config.output, self.config.output / "settings.json"
        if not self.config.resume:
            raise ValueError(
                f"`output` must be new or empty; {output} holds files. Choose another folder, or "
                f"add --resume to go on with the run in it."
            )
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            earlier = {}
        now = json.loads(json.dumps(self._settings(), default=str))
        changed = [key for key in now if earlier.get(key) != now[key]]
        if changed:
            raise ValueError(
                f"`output` must hold a run with the same settings to resume it; {output} differs "
                f"in {', '.join(changed)}. Repeat its settings, or choose another folder."
            )


def _corpus(config: CompareConfig) -> Corpus:
    if config.corpus is not None:
        require_name(config.corpus, "corpus")
    try:
        return load_corpus(
            config.corpus, context_length=config.context_length, max_bytes=config.max_bytes
        )
    except ValueError as error:
        # What is a path to the loader is the option --corpus here.
        raise ValueError(str(error).replace("`path`", "`corpus`")) from error


def _mechanisms(config: CompareConfig) -> tuple[str, ...]:
    # A saved model could not be built again from the mixing of a third party.
    known = [name for name, arm in ARMS.items() if arm.attention is None]
    if not config.mechanisms:
        raise ValueError(
            f"`mechanisms` must name at least one; got none. Choose from {', '.join(known)}."
        )
    for name in config.mechanisms:
        check.require_choice(name, "mechanisms", known)
    return tuple(dict.fromkeys(config.mechanisms))


def _default_workers() -> int:
    return 1 if torch.accelerator.is_available() else usable_cores()


def _plain(config: SyncAttnConfig) -> dict[str, Any]:
    """Returns the arguments that make the same configuration again, fit to cross processes."""
    return {name: getattr(config, name) for name in _ARGUMENTS}


def _write_json(path: Path, value: Any) -> None:
    _write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
