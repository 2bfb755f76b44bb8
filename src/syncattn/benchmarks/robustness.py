"""A trained model on imperfect oscillator hardware: sweeps, settling, costs, figures, a record."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console

from syncattn import _validation as check
from syncattn._typing import Tensor
from syncattn.analysis import save_figure
from syncattn.analysis.robustness import robustness_panels, settling_figure
from syncattn.benchmarks.environment import environment
from syncattn.benchmarks.folders import require_output
from syncattn.benchmarks.robustness_angles import joined
from syncattn.benchmarks.robustness_effects import RELATIVE_TIMES, Effect, effects_for
from syncattn.benchmarks.runs import load_trained
from syncattn.data import Corpus, evaluation_batches, load_corpus
from syncattn.models import SyncAttnForCausalLM
from syncattn.simulation.costs import SPLITS, Workload, operation_counts
from syncattn.simulation.device_layers import DeviceRun, on_device, oscillator_layers
from syncattn.simulation.device_prices import Price, break_even, cost_table, energy
from syncattn.simulation.device_settling import model_diagnostics, settling_summary
from syncattn.simulation.devices import Device
from syncattn.training import evaluate

__all__ = ["DeviceConfig", "DeviceStudy"]

_MOST_DRIVES = 20_000


@dataclass(frozen=True)
class DeviceConfig:
    """Which trained model is run on which imperfect devices, and on what text."""

    run: tyro.conf.Positional[Path]
    """Folder of a comparison, of one of its trainings, or of a saved model."""

    corpus: Path | None = None
    """A file or folder of text, of which the test split is read; the run's own corpus when left
    out."""

    output: Path = Path("runs/device")
    """Folder for the record and the figures; must be new or empty."""

    mechanism: str | None = None
    """Which training of a comparison; oscillator when left out."""

    effects: tuple[str, ...] = ()
    """Non-idealities to sweep: coupling-mismatch, coupling-bits, anchor-error, detuning, phase-lag,
    second-harmonic, injection, thermal-noise, read-noise, converter-bits; all that exist for the
    model's oscillators when left out."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the chips and of the noise."""

    num_tokens: int = 4096
    """Bytes of the test text that are predicted at every point."""

    batch_size: int = 8
    """Windows of text at once."""

    draw: Literal["chip", "inference"] = "chip"
    """Whether what is built stays the same over all text (one chip per seed) or is drawn anew."""

    readout: Literal["state", "cosine"] = "state"
    """Whether the device reads the oscillators or their cosines with the anchors."""

    prices: Path | None = None
    """JSON file of prices with their sources; without it costs are counts alone."""


class DeviceStudy:
    """A checked study of one trained model, ready to run; nothing is written before `run`.

    Args:
        config: What to study.

    Raises:
        ValueError: If a setting, the run, the corpus, the prices or the folder cannot be used.
    """

    def __init__(self, config: DeviceConfig) -> None:
        self.config = config
        if not config.seeds or len(set(config.seeds)) < len(config.seeds):
            raise ValueError(
                f"`seeds` must be different numbers, one at least; got {list(config.seeds)}. "
                f"For example --seeds 0 1 2."
            )
        for seed in config.seeds:
            check.require_integer(seed, "seeds", minimum=0)
        check.require_integer(config.num_tokens, "num_tokens", minimum=1)
        check.require_integer(config.batch_size, "batch_size", minimum=1)
        _require_new(config.output)
        require_output(config.output)
        self.prices = {} if config.prices is None else read_prices(config.prices)
        self.model = _model(config)
        self.layers = oscillator_layers(self.model)
        self.context_length: int = self.model.config.max_position_embeddings
        self.corpus = _corpus(config, self.context_length)
        self.dim = self._shape()["oscillator_dim"]
        self.effects = _chosen(config.effects, effects_for(self.dim))

    def run(self, console: Console) -> dict[str, Any]:
        """Runs every sweep and writes record, figures and cost table.

        Args:
            console: Where progress goes.

        Returns:
            The record.
        """
        started, output = time.perf_counter(), self.config.output
        baseline = self._score()
        console.print(
            f"Perfect device: {baseline:.4f} bits per byte on {self._where()}.", markup=False
        )
        diagnostics = self._diagnostics()
        drives = torch.cat([layer.drive[layer.coupled] for layer in diagnostics.values()])
        drive = float(drives.median())
        sweeps: list[dict[str, Any]] = []
        for name, effect in self.effects.items():
            sweeps.append(self._sweep(name, effect, drive))
            worst = max(sweeps[-1]["points"], key=lambda point: point["mean"])
            console.print(
                f"{name}: at worst {worst['mean']:.4f} bits per byte, at {worst['value']:g}."
            )
        settling = self._settling(drive)
        summaries = {name: settling_summary(layer) for name, layer in diagnostics.items()}
        record = self._description() | {
            "baseline_bits_per_byte": baseline,
            "median_drive": drive,
            "sweeps": sweeps,
            "settling": settling,
            "diagnostics": summaries,
            "costs": self._costs(summaries),
            "wall_seconds": time.perf_counter() - started,
        }
        output.mkdir(parents=True, exist_ok=True)
        # Infinity is no JSON: what never settles has no time.
        text = json.dumps(_finite(record), indent=2, allow_nan=False)
        (output / "device.json").write_text(text + "\n", encoding="utf-8")
        (output / "costs.md").write_text(
            cost_table(self._workload(summaries), self.prices), encoding="utf-8"
        )
        _draw(record, diagnostics, output)
        console.print(
            f"Written to {output}: device.json, robustness.png, settling.png, costs.md.",
            markup=False,
        )
        return record

    def _score(self, device: Device | None = None, seed: int = 0) -> float:
        config = self.config

        def score() -> float:
            return evaluate(
                self.model, self.corpus.test, batch_size=config.batch_size,
                context_length=self.context_length, max_tokens=config.num_tokens,
            )  # fmt: skip

        if device is None:
            return score()
        with on_device(self.model, device, seed=seed):
            return score()

    def _sweep(self, name: str, effect: Effect, drive: float) -> dict[str, Any]:
        points: list[dict[str, Any]] = []
        for value in effect.values:
            device = effect.device(value, drive)
            device = replace(device, draw=self.config.draw, readout=self.config.readout)
            scores: list[float] = []
            runs: list[DeviceRun] = []
            for seed in self.config.seeds:
                with on_device(self.model, device, seed=seed, measure=True) as run:
                    scores.append(self._score())
                runs.append(run)
            points.append(
                {"value": value, "device": device.changes()} | _statistics(scores) | joined(runs)
            )
        return {"name": name, "label": effect.label, "log": effect.log, "points": points}

    def _settling(self, drive: float) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for start in ("random", "previous"):
            found[start] = []
            for relative in RELATIVE_TIMES:
                device = Device(settling_time=relative / drive, start=start)
                scores = [self._score(device, seed) for seed in self.config.seeds]
                found[start].append(
                    {"time": relative / drive, "relative_time": relative} | _statistics(scores)
                )
        return found

    def _diagnostics(self) -> dict[str, Any]:
        windows = next(
            evaluation_batches(
                self.corpus.test, batch_size=self.config.batch_size,
                context_length=self.context_length,
            )
        )  # fmt: skip
        self.model.eval()
        return model_diagnostics(self.model, input_ids=windows[:, :-1].to(self.model.device))

    def _shape(self) -> dict[str, Any]:
        layer = next(iter(self.layers.values()))
        probe = torch.zeros(1, 1, layer.q_proj.in_features, device=self.model.device)
        star = layer.couplings(probe)
        return {
            "num_heads": layer.num_heads,
            "oscillator_dim": star.anchor.shape[-1],
            "head_dim": star.value.shape[-1],
            "hidden_size": layer.q_proj.in_features,
            # A function of the user's own counts as an exponential.
            "coupling": layer.coupling if isinstance(layer.coupling, str) else "softplus",
        }

    def _workload(self, summaries: dict[str, dict[str, float]]) -> Workload:
        times = [layer["settling_time_quantile_0.99"] for layer in summaries.values()]
        longest = max((t for t in times if math.isfinite(t)), default=0.0)
        return Workload(
            length=self.context_length, is_causal=True, num_layers=len(self.layers),
            settling_time=longest, **self._shape(),
        )  # fmt: skip

    def _costs(self, summaries: dict[str, dict[str, float]]) -> dict[str, Any]:
        workload = self._workload(summaries)
        return {
            "settling_time": "99 % quantile of the time to 0.01 rad, of the slowest layer",
            "reports": [
                energy(operation_counts(workload, s), self.prices).as_dict() for s in SPLITS
            ],
            "break_even": {
                split: break_even(workload, split, self.prices)._asdict() for split in SPLITS[2:]
            },
        }

    def _where(self) -> str:
        return f"{self._num_read():,} bytes of the test split of {self.corpus.identity.name}"

    def _num_read(self) -> int:
        """Returns the bytes that are predicted: a short split has fewer than are asked for."""
        windows = evaluation_batches(
            self.corpus.test, batch_size=self.config.batch_size,
            context_length=self.context_length, max_tokens=self.config.num_tokens,
        )  # fmt: skip
        return sum(batch[:, 1:].numel() for batch in windows)

    def _description(self) -> dict[str, Any]:
        settings = asdict(self.config)
        return {
            "task": "device",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": shlex.join(["syncattn", *sys.argv[1:]]),
            "settings": {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()},
            "seeds": list(self.config.seeds),
            "oscillator_dim": self.dim,
            "data": self.corpus.identity.as_dict()
            | {"split_read": "test", "bytes_read": self._num_read()},
            "measured": "scores are simulated; costs are estimates from operation counts",
            **environment(),
        }


def read_prices(path: Path) -> dict[str, Price]:
    """Reads prices: by unit an object with `value`, `unit` and `source`.

    Args:
        path: A JSON file.

    Returns:
        The prices by unit.

    Raises:
        ValueError: If the file cannot be read or a price is not complete.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = {
            name: Price(float(entry["value"]), str(entry["unit"]), str(entry["source"]))
            for name, entry in content.items()
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"`prices` must be a JSON file of objects with value, unit and source; got {path} "
            f"({error}). See the guide on physical devices for an example."
        ) from error
    energy(operation_counts(Workload(1, 1, 2), "digital"), found)
    return found


def _model(config: DeviceConfig) -> SyncAttnForCausalLM:
    saved = any((folder / "config.json").is_file() for folder in (config.run, config.run / "model"))
    named = config.mechanism or (None if saved else "oscillator")
    model = load_trained(config.run, named)
    return model.eval()


def _corpus(config: DeviceConfig, context_length: int) -> Corpus:
    if config.corpus is not None:
        try:
            return load_corpus(config.corpus, context_length=context_length)
        except ValueError as error:
            raise ValueError(str(error).replace("`path`", "`corpus`")) from error
    parents = (config.run, config.run.resolve().parent, config.run.resolve().parent.parent)
    found = [folder / "settings.json" for folder in parents]
    settings = next((path for path in found if path.is_file()), None)
    if settings is None:
        raise ValueError(
            f"`corpus` must be given for a model without the settings of its comparison; got "
            f"{config.run}. Add --corpus with a text file."
        )
    told = json.loads(settings.read_text(encoding="utf-8"))
    source = str(told["corpus"]["source"])
    path = None if source.startswith("standard library of ") else Path(source)
    try:
        corpus = load_corpus(path, context_length=context_length, max_bytes=told["max_bytes"])
    except ValueError as error:
        raise ValueError(str(error).replace("`path`", "`corpus`")) from error
    if corpus.identity.sha256 != told["corpus"]["sha256"]:
        raise ValueError(
            f"`corpus` must be the text of the run, or be given; the run read "
            f"{told['corpus']['sha256'][:12]} and {source} is {corpus.identity.sha256[:12]}. Add "
            f"--corpus with a text that the model was not trained on."
        )
    return corpus


def _chosen(names: Sequence[str], known: dict[str, Effect]) -> dict[str, Effect]:
    for name in names:
        check.require_choice(name, "effects", known)
    return {name: known[name] for name in dict.fromkeys(names)} or known


def _require_new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"`output` must be a new or empty folder; got {folder}, which holds something. Choose "
            f"another with --output."
        )


def _statistics(scores: list[float]) -> dict[str, Any]:
    values = torch.tensor(scores, dtype=torch.float64)
    deviation = float(values.std()) if len(scores) > 1 else None
    return {"scores": scores, "mean": float(values.mean()), "deviation": deviation}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _draw(record: dict[str, Any], diagnostics: dict[str, Any], output: Path) -> None:
    baseline = record["baseline_bits_per_byte"]
    subject = f"{Path(record['settings']['run']).name}, m = {record['oscillator_dim']}"
    panels = robustness_panels(
        record["sweeps"], baseline=baseline, title=f"Robustness to an imperfect device: {subject}"
    )
    save_figure(panels, output / "robustness")
    layers = {
        f"layer {index + 1}": {
            "drive": _some(layer.drive[layer.coupled]),
            "order_parameter": _some(layer.order_parameter[layer.coupled]),
        }
        for index, layer in enumerate(diagnostics.values())
    }
    figure = settling_figure(
        record["settling"], layers, baseline=baseline, median_rate=record["median_drive"],
        title=f"Settling time: {subject}",
    )  # fmt: skip
    save_figure(figure, output / "settling")


def _some(values: Tensor) -> list[float]:
    step = max(1, values.numel() // _MOST_DRIVES)
    return values[::step].tolist()
