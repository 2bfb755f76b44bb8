"""`syncattn benchmark table` and `compare`: from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from syncattn.analysis import save_figure
from syncattn.analysis.score_dots import score_dots
from syncattn.benchmarks.folders import require_output
from syncattn.benchmarks.records import Record, read_records
from syncattn.benchmarks.score_text import (
    change_tables,
    print_scores,
    scores_to_csv,
    scores_to_markdown,
)
from syncattn.benchmarks.scores import ScoreTable, compare_scores, score_tables
from syncattn.benchmarks.text_table import print_text_table

__all__ = [
    "CompareConfig",
    "TableConfig",
    "compare_runs",
    "read_run",
    "rebuild_tables",
    "write_tables",
]


@dataclass(frozen=True)
class TableConfig:
    """Build the tables and the picture anew from records alone."""

    records: tyro.conf.Positional[tuple[Path, ...]]
    """Files of records, or folders with a records.jsonl."""

    output: Path | None = None
    """Folder for table.md, .csv, .png and .svg; printed only when left out."""


@dataclass(frozen=True)
class CompareConfig:
    """Say what changed between two sets of records, and whether it is beyond the seeds' spread."""

    before: tyro.conf.Positional[Path]
    """A file of records, or a folder with a records.jsonl."""

    after: tyro.conf.Positional[Path]
    """Another."""


def rebuild_tables(config: TableConfig, console: Console) -> int:
    """Prints the tables of some records, and writes them where asked.

    Args:
        config: The parsed command line.
        console: Where to print.

    Returns:
        0.

    Raises:
        ValueError: If there is no record of the benchmark, or the output cannot be written.
    """
    if config.output is not None:
        require_output(config.output)
    records = [record for path in config.records for record in read_run(path, console)]
    tables = score_tables(records)
    if not tables:
        raise ValueError(
            "`records` must hold runs of the benchmark; got none. Give the folder of a run."
        )
    print_scores(tables, console)
    if config.output is not None:
        write_tables(tables, config.output, (), console)
    return 0


def write_tables(
    tables: Sequence[ScoreTable], output: Path, not_applicable: Sequence[str], console: Console
) -> None:
    """Writes table.md, table.csv, table.png and table.svg.

    Args:
        tables: The tables.
        output: The folder; made if missing.
        not_applicable: See `scores_to_markdown`.
        console: Where to say so.
    """
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
        save_figure(
            score_dots(panels, title="One dot per seed, a bar at the mean"), output / "table"
        )
    drawn = ", table.png, table.svg" if panels else ""
    console.print(f"Written to {output}: table.md, table.csv{drawn}.",
                  highlight=False, markup=False)  # fmt: skip


def compare_runs(config: CompareConfig, console: Console) -> int:
    """Prints what changed between two sets of records.

    Args:
        config: The parsed command line.
        console: Where to print.

    Returns:
        0.

    Raises:
        ValueError: If there is no record of the benchmark on a side.
    """
    before, after = (
        _benchmark_run(path, name, console)
        for name, path in (("before", config.before), ("after", config.after))
    )
    changes, lonely = compare_scores(before, after)
    for table in change_tables(changes):
        print_text_table(table, console, [range(len(table.headings))])
    for line in lonely:
        console.print(line, highlight=False, markup=False)
    conditions = dict.fromkeys(line for change in changes for line in change.changed)
    console.print("What else differs: " + ("; ".join(conditions) or "nothing that is recorded"),
                  highlight=False, markup=False)  # fmt: skip
    return 0


def _benchmark_run(path: Path, name: str, console: Console) -> list[Record]:
    records = read_run(path, console, name)
    if not score_tables(records):
        raise ValueError(
            f"`{name}` must hold runs of the benchmark; got none in {path}. Give the folder of a "
            f"run."
        )
    return records


def read_run(path: Path, console: Console, name: str = "records") -> list[Record]:
    """Returns the records of a run, and prints what is damaged among them.

    Args:
        path: A file of records, or a folder with a records.jsonl.
        console: Where to print.
        name: The argument, for the sentence.

    Returns:
        The records.

    Raises:
        ValueError: If there is no such file.
    """
    file = path / "records.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"`{name}` must be a file of records or a folder with a records.jsonl; got {path}. "
            f"Run a grid first."
        )
    records, problems = read_records(file)
    for problem in problems:
        console.print(f"{file}, line {problem.line}: passed over: {problem.reason}",
                      highlight=False, markup=False)  # fmt: skip
    return records
