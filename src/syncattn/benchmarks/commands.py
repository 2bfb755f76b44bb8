"""`syncattn benchmark`: its options, and what it does."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from syncattn import _validation as check
from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.cells import load_plugins, prepared
from syncattn.benchmarks.commands_tables import (
    CompareConfig,
    TableConfig,
    compare_runs,
    rebuild_tables,
    write_tables,
)
from syncattn.benchmarks.controls import CONTROLS
from syncattn.benchmarks.executors import usable_cores
from syncattn.benchmarks.grid import Grid, GridResult
from syncattn.benchmarks.grid_settings import Entry, Settings
from syncattn.benchmarks.kernels import KernelsConfig, run_kernels
from syncattn.benchmarks.leaks import Finding, check_arm, check_data
from syncattn.benchmarks.presets import entries_of, preset_entries
from syncattn.benchmarks.score_text import print_scores
from syncattn.benchmarks.scores import score_tables
from syncattn.benchmarks.tasks import SCALES, TASKS, task_named
from syncattn.data.sources import Lookup

__all__ = ["BenchmarkConfig", "RunConfig", "output_of", "run_benchmark"]

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

    compiled: bool = True
    """Compile what happens around the products, on a CPU with a C compiler: about half the time."""

    minutes: float | None = None
    """Begin no run after so many minutes; run again to go on."""

    retry_failed: bool = False
    """Run again what failed before."""

    plugins: Plugins = ()
    """Modules or Python files that register arms and tasks of your own."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """The shared benchmark with its controls."""

    action: (
        Annotated[ListConfig, tyro.conf.subcommand("list")]
        | Annotated[CheckConfig, tyro.conf.subcommand("check")]
        | Annotated[RunConfig, tyro.conf.subcommand("run")]
        | Annotated[TableConfig, tyro.conf.subcommand("table")]
        | Annotated[CompareConfig, tyro.conf.subcommand("compare")]
        | Annotated[KernelsConfig, tyro.conf.subcommand("kernels")]
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
        return rebuild_tables(action, console)
    if isinstance(action, KernelsConfig):
        return _kernels(action, console)
    return compare_runs(action, console)


def _kernels(config: KernelsConfig, console: Console) -> int:
    written = run_kernels(config)
    told = ", ".join(str(path) for path in written)
    console.print(f"Written: {told}", highlight=False, markup=False, soft_wrap=True)
    rows: list[dict[str, Any]] = json.loads(written[0].read_text(encoding="utf-8"))["rows"]
    if all(row["refused"] for row in rows):
        console.print("Nothing was measured; the table says why.")
        return 1
    return 0


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
    check.require_choice(config.scale, "scale", SCALES)
    _require_known(config.tasks, ())
    for name in config.arms:
        check.require_choice(name, "arms", ARMS)
    lookup = _lookup(config)
    wrong = 0
    for name in config.tasks or TASKS:
        task = task_named(name)
        recipe = task.recipes[config.scale]
        try:
            problem = prepared(name, lookup, recipe)
        except Exception as error:
            console.print(f"{name}: not checked: {error}", highlight=False, markup=False)
            wrong += 1
            continue
        identity = problem.identity
        console.print(
            f"{name}: {identity.name} ({identity.extent}, {identity.sha256[:8]})", style="bold",
            highlight=False, markup=False,
        )  # fmt: skip
        wrong += _show(check_data(task, problem), "", console)
        for arm in config.arms or ARMS:
            wrong += _show(check_arm(task, problem, recipe, arm), f"{arm}: ", console)
    console.print(f"{wrong} findings are wrong." if wrong else "Nothing is wrong.")
    return 1 if wrong else 0


def _show(findings: Sequence[Finding], label: str, console: Console) -> int:
    for finding in findings:
        line = f"  {finding.verdict:5} {label}{finding.what}: {finding.figure}"
        console.print(line, highlight=False, markup=False)
    return sum(finding.verdict == "wrong" for finding in findings)


def _run(config: RunConfig, console: Console) -> int:
    load_plugins(config.plugins)
    scale = config.preset or config.scale
    output = output_of(config)
    lookup = _lookup(config)
    if config.preset == "smoke":
        lookup = replace(lookup, samples_only=True)
    settings = Settings(
        output=output, lookup=lookup, scale=scale, workers=_workers(config), ray=config.ray,
        device=config.device, compiled=config.compiled, minutes=config.minutes,
        plugins=tuple(str(Path(p).resolve()) if p.endswith(".py") else p for p in config.plugins),
        retry_failed=config.retry_failed,
    )  # fmt: skip
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    result = Grid(_entries(config, scale), settings, say).run()
    return _report(result, output, console)


def output_of(config: RunConfig) -> Path:
    """Returns the folder of a run's records and tables.

    Args:
        config: The parsed command line.
    """
    return config.output or Path("runs/benchmark") / (config.preset or "grid")


def _report(result: GridResult, output: Path, console: Console) -> int:
    tables, problems = score_tables(result.records), list(result.problems)
    if tables:
        print_scores(tables, console)
        try:
            write_tables(tables, output, result.not_applicable, console)
        except OSError as error:
            problems.append(
                f"the tables could not be written: {error}; `syncattn benchmark table {output} "
                f"--output {output}` builds them from the records"
            )
    if result.not_applicable:
        console.print("Not applicable:", style="bold")
        for line in result.not_applicable:
            console.print(f"  {line}", highlight=False, markup=False)
    failed = sum(row.failed for table in tables for row in table.rows)
    console.print(
        f"{len(result.records)} records in {output}, {failed} of them of failed runs.",
        highlight=False, markup=False,
    )  # fmt: skip
    if result.num_left:
        console.print(f"{result.num_left} runs are left: give the same command again to go on.")
    if problems:
        console.print(f"{len(problems)} problems:", style="bold")
        for problem in problems:
            console.print(f"  {problem}", highlight=False, markup=False)
    return 1 if problems or failed else 0


def _entries(config: RunConfig, scale: str) -> list[Entry]:
    if config.preset is None:
        if not config.tasks:
            raise ValueError(
                "`tasks` must name one at least when there is no `preset`; got none. See `syncattn "
                "benchmark list`, or give --preset smoke."
            )
        _require_known(config.tasks, config.controls)
        entries = entries_of(
            config.tasks, config.arms or tuple(ARMS), config.controls or ("none",),
            config.seeds or None, scale=scale,
        )  # fmt: skip
    else:
        every = preset_entries(config.preset)
        entries = [
            replace(
                entry,
                arms=config.arms or entry.arms,
                controls=tuple(c for c in entry.controls if c in (config.controls or CONTROLS)),
                seeds=config.seeds or entry.seeds,
            )
            for entry in every
            if entry.task in (config.tasks or TASKS)
        ]
        entries = [entry for entry in entries if entry.controls]
        _require_in_preset(config, every, entries)
    if config.steps is not None:
        entries = [
            replace(entry, recipe=replace(entry.recipe, steps=config.steps)) for entry in entries
        ]
    return entries


def _require_known(tasks: Sequence[str], controls: Sequence[str]) -> None:
    """Refuses names of which nothing is there, by the options that gave them."""
    task_named("copy")
    for name in tasks:
        check.require_choice(name, "tasks", TASKS)
    for name in controls:
        check.require_choice(name, "controls", CONTROLS)


def _require_in_preset(config: RunConfig, every: list[Entry], left: list[Entry]) -> None:
    """Refuses tasks and controls of which a preset has nothing."""
    tasks = {entry.task for entry in left}
    controls = {control for entry in left for control in entry.controls}
    lost = [task for task in config.tasks if task not in tasks]
    lost += [control for control in config.controls if control not in controls]
    if lost:
        there = dict.fromkeys(entry.task for entry in every)
        told = dict.fromkeys(control for entry in every for control in entry.controls)
        raise ValueError(
            f"`tasks` and `controls` must be of the preset {config.preset}, which has "
            f"{', '.join(there)} and, not with every task, {', '.join(told)}; got "
            f"{', '.join(lost)}, which it does not run. Give --scale {config.preset} and --tasks "
            f"in place of --preset."
        )


def _workers(config: RunConfig) -> int:
    if config.workers is not None:
        return config.workers
    return 1 if config.device != "cpu" else usable_cores()


def _lookup(config: CheckConfig | RunConfig) -> Lookup:
    found = Lookup(
        folder=config.data,
        may_download=config.download,
        may_sample=not getattr(config, "require_data", False),
        samples_only=config.samples,
    )
    return found if config.cache is None else replace(found, cache=config.cache)
