"""Tables of the benchmark as Markdown, CSV and text in the terminal, from records alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.console import Console

from syncattn.analysis.text_table import TextTable, pipes
from syncattn.benchmarks.scores import Change, Interval, ScoreRow, ScoreTable
from syncattn.benchmarks.tables import spread
from syncattn.benchmarks.tasks import higher_is_better
from syncattn.benchmarks.text_table import print_text_table

__all__ = [
    "change_tables",
    "print_scores",
    "score_text_table",
    "scores_to_csv",
    "scores_to_markdown",
]

_DASH = "–"
_HEADINGS = ("arm", "by seed", "mean", "minus softmax", "minus the arm", "failed", "parameters",
             "FLOPs a token", "rate")  # fmt: skip
_CHANGES = ("arm", "score", "difference", "verdict")


def score_text_table(table: ScoreTable) -> TextTable:
    """Returns a table as text.

    Args:
        table: The table.

    Returns:
        The same columns for every table; an unknown number is a dash.
    """
    lines = [_cells(row, table.metric) for row in table.rows]
    return TextTable(table.title, _HEADINGS, lines, _note(table))


def scores_to_markdown(tables: Sequence[ScoreTable], *, not_applicable: Sequence[str] = ()) -> str:
    """Writes tables as Markdown, the scores of groups below each where there are any.

    Args:
        tables: The tables.
        not_applicable: Cells that make no sense, with the reason; listed at the end.

    Returns:
        Headings, tables and notes; empty text without tables.
    """
    parts: list[str] = []
    for table in tables:
        parts.append(score_text_table(table).markdown())
        groups = _groups(table)
        if groups:
            rows = [
                (_name(row), *(_number(row.groups.get(g), table.metric) for g in groups))
                for row in table.rows
                if row.groups
            ]
            parts += ["By group, mean over seeds:\n", pipes(("arm", *groups), rows), ""]
    if parts and not_applicable:
        parts += ["### Not applicable\n", *(f"- {line}" for line in not_applicable), ""]
    return "\n".join(parts)


def scores_to_csv(tables: Sequence[ScoreTable]) -> str:
    """Writes one line per row and seed of every table, and nothing that mixes tables.

    Args:
        tables: The tables.

    Returns:
        A heading and lines; unknown numbers are empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["task", "data", "extent", "sha256", "scale", "metric", "arm", "control", "seed", "score",
         "mean", "deviation", "minus_softmax", "low", "high", "minus_arm", "arm_low", "arm_high",
         "failed", "not_learned", "parameters", "flops_per_token", "learning_rate", "tokens",
         "seconds", "peak_memory_bytes"]
    )  # fmt: skip
    for table in tables:
        data = table.data
        head = [table.task, data["name"], data.get("extent"), data["sha256"],
                table.recipe.get("scale"), table.metric]  # fmt: skip
        for row in table.rows:
            mean = row.score or (None, None)
            ends = [
                *(() if row.to_baseline is None else row.to_baseline[:3]),
                *((None, None, None) if row.to_baseline is None else ()),
                *(() if row.to_arm is None else row.to_arm[:3]),
                *((None, None, None) if row.to_arm is None else ()),
            ]
            tail = [row.failed, row.not_learned, row.parameters, row.flops_per_token,
                    row.learning_rate, row.tokens, row.seconds, row.peak_memory_bytes]  # fmt: skip
            for seed, score in (row.by_seed or {None: None}).items():
                writer.writerow([*head, row.arm, row.control, seed, score, *mean, *ends, *tail])
    return text.getvalue()


def print_scores(tables: Sequence[ScoreTable], console: Console) -> None:
    """Prints tables in the terminal, the columns that fit.

    Args:
        tables: The tables.
        console: Where.
    """
    narrow = console.width < 110
    columns = (0, 2, 3, 5) if narrow else range(len(_HEADINGS))
    for table in tables:
        print_text_table(score_text_table(table), console, [columns])


def change_tables(changes: Sequence[Change]) -> list[TextTable]:
    """Returns what became of the rows, one table for each task and data.

    Args:
        changes: The changes.

    Returns:
        Tables of four columns: the row, both scores, their difference, and the verdict.
    """
    found: dict[str, list[list[str]]] = {}
    for change in changes:
        found.setdefault(change.title, []).append(_changed(change))
    return [TextTable(title, _CHANGES, lines, "") for title, lines in found.items()]


def _changed(change: Change) -> list[str]:
    verdict = {
        True: "beyond the seeds' spread",
        False: "within the seeds' spread",
        None: "unknown: one seed each",
    }[change.beyond_spread]
    return [
        _name(change),
        f"{spread(change.before, '.4f')} → {spread(change.after, '.4f')}",
        _interval(change.difference, ""),
        verdict,
    ]


def _cells(row: ScoreRow, metric: str) -> list[str]:
    seeds = " ".join(_number(score, metric) for score in row.by_seed.values())
    failed = str(row.failed)
    if row.not_learned:
        failed += f" (+{row.not_learned} not learned)"
    return [
        _name(row),
        seeds or _DASH,
        spread(row.score, _pattern(metric)),
        _interval(row.to_baseline, metric),
        _interval(row.to_arm, metric),
        failed,
        _DASH if row.parameters is None else f"{row.parameters:,}",
        _DASH if row.flops_per_token is None else f"{row.flops_per_token:,.0f}",
        _DASH if row.learning_rate is None else f"{row.learning_rate:g}",
    ]


def _name(row: ScoreRow | Change) -> str:
    return row.arm if row.control == "none" else f"{row.arm}, {row.control}"


def _pattern(metric: str) -> str:
    return ".2f" if metric == "perplexity" else ".4f"


def _number(value: float | None, metric: str) -> str:
    return _DASH if value is None else f"{value:{_pattern(metric)}}"


def _interval(value: Interval | None, metric: str) -> str:
    if value is None:
        return _DASH
    pattern = "+" + _pattern(metric)
    if value.low is None or value.high is None:
        return f"{value.mean:{pattern}}"
    return f"{value.mean:{pattern}} [{value.low:{pattern}}, {value.high:{pattern}}]"


def _groups(table: ScoreTable) -> list[str]:
    return list(dict.fromkeys(name for row in table.rows for name in row.groups))


def _note(table: ScoreTable) -> str:
    direction = "higher" if higher_is_better(table.metric) else "lower"
    notes = [
        f"Test {table.metric}, {direction} is better; mean ± sample deviation over seeds;"
        f" differences are paired by seed, with 95 % t intervals."
    ]
    if table.ceiling is not None and table.ceiling < 1:
        notes.append(f"No reader can expect more than {table.ceiling:.4f}.")
    if table.data.get("extent") == "part":
        notes.append("A part of the set: not comparable with figures of the whole.")
    if table.data.get("extent") == "sample":
        notes.append("A sample in place of the set: good for comparing arms here, nothing else.")
    return " ".join(notes)
