"""A table of text, printed in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from syncattn.analysis.text_table import TextTable

__all__ = ["print_text_table", "text_grid"]


def text_grid(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    """Returns a grid for the terminal: headings may wrap, numbers are never cut.

    Args:
        headings: One per column.
        lines: Cells, row by row.
    """
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, heading in enumerate(headings):
        # Headings may wrap between words; a number is never cut.
        pieces = [piece for line in lines for piece in line[index].split("\n")]
        least = max(map(len, [*heading.split(), *(pieces if index else [])]))
        justify = "right" if index else "left"
        grid.add_column(heading, justify=justify, min_width=least, overflow="fold")
    for line in lines:
        grid.add_row(*map(escape, line))
    return grid


def print_text_table(table: TextTable, console: Console, parts: Sequence[Sequence[int]]) -> None:
    """Prints title, grids and note in the terminal.

    Args:
        table: The table.
        console: Where.
        parts: The columns of each grid, one grid below the other.
    """
    console.print(escape(table.title), style="bold", highlight=False)
    for part in parts:
        lines = [[line[column] for column in part] for line in table.lines]
        console.print(text_grid([table.headings[column] for column in part], lines))
    console.print(escape(table.note), style="italic", highlight=False)
