"""What a report shows, gathered from the folders of runs: records, curves, models, claims."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncattn.analysis.observation import observe
from syncattn.analysis.report import JudgedClaim, Section
from syncattn.analysis.report_models import Model
from syncattn.analysis.text_table import TextTable
from syncattn.benchmarks.arms import ARMS, count_parameters
from syncattn.benchmarks.claims import Unchecked, judge, known_claims
from syncattn.benchmarks.records import BITS_PER_BYTE, Record, by_seed, read_records
from syncattn.benchmarks.runs import by_validation, trained_folder
from syncattn.benchmarks.score_text import score_text_table
from syncattn.benchmarks.scores import score_tables
from syncattn.benchmarks.tables import (
    Statistic,
    SummaryRow,
    split_tables,
    spread,
    summary_table,
    text_tables,
)
from syncattn.models import SyncAttnForCausalLM

__all__ = ["Source", "judged_claims", "read_source"]


@dataclass
class Source:
    """What one folder holds.

    Attributes:
        path: The folder.
        records: Its records.
        models: Folder, name and details of every model to look at.
        section: Arguments of the report's `Section` that need no model.
        notes: What was passed over or is missing.
    """

    path: Path
    records: list[Record] = field(default_factory=list[Record])
    models: list[tuple[Path, str, str]] = field(default_factory=list[tuple[Path, str, str]])
    section: dict[str, Any] = field(default_factory=dict[str, Any])
    notes: list[str] = field(default_factory=list[str])

    def observed(self, text: bytes) -> Section:
        """Returns the section of the report, with what every model does with a text.

        Args:
            text: The text; a model whose context is shorter reads its beginning.
        """
        models: list[Model] = []
        for folder, name, details in self.models:
            try:
                models.append(_model(folder, name, details, text))
            # Whatever is wrong with one model's files, the others are still worth a report.
            except Exception as error:
                self.notes.append(f"{name}: its pictures are left out: {_first_line(error)}")
        return Section(
            title=self.path.name or str(self.path.resolve().name), models=models,
            notes=self.notes, **self.section,
        )  # fmt: skip


def read_source(path: Path) -> Source:
    """Returns what a folder holds: a comparison, a grid, one training, or a saved model.

    Args:
        path: The folder.

    Returns:
        What it holds, with a sentence about every damaged record and missing model.

    Raises:
        ValueError: If it is none of these.
    """
    if path.is_dir() and (path / "records.jsonl").is_file():
        return _records_source(path)
    if path.is_dir() and (path / "metrics.jsonl").is_file():
        return _training_source(path)
    if path.is_dir() and (path / "config.json").is_file():
        return Source(path, models=[(path, path.name, "")])
    kind = "a file" if path.is_file() else "a folder without any" if path.is_dir() else "missing"
    raise ValueError(
        f"`runs` must be folders with a records.jsonl, a metrics.jsonl or a saved model; got "
        f"{path}, which is {kind}. Give the folder that `syncattn compare` or `syncattn benchmark` "
        f"wrote."
    )


def judged_claims(records: Sequence[Record]) -> list[JudgedClaim]:
    """Returns every published claim with its verdict by the records, or by the documentation.

    Args:
        records: Records of the benchmark; may be empty.
    """
    found: list[JudgedClaim] = []
    known = score_tables(records)
    for name, claim in known_claims().items():
        basis = "not checked" if claim.documented is None else "the documentation"
        measured = judge(claim, (), may_measure=False)
        if claim.from_records is not None:
            try:
                measured, basis = claim.from_records(known), "these runs"
            except Unchecked:
                pass
        found.append(
            JudgedClaim(
                name, claim.claim, claim.source, measured.verdict, measured.figure, claim.command,
                basis,
            )
        )  # fmt: skip
    return found


def _records_source(path: Path) -> Source:
    records, problems = read_records(path / "records.jsonl")
    source = Source(path, records)
    source.notes += [
        f"records.jsonl, line {problem.line}, is passed over: {problem.reason}"
        for problem in problems
    ]
    runs: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        runs.setdefault((record.task, record.arm, record.control), []).append(record)
    source.notes += [
        f"{record.arm}, seed {record.seed}, failed: {record.failure}"
        for group in runs.values()
        for record in by_seed(group).values()
        if record.status == "failed"
    ]
    if not records:
        source.notes.append("records.jsonl holds no record that can be read.")
    source.models = _best_models(source)
    in_bits = [record for record in records if record.metric == BITS_PER_BYTE]
    summary = summary_table(in_bits)
    source.section = {
        "tables": _tables(summary, records),
        "statements": _statements(summary),
        "facts": _facts(records),
        **_curves(records),
    }
    return source


def _best_models(source: Source) -> list[tuple[Path, str, str]]:
    """Returns the model of each arm that is best on validation, and notes those that are gone."""
    by_arm: dict[str, list[Record]] = {}
    for record in source.records:
        if record.status == "ok":
            by_arm.setdefault(record.arm, []).append(record)
    found: list[tuple[Path, str, str]] = []
    if by_arm and not any(source.path.glob("*/model/config.json")):
        source.notes.append("No trained model is kept in this folder, so no matrices are drawn.")
        return []
    for arm, records in by_arm.items():
        kept = [record for record in records if _is_kept(source.path, record)]
        if not kept:
            wanted = f"{arm}-seed{records[0].seed}/model"
            source.notes.append(f"{arm}: its model is missing; it should be in {wanted}.")
            continue
        best = min(kept, key=by_validation)
        seeds = "" if len(records) == 1 else f", the best of {len(records)} on validation"
        found.append((trained_folder(source.path, best), arm, f"Seed {best.seed}{seeds}."))
    return found


def _is_kept(path: Path, record: Record) -> bool:
    """Tells whether a record's model is there, inside the run whatever the record is called."""
    folder = trained_folder(path, record)
    inside = folder.resolve().is_relative_to(path.resolve())
    return inside and (folder / "config.json").is_file()


def _training_source(path: Path) -> Source:
    points: list[dict[str, Any]] = []
    source = Source(path)
    for number, line in enumerate((path / "metrics.jsonl").read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            point = json.loads(line)
        except (ValueError, RecursionError):
            point = None
        if not isinstance(point, dict):
            source.notes.append(f"metrics.jsonl, line {number}, is passed over: no JSON object.")
            continue
        points.append(point)
    if (path / "model" / "config.json").is_file():
        source.models = [(path / "model", path.name, "")]
    else:
        source.notes.append("No trained model is in model/, so no matrices are drawn.")
    last = points[-1] if points else {}
    names = [name for name, value in last.items() if isinstance(value, int | float)]
    table = TextTable(
        "The last point of the training",
        ["training", *(name.replace("_", " ") for name in names)],
        [[path.name, *(f"{last[name]:,.6g}" for name in names)]],
    )
    source.section = {"tables": [table] if names else [], "curves": {path.name: points}}
    return source


def _model(folder: Path, name: str, details: str, text: bytes) -> Model:
    found: Any = SyncAttnForCausalLM.from_pretrained(
        folder, output_loading_info=True, ignore_mismatched_sizes=True
    )
    model, loading = found
    sizes = [name for name, *_ in loading["mismatched_keys"]]
    wrong = sorted({*loading["missing_keys"], *loading["unexpected_keys"], *sizes})
    if wrong:
        # Transformers would draw what is missing at random and go on.
        raise ValueError(
            f"its weights must fit this version of the package; {len(wrong)} do not, such as "
            f"{wrong[0]}. Train it again."
        )
    legend = next(arm.legend for arm in ARMS.values() if arm.mechanism == model.config.mechanism)
    size = f"{count_parameters(model.config):,} parameters."
    read = text[: model.config.max_position_embeddings]
    return Model(name, legend, observe(model, read), f"{details} {size}".strip())


def _tables(summary: Sequence[SummaryRow], records: Sequence[Record]) -> list[TextTable]:
    # A comparison's own table tells more; the benchmark's tables belong to its tasks.
    tasks = [record for record in records if record.task != "compare"]
    return [*text_tables(summary), *map(score_text_table, score_tables(tasks))]


def _statements(rows: Sequence[SummaryRow]) -> list[str]:
    """Returns what the table shows, as cautiously as its seeds allow."""
    found: list[str] = []
    for title, group in split_tables(rows).items():
        scored = [row for row in group if row.test_bits_per_byte is not None]
        if len(scored) < 2:
            continue
        scored.sort(key=lambda row: row.test_bits_per_byte or Statistic(0, None))
        first, second = scored[0], scored[1]
        line = (
            f"{title}: {first.arm} costs least, {spread(first.test_bits_per_byte, '.4f')} "
            f"bits per byte, before {second.arm} with "
            f"{spread(second.test_bits_per_byte, '.4f')}."
        )
        fewest = min(row.seeds for row in scored)
        if fewest < 2:
            line += " With one seed nothing is known of the spread between seeds."
        found.append(line)
        found += [_against_softmax(row) for row in scored if row.difference is not None]
    return found


def _against_softmax(row: SummaryRow) -> str:
    gap = row.difference
    assert gap is not None
    side = "less" if gap.mean < 0 else "more"
    line = f"{row.arm} costs {abs(gap.mean):.4f} bits per byte {side} than softmax"
    if gap.deviation is None:
        return f"{line}, on one seed."
    beyond = "more" if abs(gap.mean) > gap.deviation else "no more"
    return (
        f"{line} on average over {row.difference_seeds} seeds, {beyond} than the deviation of "
        f"that difference between seeds, {gap.deviation:.4f}."
    )


def _curves(records: Sequence[Record]) -> dict[str, Any]:
    """Returns the points by arm; those of several tasks cannot share a chart."""
    tasks = {(record.task, record.data["sha256"]) for record in records if record.curve}
    if len(tasks) != 1:
        return {}
    arms: dict[str, list[Record]] = {}
    for record in records:
        name = record.arm if record.control == "none" else f"{record.arm}, {record.control}"
        arms.setdefault(name, []).append(record)
    curves: dict[str, list[Mapping[str, Any]]] = {
        name: [
            {"seed": seed} | point
            for seed, record in by_seed(runs).items()
            for point in record.curve
        ]
        for name, runs in arms.items()
    }
    values = ("valid_bits_per_byte", "valid_score")
    known = [v for v in values if any(v in point for points in curves.values() for point in points)]
    return {"curves": curves, "curve_value": known[0]} if known else {}


def _facts(records: Sequence[Record]) -> list[tuple[str, str]]:
    def each(values: Sequence[Any]) -> str:
        return "; ".join(dict.fromkeys(str(value) for value in values if value))

    facts = [
        ("code", each([record.commit for record in records])),
        ("machine", each([record.device for record in records])),
        ("versions", each([_named(record.versions) for record in records])),
        ("data", each([f"{r.data['name']}, sha256 {r.data['sha256'][:16]}" for r in records])),
        ("records from", each([record.created[:10] for record in records])),
    ]
    return [fact for fact in facts if fact[1]]


def _named(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
