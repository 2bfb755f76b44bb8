from syncattn.analysis.text_table import TextTable, pipes


def test_markdown_is_heading_table_and_note():
    table = TextTable("a [title]", ("name", "n"), [("x|y", "12,345")], "[note]")
    assert table.markdown() == (
        "### a [title]\n\n| name | n |\n| --- | ---: |\n| x\\|y | 12,345 |\n\n[note]\n"
    )


def test_a_table_without_rows_has_its_headings():
    assert pipes(("a", "b"), []) == "| a | b |\n| --- | ---: |"
