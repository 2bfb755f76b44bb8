"""Tables from records alone: arms over seeds, as Markdown, CSV, or in the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from rich.console import Console

from syncattn.analysis.text_table import TextTable
from syncattn.benchmarks.records import Record, by_seed
from syncattn.benchmarks.text_table import print_text_table

__all__ = [
    "Statistic",
    "SummaryRow",
    "print_table",
    "split_tables",
    "spread",
    "statistic",
    "summary_table",
    "text_tables",
    "to_csv",
    "to_markdown",
]

_BASELINE = "softmax"
_DASH = "–"


class Statistic(NamedTuple):
    """A mean over seeds.

    Attributes:
        mean: The mean.
        deviation: Sample standard deviation (n − 1); None for one seed.
    """

    mean: float
    deviation: float | None


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """One arm over its seeds.

    Attributes:
        task: The task.
        data: The data's name and the first eight digits of its sha256.
        whole: Whether the data was the whole set.
        arm: The arm.
        mechanism: Its mechanism.
        control: Its control, or "none".
        variant: The flags of the mechanism.
        learning_rate: Peak learning rate.
        parameters: Number of parameters; None if no run was built.
        tokens: Training tokens of every run that ended well; None without one.
        test_by_seed: Test bits per byte of every seed that ended well and was measured in them.
        test_bits_per_byte: Their mean; None without one, as for all the following.
        test_perplexity: Perplexity per byte, the mean over seeds.
        valid_bits_per_byte: Validation bits per byte.
        difference: Test bits per byte minus softmax's, over the seeds both have; None for softmax
            itself and where no softmax run saw as many tokens of the same data.
        difference_seeds: Number of those seeds.
        tokens_per_second: Training tokens per second.
        peak_memory_bytes: Peak memory in bytes.
        seeds: Number of seeds that ended well.
        failed: Number of seeds whose runs all failed.
        superseded: Number of runs left out because another run has the same seed and settings.
    """

    task: str
    data: str
    whole: bool
    arm: str
    mechanism: str
    control: str
    variant: dict[str, Any]
    learning_rate: float | None
    parameters: int | None
    tokens: int | None
    test_by_seed: dict[int, float] = field(default_factory=dict[int, float])
    test_bits_per_byte: Statistic | None = None
    test_perplexity: Statistic | None = None
    valid_bits_per_byte: Statistic | None = None
    difference: Statistic | None = None
    difference_seeds: int = 0
    tokens_per_second: Statistic | None = None
    peak_memory_bytes: Statistic | None = None
    seeds: int = 0
    failed: int = 0
    superseded: int = 0


def statistic(values: Iterable[float | None]) -> Statistic | None:
    """Returns mean and sample deviation of the finite `values`; None without any."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Statistic(statistics.fmean(known), deviation)


def _group(record: Record) -> tuple[str, ...]:
    data = record.data
    settings = (record.arm, record.mechanism, record.control, record.learning_rate, record.variant)
    identity = (record.task, data["name"], data["sha256"], data["whole"])
    return tuple(json.dumps(part, sort_keys=True, default=str) for part in (*identity, *settings))


def _row(records: Sequence[Record]) -> SummaryRow:
    """Returns the row of runs that ended well with one budget, and of failures."""
    counted = by_seed(records)
    runs = [run for _, run in sorted(counted.items()) if run.status == "ok"]
    first = runs[0] if runs else records[0]
    return SummaryRow(
        task=first.task,
        data=f"{first.data['name']}, sha256 {first.data['sha256'][:8]}",
        whole=first.data["whole"],
        arm=first.arm,
        mechanism=first.mechanism,
        control=first.control,
        variant=first.variant,
        learning_rate=first.learning_rate,
        parameters=first.parameters,
        tokens=runs[0].tokens if runs else None,
        test_by_seed={
            run.seed: run.test_bits_per_byte for run in runs if run.test_bits_per_byte is not None
        },
        test_bits_per_byte=statistic(run.test_bits_per_byte for run in runs),
        test_perplexity=statistic(run.test_perplexity for run in runs),
        valid_bits_per_byte=statistic(run.valid_bits_per_byte for run in runs),
        tokens_per_second=statistic(run.tokens_per_second for run in runs),
        peak_memory_bytes=statistic(run.peak_memory_bytes for run in runs),
        seeds=len(runs),
        failed=len(counted) - len(runs),
        superseded=len(records) - len(counted),
    )


def _rows_of_group(records: Sequence[Record]) -> list[SummaryRow]:
    budgets: dict[tuple[int | None, int], list[Record]] = {}
    for record in records:
        if record.status == "ok":
            budgets.setdefault((record.parameters, record.tokens), []).append(record)
    if len(budgets) <= 1:
        return [_row(records)]
    # A run that failed early does not tell which budget it was meant for: only a seed that ended
    # well with all of them has surely been run again.
    again = set.intersection(*({run.seed for run in runs} for runs in budgets.values()))
    failures = [r for r in records if r.status == "failed" and r.seed not in again]
    rows = [_row(runs) for runs in budgets.values()]
    return [*rows, _row(failures)] if failures else rows


def _table_of(row: SummaryRow) -> tuple[str, str, bool]:
    return row.task, row.data, row.whole


def _with_difference(row: SummaryRow, rows: Sequence[SummaryRow]) -> SummaryRow:
    candidates = [
        other
        for other in rows
        if other.mechanism == _BASELINE
        and other.control == "none"
        and _table_of(other) == _table_of(row)
        and other.tokens == row.tokens
        and other.valid_bits_per_byte is not None
    ]
    if not candidates or row in candidates:
        return row
    best = min(candidates, key=lambda other: (other.valid_bits_per_byte or Statistic(0, None)).mean)
    shared = row.test_by_seed.keys() & best.test_by_seed.keys()
    differences = (row.test_by_seed[seed] - best.test_by_seed[seed] for seed in sorted(shared))
    return replace(row, difference=statistic(differences), difference_seeds=len(shared))


def summary_table(records: Iterable[Record]) -> list[SummaryRow]:
    """Groups records by arm over seeds.

    Runs share a row when task, data, arm, mechanism, control, variant, learning rate, parameters
    and tokens agree. A seed that ran twice counts once, with the later run that ended well. A seed
    that only failed is counted in the row of its settings, or in a row of its own when no or
    several budgets fit. The
    difference is paired by seed, against the softmax row with the same data and tokens; with
    several such rows, against the one best on validation.

    Args:
        records: The records, earlier runs first.

    Returns:
        One row per arm and budget, in the order of first appearance.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(_group(record), []).append(record)
    rows = [row for group in groups.values() for row in _rows_of_group(group)]
    return [_with_difference(row, rows) for row in rows]


def split_tables(rows: Iterable[SummaryRow]) -> dict[str, list[SummaryRow]]:
    """Splits rows into tables, so that different data, or a whole and a part, never share one.

    Args:
        rows: Rows of any task and data.

    Returns:
        Rows by a title that names task, data, and whole or part.
    """
    tables: dict[str, list[SummaryRow]] = {}
    for row in rows:
        extent = "whole" if row.whole else "part of it"
        tables.setdefault(f"{row.task}: {row.data}, {extent}", []).append(row)
    return tables


def _count(value: int | None) -> str:
    return _DASH if value is None else f"{value:,}"


def spread(value: Statistic | None, pattern: str, separator: str = " ") -> str:
    """Returns a mean with its deviation, each by the `pattern`; a dash when unknown."""
    if value is None:
        return _DASH
    if value.deviation is None:
        return f"{value.mean:{pattern}}"
    return f"{value.mean:{pattern}}{separator}± {format(value.deviation, pattern.strip('+'))}"


def _megabytes(value: Statistic | None) -> Statistic | None:
    if value is None:
        return None
    return Statistic(value.mean / 1e6, None if value.deviation is None else value.deviation / 1e6)


_HEADINGS = (
    "mechanism",
    "parameters",
    "test bits per byte",
    "perplexity per byte",
    "valid bits per byte",
    "difference to softmax",
    "tokens per second",
    "peak memory (MB)",
    "tokens seen",
    "seeds",
    "failed",
)


def _names(rows: Sequence[SummaryRow]) -> list[str]:
    """Returns the arms' names, with what tells two rows apart where the name does not."""
    names = [row.arm if row.control == "none" else f"{row.arm}, {row.control}" for row in rows]
    details: list[Callable[[SummaryRow], str]] = [
        lambda row: row.mechanism,
        lambda row: ", ".join(f"{key}={value}" for key, value in row.variant.items()) or "default",
        lambda row: f"learning rate {row.learning_rate}",
    ]
    for detail in details:
        told = [detail(row) for row in rows]
        alike = [{told[j] for j in range(len(rows)) if names[j] == name} for name in names]
        names = [
            f"{name}, {told[i]}" if len(alike[i]) > 1 else name for i, name in enumerate(names)
        ]
    return names


def _cells(row: SummaryRow, name: str, separator: str) -> list[str]:
    return [
        name,
        _count(row.parameters),
        spread(row.test_bits_per_byte, ".4f", separator),
        spread(row.test_perplexity, ".3f", separator),
        spread(row.valid_bits_per_byte, ".4f", separator),
        spread(row.difference, "+.4f", separator),
        spread(row.tokens_per_second, ",.0f", separator),
        spread(_megabytes(row.peak_memory_bytes), ",.1f", separator),
        _count(row.tokens),
        str(row.seeds),
        str(row.failed),
    ]


def _notes(rows: Sequence[SummaryRow]) -> list[str]:
    notes = [
        "Mean ± sample standard deviation over seeds; lower bits are better; the difference is "
        "the mean over the seeds that both arms have.",
    ]
    superseded = sum(row.superseded for row in rows)
    if superseded:
        runs = "1 run is" if superseded == 1 else f"{superseded} runs are"
        notes.append(f"{runs} left out: of one seed the last run that ended well counts.")
    return notes


def text_tables(rows: Iterable[SummaryRow], separator: str = " ") -> list[TextTable]:
    """Returns rows as text, one table for each task and data.

    Args:
        rows: The rows.
        separator: What stands between a mean and its deviation.

    Returns:
        Tables of the same columns; an unknown number is a dash.
    """
    found: list[TextTable] = []
    for title, table in split_tables(rows).items():
        named = zip(table, _names(table), strict=True)
        lines = [_cells(row, name, separator) for row, name in named]
        found.append(TextTable(title, _HEADINGS, lines, " ".join(_notes(table))))
    return found


def to_markdown(rows: Iterable[SummaryRow]) -> str:
    """Writes rows as Markdown, one table for each task and data.

    Args:
        rows: The rows.

    Returns:
        Headings, tables and notes; empty text without rows.
    """
    return "\n".join(table.markdown() for table in text_tables(rows))


def to_csv(rows: Iterable[SummaryRow]) -> str:
    """Writes the rows of one table as CSV, each mean and deviation in a column of its own.

    Args:
        rows: Rows of one task and data.

    Returns:
        A heading and a line per row, numbers in full; an unknown number is an empty field.

    Raises:
        ValueError: If the rows belong to several tables.
    """
    tables = split_tables(rows)
    if len(tables) > 1:
        raise ValueError(
            f"`rows` must belong to one task and data, whole or part; got {sorted(tables)}. Write "
            "one file for each table of `split_tables`."
        )
    plain = ("task", "data", "whole", "arm", "mechanism", "control", "learning_rate", "parameters")
    counts = ("tokens", "seeds", "failed", "superseded")
    spreads = (
        "test_bits_per_byte",
        "test_perplexity",
        "valid_bits_per_byte",
        "difference",
        "tokens_per_second",
        "peak_memory_bytes",
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    pairs = [column for name in spreads for column in (f"{name}_mean", f"{name}_deviation")]
    writer.writerow([*plain, "variant", *pairs, *counts])
    for row in (row for table in tables.values() for row in table):
        values = [value for name in spreads for value in getattr(row, name) or (None, None)]
        settings = [getattr(row, name) for name in plain]
        variant = json.dumps(row.variant, sort_keys=True, default=str)
        writer.writerow([*settings, variant, *values, *(getattr(row, name) for name in counts)])
    return text.getvalue()


def print_table(rows: Iterable[SummaryRow], *, console: Console | None = None) -> None:
    """Prints rows in the terminal, one table for each task and data.

    In a terminal of less than 110 columns, quality and cost stand below each other.

    Args:
        rows: The rows.
        console: Where to print; standard output when None.
    """
    console = Console() if console is None else console
    everything = range(len(_HEADINGS))
    parts = [everything] if console.width >= 110 else [everything[:6], (0, *everything[6:])]
    for table in text_tables(rows, "\n"):
        print_text_table(table, console, parts)
