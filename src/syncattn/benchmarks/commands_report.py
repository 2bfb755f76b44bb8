"""`syncattn report`: its options, and what it does."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from syncattn.analysis.report import Report, printable, render_report
from syncattn.benchmarks.folders import require_output
from syncattn.benchmarks.report_sources import Source, judged_claims, read_source

__all__ = ["TEXT", "ReportConfig", "write_report"]

TEXT = "def near(a, b):\n    return near(b, a)"
"""What models read for the pictures: short enough for labels, with names that come again."""


@dataclass(frozen=True)
class ReportConfig:
    """One HTML file about runs: tables, curves, matrices, phases in motion, claims."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of comparisons, of grids, of single trainings, or of saved models."""

    output: Path | None = None
    """The file; report.html in the first run's folder when left out."""

    text: str = TEXT
    """What the models read for the pictures; of a longer text as much as their context holds."""


def write_report(config: ReportConfig, console: Console) -> Path:
    """Writes the report.

    Args:
        config: The parsed command line.
        console: Where to say what was passed over.

    Returns:
        The file.

    Raises:
        ValueError: If there is no run, one is none, the text is too short, or the folder of
            the report cannot be written.
        OSError: If the file cannot be written.
    """
    if not config.runs:
        raise ValueError("`runs` must name at least one folder; got none. Give that of a run.")
    text = config.text.encode("utf-8", errors="replace")
    if len(text) < 2:
        raise ValueError(
            f"`text` must have at least two bytes; got {len(text)}. Leave it out for a default."
        )
    output = config.output or config.runs[0] / "report.html"
    if output.is_dir():
        raise ValueError(f"`output` must be a file; got the folder {output}. Add a name to it.")
    require_output(output.parent)
    sources = [read_source(path) for path in dict.fromkeys(config.runs)]
    sections = [source.observed(text) for source in sources]
    for section in sections:
        for note in section.notes:
            console.print(printable(f"{section.title}: {note}"), highlight=False, markup=False)
    names = " and ".join(section.title for section in sections)
    page = render_report(
        Report(
            title=f"Report: {names}",
            sections=sections,
            claims=judged_claims([record for source in sources for record in source.records]),
            commands=_commands(config, sources),
        )
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    # A browser that looks at the old report never meets half of the new one.
    partial = output.with_name(f".{output.name}.partial")
    partial.write_text(page, encoding="utf-8")
    return partial.replace(output)


def _commands(config: ReportConfig, sources: list[Source]) -> list[str]:
    made = [record.command for source in sources for record in source.records]
    words = ["syncattn", "report", *map(str, config.runs)]
    words += [] if config.output is None else ["--output", str(config.output)]
    words += [] if config.text == TEXT else ["--text", config.text]
    return [*dict.fromkeys(made), shlex.join(words)]
