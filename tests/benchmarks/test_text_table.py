import io

import pytest
from rich.console import Console

from syncattn.analysis.text_table import TextTable
from syncattn.benchmarks.text_table import print_text_table, text_grid

TABLE = TextTable("a [title]", ("name", "of many words", "n"), [("x|y", "1.5", "12,345")], "[note]")


def printed(show) -> list[str]:
    console = Console(width=60, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        show(console)
    return [line.strip() for line in capture.get().splitlines()]


@pytest.mark.parametrize("width", [20, 60])
def test_a_grid_never_cuts_a_number(width):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(text_grid(TABLE.headings, TABLE.lines))
    assert "12,345" in console.file.getvalue() and "1.5" in console.file.getvalue()


def test_the_terminal_shows_the_columns_asked_for_grid_by_grid():
    whole = printed(lambda console: print_text_table(TABLE, console, [range(3)]))
    assert (whole[0], whole[-1]) == ("a [title]", "[note]")
    assert [line.split() for line in whole if "x|y" in line] == [["x|y", "1.5", "12,345"]]
    parts = printed(lambda console: print_text_table(TABLE, console, [(0, 1), (0, 2)]))
    cells = [line.split() for line in parts if "x|y" in line]
    assert cells == [["x|y", "1.5"], ["x|y", "12,345"]]
