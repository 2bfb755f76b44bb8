"""`syncattn benchmark` and `syncattn claims`: their options, and what they do."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.cells import load_plugins, prepared
from syncattn.benchmarks.claims import judge, known_claims
from syncattn.benchmarks.controls import CONTROLS
from syncattn.benchmarks.grid import Entry, Grid, GridResult, Settings
from syncattn.benchmarks.leaks import Finding, check_arm, check_data
from syncattn.benchmarks.presets import entries_of, preset_entries
from syncattn.benchmarks.records import Record, read_records
from syncattn.benchmarks.score_text import (
    change_lines,
    print_scores,
    scores_to_csv,
    scores_to_markdown,
)
from syncattn.benchmarks.scores import ScoreTable, compare_scores, score_tables
from syncattn.benchmarks.tasks import TASKS, task_named
from syncattn.data.sources import Lookup

__all__ = ["BenchmarkConfig", "ClaimsConfig", "run_benchmark", "run_claims"]

Plugins = tuple[str, ...]


@dataclass(frozen=True)
class ListConfig:
    """List tasks, arms and controls."""

    plugins: Plugins = ()
    """Modules or Python files that register arms and tasks of your own."""


@dataclass(frozen=True)
class CheckConfig:
    """Look for leaks between splits, into the future and from padding, and print ceilings."""

    tasks: tuple[str, ...] = ()
    """Tasks to check; all when left out."""

    arms: tuple[str, ...] = ()
    """Arms to check; all when left out."""

    scale: str = "laptop"
    """Size of the networks: smoke, laptop or full."""

    data: Path | None = None
    """A folder or file with your data; searched first."""

    cache: Path | None = None
    """Folder of downloads; $SYNCATTN_CACHE or the user's cache when left out."""

    download: bool = False
    """Whether official sources may be asked."""

    samples: bool = False
    """Use nothing but samples."""

    plugins: Plugins = ()
    """Modules or Python files that register arms and tasks of your own."""


@dataclass(frozen=True)
class RunConfig:
    """Run a grid, or go on with it: what its folder holds already is not run again."""

    preset: Literal["smoke", "laptop", "full"] | None = None
    """A grid with its recipes: smoke (every task and arm once), laptop (about 100 minutes on two
    cores) or full."""

    tasks: tuple[str, ...] = ()
    """Tasks to run; those of the preset when left out."""

    arms: tuple[str, ...] = ()
    """Arms to run; those of the preset when left out."""

    controls: tuple[str, ...] = ()
    """Controls to run, none being the arm itself; those of the preset when left out."""

    seeds: tuple[int, ...] = ()
    """Seeds; those of the preset when left out."""

    scale: Literal["smoke", "laptop", "full"] = "laptop"
    """Recipes, where no preset is given."""

    steps: int | None = None
    """Optimiser steps of every run, in place of the recipe's."""

    data: Path | None = None
    """A folder or file with your data; searched first."""

    cache: Path | None = None
    """Folder of downloads; $SYNCATTN_CACHE or the user's cache when left out."""

    download: bool = False
    """Whether official sources may be asked; gigabytes for Speech Commands and TinyStories."""

    samples: bool = False
    """Use nothing but samples; the smoke preset does."""

    require_data: bool = False
    """Refuse samples: a task without its data is not run."""

    output: Path | None = None
    """Folder of records and tables; runs/benchmark/ and the preset's name when left out."""

    workers: int | None = None
    """Runs at a time; when left out, one per core, or one in all where there is an accelerator."""

    ray: str | None = None
    """Address of a Ray cluster, or local; this machine's processes when left out."""

    device: str = "cpu"
    """Where runs take place: cpu or cuda."""

    minutes: float | None = None
    """Begin no run after so many minutes; run again to go on."""

    retry_failed: bool = False
    """Run again what failed before."""

    plugins: Plugins = ()
    """Modules or Python files that register arms and tasks of your own."""


@dataclass(frozen=True)
class TableConfig:
    """Build the tables and the picture anew from records alone."""

    records: tyro.conf.Positional[tuple[Path, ...]]
    """Files of records, or folders with a records.jsonl."""

    output: Path | None = None
    """Folder for table.md, table.csv and table.png; printed only when left out."""


@dataclass(frozen=True)
class CompareConfig:
    """Say what changed between two sets of records, and whether it is beyond the seeds' spread."""

    before: tyro.conf.Positional[Path]
    """A file of records, or a folder with a records.jsonl."""

    after: tyro.conf.Positional[Path]
    """Another."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """The shared benchmark with its controls."""

    action: (
        Annotated[ListConfig, tyro.conf.subcommand("list")]
        | Annotated[CheckConfig, tyro.conf.subcommand("check")]
        | Annotated[RunConfig, tyro.conf.subcommand("run")]
        | Annotated[TableConfig, tyro.conf.subcommand("table")]
        | Annotated[CompareConfig, tyro.conf.subcommand("compare")]
    ) = field(default_factory=ListConfig)
    """What to do."""


def run_benchmark(config: BenchmarkConfig) -> int:
    """Does what the command line asks.

    Args:
        config: The parsed command line.

    Returns:
        0 when all went well, 1 when something failed.

    Raises:
        ValueError: If an option cannot be used.
    """
    action, console = config.action, Console()
    if isinstance(action, ListConfig):
        return _list(action, console)
    if isinstance(action, CheckConfig):
        return _check(action, console)
    if isinstance(action, RunConfig):
        return _run(action, console)
    if isinstance(action, TableConfig):
        return _table(action, console)
    return _compare(action, console)


def _list(config: ListConfig, console: Console) -> int:
    load_plugins(config.plugins)
    task_named("copy")
    console.print("Tasks", style="bold")
    for task in TASKS.values():
        console.print(f"  {task.name}: {task.summary} ({task.metric})", highlight=False)
    console.print("Arms", style="bold")
    console.print("  " + ", ".join(ARMS), highlight=False)
    console.print("Controls", style="bold")
    for name, question in CONTROLS.items():
        console.print(f"  {name}: {question}", highlight=False)
    return 0


def _check(config: CheckConfig, console: Console) -> int:
    load_plugins(config.plugins)
    task_named("copy")
    lookup = _lookup(config)
    wrong = 0
    for name in config.tasks or TASKS:
        task = task_named(name)
        recipe = task.recipes[config.scale]
        try:
            problem = prepared(name, lookup, recipe)
        except Exception as error:
            console.print(f"{name}: not checked: {error}", highlight=False)
            wrong += 1
            continue
        identity = problem.identity
        console.print(
            f"{name}: {identity.name} ({identity.extent}, {identity.sha256[:8]})", style="bold",
            highlight=False,
        )  # fmt: skip
        wrong += _show(check_data(task, problem), "", console)
        for arm in config.arms or ARMS:
            wrong += _show(check_arm(task, problem, recipe, arm), f"{arm}: ", console)
    console.print(f"{wrong} findings are wrong." if wrong else "Nothing is wrong.")
    return 1 if wrong else 0


def _show(findings: Sequence[Finding], label: str, console: Console) -> int:
    for finding in findings:
        line = f"  {finding.verdict:5} {label}{finding.what}: {finding.figure}"
        console.print(line, highlight=False)
    return sum(finding.verdict == "wrong" for finding in findings)


def _run(config: RunConfig, console: Console) -> int:
    load_plugins(config.plugins)
    scale = config.preset or config.scale
    output = config.output or Path("runs/benchmark") / (config.preset or "grid")
    lookup = _lookup(config)
    if config.preset == "smoke":
        lookup = replace(lookup, samples_only=True)
    settings = Settings(
        output=output, lookup=lookup, scale=scale, workers=_workers(config), ray=config.ray,
        device=config.device, minutes=config.minutes,
        plugins=tuple(str(Path(p).resolve()) if p.endswith(".py") else p for p in config.plugins),
        retry_failed=config.retry_failed,
    )  # fmt: skip
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    result = Grid(_entries(config, scale), settings, say).run()
    return _report(result, output, console)


def _report(result: GridResult, output: Path, console: Console) -> int:
    tables = score_tables(result.records)
    if tables:
        print_scores(tables, console)
        _write(tables, output, result.not_applicable, console)
    if result.not_applicable:
        console.print("Not applicable:", style="bold")
        for line in result.not_applicable:
            console.print(f"  {line}", highlight=False, markup=False)
    failed = [record for record in result.records if record.status == "failed"]
    console.print(
        f"{len(result.records)} records in {output}, {len(failed)} of them of failed runs.",
        highlight=False,
    )
    if result.num_left:
        console.print(f"{result.num_left} runs are left: give the same command again to go on.")
    if result.problems:
        console.print(f"{len(result.problems)} problems:", style="bold")
        for problem in result.problems:
            console.print(f"  {problem}", highlight=False, markup=False)
    return 1 if result.problems or failed else 0


def _entries(config: RunConfig, scale: str) -> list[Entry]:
    if config.preset is None:
        if not config.tasks:
            raise ValueError(
                "`tasks` must name one at least when there is no `preset`; got none. See `syncattn "
                "benchmark list`, or give --preset smoke."
            )
        entries = entries_of(
            config.tasks, config.arms or tuple(ARMS), config.controls or ("none",),
            config.seeds or None, scale=scale,
        )  # fmt: skip
    else:
        entries = [
            replace(
                entry,
                arms=config.arms or entry.arms,
                controls=tuple(c for c in entry.controls if c in (config.controls or CONTROLS)),
                seeds=config.seeds or entry.seeds,
            )
            for entry in preset_entries(config.preset)
            if entry.task in (config.tasks or TASKS)
        ]
    if config.steps is not None:
        entries = [
            replace(entry, recipe=replace(entry.recipe, steps=config.steps)) for entry in entries
        ]
    return entries


def _workers(config: RunConfig) -> int:
    if config.workers is not None:
        if config.workers < 1:
            raise ValueError(f"`workers` must be at least 1; got {config.workers}. Give more.")
        return config.workers
    return 1 if config.device != "cpu" else os.cpu_count() or 1


def _lookup(config: CheckConfig | RunConfig) -> Lookup:
    found = Lookup(
        folder=config.data,
        may_download=config.download,
        may_sample=not getattr(config, "require_data", False),
        samples_only=config.samples,
    )
    return found if config.cache is None else replace(found, cache=config.cache)


def _table(config: TableConfig, console: Console) -> int:
    records = [record for path in config.records for record in _read(path, console)]
    tables = score_tables(records)
    if not tables:
        raise ValueError(
            "`records` must hold runs of the benchmark; got none. Give the folder of a run."
        )
    print_scores(tables, console)
    if config.output is not None:
        _write(tables, config.output, (), console)
    return 0


def _write(
    tables: Sequence[ScoreTable], output: Path, not_applicable: Sequence[str], console: Console
) -> None:
    from syncattn.analysis import save_figure
    from syncattn.analysis.score_dots import score_dots

    output.mkdir(parents=True, exist_ok=True)
    text = scores_to_markdown(tables, not_applicable=not_applicable)
    (output / "table.md").write_text(text, encoding="utf-8")
    (output / "table.csv").write_text(scores_to_csv(tables), encoding="utf-8")
    panels = {
        f"{table.title}: {table.metric}": {
            row.arm if row.control == "none" else f"{row.arm}, {row.control}": list(
                row.by_seed.values()
            )
            for row in table.rows
        }
        for table in tables
        if any(row.by_seed for row in table.rows)
    }
    if panels:
        save_figure(score_dots(panels, title="One dot per seed, a bar at the mean"), output / "table")
    console.print(f"Written to {output}: table.md, table.csv, table.png.", highlight=False)


def _compare(config: CompareConfig, console: Console) -> int:
    before, after = _read(config.before, console), _read(config.after, console)
    changes, lonely = compare_scores(before, after)
    for change in changes:
        for line in change_lines(change):
            console.print(line, highlight=False, markup=False)
    for line in lonely:
        console.print(line, highlight=False, markup=False)
    conditions = dict.fromkeys(line for change in changes for line in change.changed)
    console.print("What else differs: " + ("; ".join(conditions) or "nothing that is recorded"),
                  highlight=False, markup=False)  # fmt: skip
    return 0


def _read(path: Path, console: Console) -> list[Record]:
    file = path / "records.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"`records` must be a file of records or a folder with a records.jsonl; got {path}. "
            f"Run a grid first."
        )
    records, problems = read_records(file)
    for problem in problems:
        console.print(f"{file}, line {problem.line}: passed over: {problem.reason}",
                      highlight=False, markup=False)  # fmt: skip
    return records


@dataclass(frozen=True)
class ListClaimsConfig:
    """List every claim with its verdict: by records, by the documentation, or not checked."""

    records: tuple[Path, ...] = ()
    """Files of records, or folders with a records.jsonl; every one below results/ when left out."""

    measure: bool = False
    """Measure what can be measured in seconds; half a minute in all."""

    markdown: bool = False
    """Print a Markdown table."""


@dataclass(frozen=True)
class RunClaimConfig:
    """Reproduce one claim."""

    name: tyro.conf.Positional[str]
    """The claim; see `syncattn claims list`."""

    records: tuple[Path, ...] = ()
    """Files of records, or folders with a records.jsonl; every one below results/ when left out."""


@dataclass(frozen=True)
class ClaimsConfig:
    """Published claims with our figures and verdicts."""

    action: (
        Annotated[ListClaimsConfig, tyro.conf.subcommand("list")]
        | Annotated[RunClaimConfig, tyro.conf.subcommand("run")]
    ) = field(default_factory=ListClaimsConfig)
    """What to do."""


def run_claims(config: ClaimsConfig) -> int:
    """Lists the claims, or reproduces one.

    Args:
        config: The parsed command line.

    Returns:
        0, or 1 when a claim could not be checked.

    Raises:
        ValueError: If there is no such claim, or no such record.
    """
    action, console = config.action, Console()
    paths = action.records or tuple(sorted(Path("results").rglob("records.jsonl")))
    records = [record for path in paths for record in _read(path, console)]
    claims = known_claims()
    if isinstance(action, RunClaimConfig):
        if action.name not in claims:
            raise ValueError(
                f"`name` must be a claim: {', '.join(claims)}; got {action.name!r}. Choose one."
            )
        claim = claims[action.name]
        found = judge(claim, records, may_measure=True)
        for label, text in (
            ("claim", claim.claim), ("source", claim.source), ("verdict", found.verdict),
            ("figure", found.figure), ("what we did", claim.consequence),
            ("command", claim.command),
        ):  # fmt: skip
            if text:
                console.print(f"{label}: {text}", highlight=False, markup=False)
        return 1 if found.verdict == "not checked" else 0
    if action.markdown:
        print("| claim | source | verdict | our figure | what we did | command |")
        print("| --- | --- | --- | --- | --- | --- |")
    for name, claim in claims.items():
        found = judge(claim, records, may_measure=action.measure)
        cells = (f"{name}: {claim.claim}", claim.source, found.verdict, found.figure,
                 claim.consequence, f"`{claim.command}`")  # fmt: skip
        if action.markdown:
            print(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
            continue
        console.print(f"{name}: {found.verdict}", style="bold", highlight=False)
        console.print(f"  {claim.claim} ({claim.source})", highlight=False, markup=False)
        console.print(f"  {found.figure}", highlight=False, markup=False)
        console.print(f"  {claim.command}", highlight=False, markup=False)
    return 0
