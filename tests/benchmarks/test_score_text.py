import csv
import io

from rich.console import Console

from syncattn.benchmarks.score_text import (
    change_tables,
    print_scores,
    score_text_table,
    scores_to_csv,
    scores_to_markdown,
)
from syncattn.benchmarks.scores import compare_scores, score_tables
from tests.benchmarks.benchmark_small import record

PART = {"name": "set", "sha256": "cd" * 32, "whole": False, "extent": "part"}


def tables():
    made = [record(seed=i, test_score=0.5 + 0.1 * i, parameters=1_000) for i in range(2)]
    made += [
        record(arm="kuramoto", seed=i, test_score=0.8, scores={"by_group": {"1": 0.9, "2": 0.7}})
        for i in range(2)
    ]
    made.append(record(arm="kuramoto", control="frozen", seed=0, status="failed", failure="x|y",
                       test_score=None))  # fmt: skip
    made.append(record(task="tinystories", metric="perplexity", test_score=12.3, data=PART))
    return score_tables(made)


def test_markdown_has_every_seed_the_interval_and_the_failures():
    text = scores_to_markdown(tables(), not_applicable=["copy: softmax, matched: it is softmax"])
    assert "### copy: copying (generated, abababab), scale smoke" in text
    assert "| softmax | 0.5000 0.6000 | 0.5500 ± 0.0707 |" in text
    assert "+0.2500 [-0.3853, +0.8853]" in text
    assert "| kuramoto, frozen | – | – | – | – | 1 |" in text
    assert "| kuramoto | 0.9000 | 0.7000 |" in text
    assert "A part of the set: not comparable" in text
    assert "| softmax | 12.30 | 12.30 |" in text
    assert "- copy: softmax, matched: it is softmax" in text
    assert scores_to_markdown([]) == ""


def test_a_table_as_text_holds_what_markdown_shows():
    first, second = (score_text_table(table) for table in tables())
    assert first.title == "copy: copying (generated, abababab), scale smoke"
    assert [line[0] for line in first.lines] == ["softmax", "kuramoto", "kuramoto, frozen"]
    assert first.lines[0][1:3] == ["0.5000 0.6000", "0.5500 ± 0.0707"]
    assert {len(line) for line in first.lines} == {len(first.headings)}
    assert second.note.endswith("not comparable with figures of the whole.")
    text = scores_to_markdown(tables())
    assert first.markdown() in text and second.markdown() in text


def test_csv_has_a_line_for_every_seed():
    lines = list(csv.DictReader(io.StringIO(scores_to_csv(tables()))))
    assert len(lines) == 6
    assert {line["extent"] for line in lines} == {"generated", "part"}
    second = lines[1]
    assert (second["seed"], second["score"], second["mean"]) == ("1", "0.6", "0.55")
    failed = next(line for line in lines if line["control"] == "frozen")
    assert (failed["score"], failed["failed"]) == ("", "1")


def test_the_terminal_shows_what_fits():
    for width, seen in ((80, False), (200, True)):
        console = Console(file=io.StringIO(), width=width)
        print_scores(tables(), console)
        text = console.file.getvalue()
        assert "kuramoto, frozen" in text
        assert ("FLOPs" in text) == seen


def test_a_change_says_whether_it_is_beyond_the_spread():
    before = [record(seed=i, test_score=0.5 + 0.01 * i) for i in range(3)]
    after = [record(seed=i, test_score=0.9 + 0.01 * i) for i in range(3)]
    changes, _ = compare_scores(before, after)
    (table,) = change_tables([*changes, *changes])
    assert table.title == changes[0].title
    assert [line[0] for line in table.lines] == ["softmax", "softmax"]
    assert table.lines[0][1] == "0.5100 ± 0.0100 → 0.9100 ± 0.0100"
    assert table.lines[0][2].startswith("+0.4000")
    assert table.lines[0][3] == "beyond the seeds' spread"
