from __future__ import annotations

import json
import math
import multiprocessing
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from syncattn.benchmarks.records import Record, append_record, by_seed, read_records

DATA = {"name": "stdlib", "sha256": "ab" * 32, "whole": True}


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "task": "code-char",
        "arm": "selective",
        "mechanism": "selective",
        "seed": 0,
        "parameters": 1000,
        "tokens": 5000,
        "test_bits_per_byte": 2.0,
        "data": DATA,
        "versions": {"torch": "2.13.0"},
        "commit": None,
        "device": "cpu",
        "command": "syncattn compare",
    }
    return Record(**(values | changes))


def failed(**changes: Any) -> Record:
    values = {"status": "failed", "failure": "the loss is not finite", "test_bits_per_byte": None}
    return record(**(values | changes))


def test_perplexity_is_two_to_the_bits() -> None:
    assert record(test_bits_per_byte=3.0).test_perplexity == 8.0
    assert record(test_bits_per_byte=3.0, test_perplexity=8.0).test_perplexity == 8.0
    assert record(test_bits_per_byte=5000.0).test_perplexity == math.inf
    assert failed().test_perplexity is None
    with pytest.raises(ValueError, match="`test_perplexity` must be"):
        record(test_bits_per_byte=3.0, test_perplexity=20.1)


def test_created_is_now_in_utc() -> None:
    created = datetime.fromisoformat(record().created)
    assert created.utcoffset() == timedelta(0)
    assert abs(datetime.now(created.tzinfo) - created) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "done"}, "`status`"),
        ({"failure": "why"}, "`failure`"),
        ({"status": "failed"}, "`failure`"),
        ({"test_bits_per_byte": None}, "`test_bits_per_byte`"),
        ({"test_bits_per_byte": math.nan}, "`test_bits_per_byte`"),
        ({"data": {"name": "stdlib"}}, "sha256, whole"),
        ({"data": DATA | {"whole": 1}}, "whole"),
    ],
)
def test_a_record_must_be_consistent(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"seed": "0"}, {"seed": True}, {"tokens": 1.5}, {"data": []}, {"curve": [1]}, {"arm": None}],
)
def test_a_record_must_have_the_right_types(changes: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        record(**changes)


def test_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / "results" / "runs.jsonl"
    written = [
        record(
            variant={"top_k": 8, "name": "a|b"},
            curve=[{"tokens": 10, "valid_bits_per_byte": 2.5}],
            diagnostics={"locked_fraction": [0.5, None]},
            learning_rate=1e-3,
            commit="0" * 40,
            command="line\nbreak \u2028 and ü",
        ),
        failed(seed=1),
    ]
    for one in written:
        append_record(path, one)
    assert read_records(path) == (written, [])
    assert path.read_bytes().count(b"\n") == 2
    assert path.read_bytes().endswith(b"\n")


def test_a_folder_of_records_is_no_file_of_them(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must be a file .* the folder .*Pass"):
        read_records(tmp_path)


def test_every_field_is_in_the_line(tmp_path: Path) -> None:
    append_record(tmp_path / "runs", record())
    line = json.loads((tmp_path / "runs").read_text())
    assert line.keys() == asdict(record()).keys()
    assert line["test_perplexity"] == 4.0


def test_numbers_of_other_libraries_are_written(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    diagnostics = {
        "a": np.float32(0.5),
        "b": torch.tensor(2),
        "c": np.int64(3),
        "d": (1, Path("x") / "y"),
        "e": math.nan,
        "f": [math.inf, {"g": torch.tensor(math.nan)}],
    }
    append_record(path, record(diagnostics=diagnostics))
    assert read_records(path)[0][0].diagnostics == {
        "a": 0.5,
        "b": 2,
        "c": 3,
        "d": [1, str(Path("x") / "y")],
        "e": None,
        "f": [None, {"g": None}],
    }


def test_what_json_cannot_hold_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="`record` must hold"):
        append_record(tmp_path / "runs", record(diagnostics={"model": object()}))
    assert not (tmp_path / "runs").exists()


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    first, second = record(seed=1), record(seed=2)
    append_record(path, first)
    with path.open("ab") as stream:
        stream.write(b'{"task": "code-ch')
    assert [problem.line for problem in read_records(path)[1]] == [2]
    append_record(path, second)
    records, problems = read_records(path)
    assert records == [first, second]
    assert [problem.line for problem in problems] == [2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nonsense", "not a whole JSON line"),
        (b"[1]", "not a JSON object but list"),
        (b"\xff\xfe", "not a whole JSON line"),
        (b"{}", "task"),
        (b"[" * 100_000, ""),
    ],
)
def test_a_bad_line_is_reported_with_its_number(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "runs"
    append_record(path, record())
    path.write_bytes(b"\n" + line + b"\n" + path.read_bytes())
    records, (problem,) = read_records(path)
    assert records == [record(created=records[0].created)]
    assert problem.line == 2
    assert reason in problem.reason


@pytest.mark.parametrize(
    "changes", [{"seed": "0"}, {"extra": 1}, {"test_perplexity": 1.0}, {"status": "failed"}]
)
def test_a_changed_line_is_reported(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "runs"
    path.write_text(json.dumps(asdict(record()) | changes) + "\n")
    assert read_records(path)[0] == []
    assert read_records(path)[1][0].line == 1


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_records(tmp_path / "runs")


def write_many(path: Path, seed: int) -> None:
    for _ in range(20):
        append_record(path, record(seed=seed, command="x" * 5000))


def test_writers_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(path, seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    records, problems = read_records(path)
    assert problems == []
    assert sorted(one.seed for one in records) == sorted(list(range(3)) * 20)


def test_replace_keeps_the_perplexity_honest() -> None:
    with pytest.raises(ValueError, match="`test_perplexity`"):
        replace(record(), test_bits_per_byte=1.0)
    assert replace(record(), test_bits_per_byte=1.0, test_perplexity=None).test_perplexity == 2.0


def test_of_one_seed_the_last_good_run_counts_else_the_last_failure() -> None:
    one, two = record(tokens=1), record(tokens=2)
    lost, again = failed(steps=1), failed(steps=2)
    other = failed(seed=1)
    for runs, expected in (
        ([one, two], two),
        ([lost, one, again], one),
        ([lost, again], again),
    ):
        assert by_seed([other, *runs]) == {1: other, 0: expected}
