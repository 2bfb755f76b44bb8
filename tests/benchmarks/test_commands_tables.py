import io

import pytest
from rich.console import Console

from syncattn.benchmarks.commands_tables import (
    CompareConfig,
    TableConfig,
    compare_runs,
    rebuild_tables,
)
from syncattn.benchmarks.records import append_record
from tests.benchmarks.benchmark_small import record, records_of


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def flat(console):
    return " ".join(console.file.getvalue().split())


def test_table_is_rebuilt_from_records_alone(tmp_path, console):
    for seed in range(2):
        append_record(tmp_path / "records.jsonl", record(seed=seed))
    with records_of(tmp_path).open("a") as stream:
        stream.write("{torn\n")
    odd = tmp_path / "[bold]odd"
    assert rebuild_tables(TableConfig((tmp_path,), output=odd), console) == 0
    assert "[bold]odd: table.md" in flat(console)
    assert rebuild_tables(TableConfig((tmp_path,), output=tmp_path / "out"), console) == 0
    assert "line 3: passed over" in flat(console)
    assert "0.5000 0.5000" in (tmp_path / "out" / "table.md").read_text()
    with pytest.raises(ValueError, match="Run a grid first"):
        rebuild_tables(TableConfig((tmp_path / "gone",)), console)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("kind", ["empty", "of compare", "gone"])
def test_a_side_without_runs_of_the_benchmark_is_refused(tmp_path, console, side, kind):
    paths = {"before": tmp_path / "before.jsonl", "after": tmp_path / "after.jsonl"}
    for name, path in paths.items():
        if name != side:
            append_record(path, record())
        elif kind == "of compare":
            append_record(path, record(task="compare", recipe={}))
        elif kind == "empty":
            path.touch()
    with pytest.raises(ValueError, match=f"`{side}` must .*; got .*{side}.jsonl"):
        compare_runs(CompareConfig(**paths), console)


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path, console):
    append_record(tmp_path / "records.jsonl", record())
    with pytest.raises(ValueError, match="`output` must be a folder; got the file"):
        rebuild_tables(TableConfig((tmp_path,), output=records_of(tmp_path)), console)
    assert not flat(console)


def test_compare_tells_what_changed(tmp_path, console):
    for name, score in (("a", 0.5), ("b", 0.9)):
        for seed in range(3):
            made = record(seed=seed, test_score=score + 0.01 * seed, commit=name)
            append_record(tmp_path / f"{name}.jsonl", made)
    assert compare_runs(CompareConfig(tmp_path / "a.jsonl", tmp_path / "b.jsonl"), console) == 0
    text = flat(console)
    assert "beyond the seeds' spread" in text
    assert "What else differs: commit: a -> b" in text
