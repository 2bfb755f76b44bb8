"""A table of text, whatever shows it: a page, a terminal or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["TextTable", "pipes"]


class TextTable(NamedTuple):
    """What a table says, whatever shows it.

    Attributes:
        title: Above it.
        headings: One per column.
        lines: Cells, row by row; the first names its row.
        note: Below it.
    """

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """Returns heading, table and note as Markdown."""
        return f"### {self.title}\n\n{pipes(self.headings, self.lines)}\n\n{self.note}\n"


def pipes(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Returns a table of Markdown, its numbers to the right; a pipe in a cell is escaped.

    Args:
        headings: One per column; the first column is of names.
        lines: Cells, row by row.
    """
    rule = ("---", *("---:",) * (len(headings) - 1))
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in (headings, rule, *lines))
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
