from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from syncattn.benchmarks.records import Record
from syncattn.benchmarks.scores import score_tables
from syncattn.benchmarks.tables import (
    Statistic,
    SummaryRow,
    print_table,
    split_tables,
    summary_table,
    text_tables,
    to_csv,
    to_markdown,
)

WHOLE = {"name": "stdlib", "sha256": "ab" * 32, "whole": True}
PART = {"name": "stdlib", "sha256": "cd" * 32, "whole": False}


def record(arm: str = "softmax", bits: float | None = 2.0, seed: int = 0, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "task": "code-char",
        "arm": arm,
        "mechanism": arm,
        "seed": seed,
        "status": "failed" if bits is None else "ok",
        "failure": "diverged" if bits is None else None,
        "parameters": 1_234_567,
        "tokens": 5000,
        "tokens_per_second": 1000.0,
        "peak_memory_bytes": 2_500_000,
        "valid_bits_per_byte": bits,
        "test_bits_per_byte": bits,
        "data": WHOLE,
        "versions": {},
        "commit": None,
        "device": "cpu",
        "command": "",
    }
    return Record(**(values | changes))


def close(actual: Statistic | None, mean: float, deviation: float | None) -> None:
    assert actual is not None
    assert actual.mean == pytest.approx(mean)
    assert actual.deviation == (None if deviation is None else pytest.approx(deviation))


def test_mean_and_sample_deviation_over_seeds() -> None:
    (row,) = summary_table(record(bits=bits, seed=int(bits)) for bits in (1.0, 2.0, 3.0))
    close(row.test_bits_per_byte, 2.0, 1.0)
    # 2, 4, 8: the mean of the perplexities, not the perplexity of the mean.
    close(row.test_perplexity, 14 / 3, math.sqrt(28 / 3))
    close(row.valid_bits_per_byte, 2.0, 1.0)
    close(row.tokens_per_second, 1000.0, 0.0)
    assert (row.seeds, row.failed, row.tokens, row.parameters) == (3, 0, 5000, 1_234_567)
    assert row.test_by_seed == {1: 1.0, 2: 2.0, 3: 3.0}


def test_one_seed_has_no_deviation() -> None:
    (row,) = summary_table([record()])
    close(row.test_bits_per_byte, 2.0, None)
    assert "| 2.0000 |" in to_markdown([row])


def test_the_difference_is_paired_by_seed() -> None:
    softmax = [record(bits=2.0, seed=0), record(bits=3.0, seed=1), record(bits=9.0, seed=2)]
    other = [record("selective", 2.1, 0), record("selective", 3.3, 1), record("selective", 1.0, 7)]
    baseline, row = summary_table(softmax + other)
    assert baseline.difference is None
    close(row.difference, 0.2, math.sqrt(0.02))
    assert "+0.2000 ± 0.1414" in to_markdown([row])


def test_no_difference_without_an_equal_baseline() -> None:
    other = record("selective")
    for softmax in (
        record(tokens=1),
        record(data=PART),
        record(task="enwik8-char"),
        record(control="bypass"),
        record(seed=5),
        record(bits=None),
    ):
        rows = summary_table([softmax, other])
        assert [row.difference for row in rows if row.arm == "selective"] == [None]


def test_of_several_baselines_the_best_on_validation_counts() -> None:
    worse = record(bits=1.0, valid_bits_per_byte=3.0, learning_rate=0.1)
    best = record(bits=1.5, valid_bits_per_byte=2.0, learning_rate=0.01)
    rows = summary_table([worse, best, record("selective", 2.0)])
    assert [row.difference for row in rows[:2]] == [None, None]
    close(rows[2].difference, 0.5, None)


def test_controls_of_softmax_are_compared_too() -> None:
    rows = summary_table([record(), record(bits=4.0, control="bypass")])
    close(rows[1].difference, 2.0, None)


def test_failures_are_counted_and_never_averaged() -> None:
    runs = [record("selective", 2.0, 0), record("selective", None, 1, tokens=17)]
    (row,) = summary_table(runs)
    assert (row.seeds, row.failed, row.tokens) == (1, 1, 5000)
    close(row.test_bits_per_byte, 2.0, None)


def test_an_arm_that_only_failed_has_a_row_of_dashes() -> None:
    (row,) = summary_table([record("selective", None, parameters=None)])
    assert (row.seeds, row.failed, row.test_bits_per_byte) == (0, 1, None)
    assert to_markdown([row]).splitlines()[4] == f"| selective |{' – |' * 8} 0 | 1 |"


def test_a_measure_that_is_missing_is_not_zero_bits() -> None:
    accuracy = record(
        "selective", metric="accuracy", test_score=0.9, valid_bits_per_byte=None,
        test_bits_per_byte=None,
    )  # fmt: skip
    _, row = summary_table([record(), accuracy])
    assert (row.seeds, row.test_by_seed, row.difference) == (1, {}, None)


def test_a_good_rerun_replaces_a_failed_one() -> None:
    failed, good = record("selective", None), record("selective", 2.0)
    for runs in ([failed, good], [good, failed], [failed, failed, good]):
        (row,) = summary_table(runs)
        assert (row.seeds, row.failed, row.superseded) == (1, 0, len(runs) - 1)
        assert row.parameters == 1_234_567 and row.test_by_seed == {0: 2.0}
        assert score_tables(replace(r, recipe={"steps": 3}) for r in runs)[0].rows[0].failed == 0
    (row,) = summary_table([failed, failed])
    assert (row.seeds, row.failed, row.superseded) == (0, 1, 1)


def test_with_several_budgets_a_rerun_must_be_of_all() -> None:
    ten, twenty = record(tokens=10), record(tokens=20)
    failed = record(bits=None, tokens=3)
    assert [row.failed for row in summary_table([failed, ten, twenty])] == [0, 0]
    other = record(tokens=20, seed=1)
    assert [row.failed for row in summary_table([failed, ten, other])] == [0, 0, 1]


def test_budgets_are_not_averaged() -> None:
    runs = [record(tokens=10), record(tokens=20, bits=1.0), record(bits=None, seed=1, tokens=3)]
    rows = summary_table(runs)
    assert [(row.tokens, row.seeds, row.failed) for row in rows] == [
        (10, 1, 0),
        (20, 1, 0),
        (None, 0, 1),
    ]


def test_sizes_are_not_averaged() -> None:
    assert len(summary_table([record(), record(seed=1, parameters=5)])) == 2


@pytest.mark.parametrize(
    "changes",
    [{"variant": {"top_k": 8}}, {"learning_rate": 0.1}, {"control": "random"}, {"data": PART}],
)
def test_settings_have_rows_of_their_own(changes: dict[str, Any]) -> None:
    assert len(summary_table([record(), record(seed=1, **changes)])) == 2


def test_the_order_of_flags_does_not_matter() -> None:
    one, other = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert len(summary_table([record(variant=one), record(seed=1, variant=other)])) == 1


def test_a_repeated_seed_counts_once_with_its_later_run() -> None:
    (row,) = summary_table([record(bits=9.0), record(bits=2.0), record(bits=4.0, seed=1)])
    close(row.test_bits_per_byte, 3.0, math.sqrt(2))
    assert (row.seeds, row.superseded) == (2, 1)
    assert "1 run is left out: of one seed the last run that ended well counts" in to_markdown([
        row
    ])


def test_whole_and_part_are_never_in_one_table() -> None:
    rows = summary_table([record(), record(data=PART), record(task="enwik8-char")])
    assert list(split_tables(rows)) == [
        "code-char: stdlib, sha256 abababab, whole",
        "code-char: stdlib, sha256 cdcdcdcd, part of it",
        "enwik8-char: stdlib, sha256 abababab, whole",
    ]
    assert to_markdown(rows).count("### ") == 3
    with pytest.raises(ValueError, match="`split_tables`"):
        to_csv(rows)


def test_markdown_is_a_table() -> None:
    text = to_markdown(summary_table([record(), record("a|b", 2.5)]))
    lines = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {12}
    assert "| 1,234,567 |" in lines[2]
    assert "| 2.5 |" in lines[2]
    assert "ab" in lines[3]


def test_text_tables_hold_what_markdown_shows() -> None:
    rows = summary_table([record(), record(bits=3.0, seed=1), record(data=PART)])
    whole, part = text_tables(rows)
    assert (whole.title, part.title) == tuple(split_tables(rows))
    assert whole.headings[2] == "test bits per byte"
    assert [line[2] for line in whole.lines] == ["2.5000 ± 0.7071"]
    assert [len(line) for line in (*whole.lines, *part.lines)] == [len(whole.headings)] * 2
    assert whole.note.startswith("Mean ± sample standard deviation over seeds")
    assert to_markdown(rows) == f"{whole.markdown()}\n{part.markdown()}"
    assert text_tables(rows, "\n")[0].lines[0][2] == "2.5000\n± 0.7071"


def test_names_tell_rows_apart() -> None:
    rows = summary_table([
        record(),
        record("mine", mechanism="selective"),
        record("mine", mechanism="kuramoto"),
        record("mine", mechanism="kuramoto", variant={"gate": "qk"}),
        record("other", learning_rate=0.1),
        record("other", learning_rate=0.2, control="frozen"),
        record("other", learning_rate=0.3),
    ])
    table = to_markdown(rows).splitlines()[4:]
    names = [line.split(" | ")[0].removeprefix("| ") for line in table if line.startswith("|")]
    assert names == [
        "softmax",
        "mine, selective",
        "mine, kuramoto, default",
        "mine, kuramoto, gate=qk",
        "other, learning rate 0.1",
        "other, frozen",
        "other, learning rate 0.3",
    ]


def test_csv_holds_the_numbers_in_full() -> None:
    runs = [record(bits=1.0), record(bits=2.0, seed=1), record('b, "c"', 1 / 3)]
    first, second = csv.DictReader(io.StringIO(to_csv(summary_table(runs))))
    assert float(first["test_bits_per_byte_mean"]) == 1.5
    assert float(first["test_bits_per_byte_deviation"]) == math.sqrt(0.5)
    assert first["difference_mean"] == ""
    assert first["whole"] == "True"
    assert second["arm"] == 'b, "c"'
    assert float(second["test_bits_per_byte_mean"]) == 1 / 3
    assert second["test_bits_per_byte_deviation"] == ""
    assert second["seeds"] == "1"


def printed(rows: list[SummaryRow], width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        print_table(rows, console=console)
    return capture.get()


@pytest.mark.parametrize("width", [80, 109, 110, 200])
def test_no_number_is_cut_in_the_terminal(width: int) -> None:
    runs = [record(seed=seed, bits=2.34567 + seed, tokens=123_456_789) for seed in range(3)]
    text = printed(summary_table([*runs, record("[bold]frustrated-meanfield", 4.5)]), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for cell in ("1,234,567", "3.3457", "± 1.0000", "123,456,789", "2.5", "1,000", "[bold]"):
        assert cell in text


def test_nothing_prints_nothing() -> None:
    assert printed([], 80) == ""
    assert to_markdown([]) == ""
    assert len(to_csv([]).splitlines()) == 1
