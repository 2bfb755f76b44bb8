import dataclasses
import hashlib
import json

import pytest

from syncattn.benchmarks import commands as module
from syncattn.benchmarks.commands import (
    BenchmarkConfig,
    CheckConfig,
    ListConfig,
    RunConfig,
    run_benchmark,
)
from syncattn.benchmarks.kernels import KernelsConfig
from syncattn.benchmarks.records import append_record, read_records
from syncattn.data import corpora
from syncattn.data.download import RemoteFile
from tests.benchmarks.benchmark_small import records_of
from tests.data.serving import serving


def do(action):
    return run_benchmark(BenchmarkConfig(action))


def flat(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_list_names_tasks_arms_and_controls(capsys):
    assert do(ListConfig()) == 0
    text = flat(capsys)
    assert "agreement-v2: does the verb agree?" in text
    assert "oscillator-2" in text and "bypass-mean:" in text


def test_run_writes_records_tables_and_a_picture_and_goes_on(tmp_path, capsys):
    config = RunConfig(
        tasks=("copy",), arms=("softmax", "kuramoto"), controls=("none", "matched"),
        scale="smoke", output=tmp_path, workers=1, steps=2,
    )  # fmt: skip
    assert do(config) == 0
    text = flat(capsys)
    assert "Not applicable: copy: softmax, matched" in text
    assert "2 records" in text and "0 of them of failed runs" in text
    names = {path.name for path in tmp_path.iterdir()}
    assert {"records.jsonl", "table.md", "table.csv", "table.png"} <= names
    before = records_of(tmp_path).read_text()
    assert do(config) == 0
    assert records_of(tmp_path).read_text() == before
    ok, _ = read_records(records_of(tmp_path))
    lost = {"status": "failed", "failure": "no room", "test_score": None}
    append_record(records_of(tmp_path), dataclasses.replace(ok[0], seed=9, **lost))
    assert do(config) == 1 and "1 of them of failed runs" in flat(capsys)
    append_record(records_of(tmp_path), dataclasses.replace(ok[0], seed=9))
    assert do(config) == 0 and "4 records" in flat(capsys)
    assert "steps" in before and '"steps": 2' in before


@pytest.mark.parametrize("fault", ["broken off", "another checksum", "full"])
def test_a_download_that_fails_stops_nothing_and_is_told_at_the_end(
    fault, tmp_path, monkeypatch, capsys
):
    content = b"markup " * 400
    with serving({"enwik8.zip": content}) as (handler, address):
        remote = RemoteFile(
            f"{address}enwik8.zip",
            "0" * 64 if fault == "another checksum" else hashlib.sha256(content).hexdigest(),
            2**62 if fault == "full" else None,
        )
        monkeypatch.setattr(corpora, "ENWIK8", remote)
        handler.breaks_after = 100 if fault == "broken off" else None
        config = RunConfig(
            tasks=("enwik8-char", "copy"), arms=("softmax",), scale="smoke", steps=2, workers=1,
            download=True, cache=tmp_path / "cache", output=tmp_path / "run",
        )  # fmt: skip
        assert do(config) == 1
    assert [r.task for r in read_records(records_of(tmp_path / "run"))[0]] == ["copy"]
    end = flat(capsys).partition("problems:")[2]
    reason = {
        "broken off": "broke off", "another checksum": "must have the sha256 0000",
        "full": "Free some space",
    }[fault]  # fmt: skip
    assert end.lstrip().startswith("enwik8-char: not run:") and reason in end


def test_a_disk_without_room_for_the_tables_is_told_with_the_other_problems(
    tmp_path, monkeypatch, capsys
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_tables", full)
    config = RunConfig(
        tasks=("keywords", "copy"), arms=("softmax",), scale="smoke", steps=2, workers=1,
        data=tmp_path / "gone", output=tmp_path / "run",
    )  # fmt: skip
    assert do(config) == 1
    end = flat(capsys).partition("2 problems:")[2]
    assert "keywords: not run:" in end
    assert "tables could not be written: [Errno 28] No space left" in end
    assert "benchmark table" in end


def test_check_goes_on_without_the_data_of_a_task(tmp_path, capsys):
    config = CheckConfig(("copy", "keywords"), ("softmax",), scale="smoke", data=tmp_path / "gone")
    assert do(config) == 1
    text = flat(capsys)
    assert "keywords: not checked" in text
    assert "ok softmax: a changed future moves the past by" in text
    assert do(dataclasses.replace(config, tasks=("copy",))) == 0
    assert "Nothing is wrong." in flat(capsys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "`tasks` must name one at least"),
        ({"tasks": ("copying",)}, "`tasks` must be one of .*; got 'copying'"),
        ({"tasks": ("copy",), "controls": ("sham",)}, "`controls` must be one of"),
        ({"tasks": ("copy",), "steps": 0}, "`steps` must be at least 1; got 0"),
        ({"preset": "smoke", "steps": -1}, "`steps` must be at least 1; got -1"),
        ({"tasks": ("copy",), "seeds": (-1,)}, "`seeds` must be at least 0"),
        ({"tasks": ("copy",), "device": "tpu"}, "`device` must be one .*; got 'tpu'"),
        ({"tasks": ("copy",), "minutes": float("nan")}, "`minutes` must be finite"),
        ({"tasks": ("copy",), "arms": ("mine",)}, "`arms` must be among"),
        ({"tasks": ("copy",), "workers": 0}, "`workers` must be at least 1"),
        ({"tasks": ("copy",), "plugins": ("gone.py",)}, "`plugins` must name"),
    ],
)
def test_options_that_cannot_be_used_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        do(RunConfig(output=tmp_path, **changes))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"preset": "smoke", "controls": ("frozen",)}, "got frozen"),
        ({"preset": "laptop", "tasks": ("copy", "copyy")}, "got copyy"),
        ({"preset": "laptop", "controls": ("none", "nothing")}, "got nothing"),
        (
            {"preset": "laptop", "tasks": ("code-char", "copy"), "controls": ("frozen",)},
            "code-char",
        ),
    ],
)
def test_what_a_preset_does_not_have_is_refused(tmp_path, changes, lost):
    with pytest.raises(ValueError, match=f"`tasks` and `controls` must be of the preset .*{lost}"):
        do(RunConfig(output=tmp_path, **changes))
    assert not records_of(tmp_path).exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"scale": "tiny"}, "`scale`"),
        ({"arms": ("nosuch",)}, "`arms`"),
        ({"tasks": ("x",)}, "`tasks`"),
    ],
)
def test_check_refuses_names_that_nothing_bears(changes, named):
    with pytest.raises(ValueError, match=f"{named} must be one of"):
        do(CheckConfig(**({"tasks": ("copy",)} | changes)))


def test_brackets_in_names_are_no_markup(tmp_path, capsys):
    output = tmp_path / "[bold]odd[/a]"
    config = RunConfig(
        tasks=("copy",), arms=("softmax",), scale="smoke", output=output, workers=1, steps=1
    )
    assert do(config) == 0
    said = capsys.readouterr().out.replace("\n", "")
    assert "records in" in said and said.count("[bold]odd[/a]") == 2


@pytest.mark.parametrize("refused", [True, False])
def test_kernels_that_measured_nothing_have_failed(tmp_path, monkeypatch, refused):
    path = tmp_path / "kernels.json"
    path.write_text(json.dumps({"rows": [{"refused": "no room"}, {"refused": refused or None}]}))
    monkeypatch.setattr(module, "run_kernels", lambda _: [path])
    assert do(KernelsConfig()) == int(refused)


def test_a_preset_can_be_narrowed():
    config = RunConfig(preset="laptop", tasks=("copy",), arms=("softmax",), controls=("none",),
                       seeds=(3,), steps=7)  # fmt: skip
    (own,) = module._entries(config, "laptop")
    assert (own.arms, own.seeds, own.recipe.steps) == (("softmax",), (3,), 7)
    assert module._workers(RunConfig(device="cuda")) == 1
    assert module._workers(RunConfig(workers=3)) == 3


@pytest.mark.slow
def test_the_smoke_preset_runs_every_task_and_arm(tmp_path):
    assert do(RunConfig(preset="smoke", output=tmp_path, workers=2)) == 0
    assert len(records_of(tmp_path).read_text().splitlines()) == 14 * 7
