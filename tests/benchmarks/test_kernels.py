import json

import matplotlib.image
import pytest
import torch

from syncattn.benchmarks import kernels
from syncattn.benchmarks.kernels import KernelsConfig, run_kernels
from syncattn.benchmarks.kernels_clock import Machine
from syncattn.benchmarks.kernels_report import Row

MODULE = "syncattn.benchmarks.kernels"


@pytest.fixture(autouse=True)
def known_machine(monkeypatch):
    monkeypatch.setattr(f"{MODULE}.measure_machine", lambda *_: Machine(1e10, 1e11, "float32"))


def config(folder, **more):
    small = {"lengths": (48, 32), "heads": 1, "head_dim": 8, "repeats": 1, "device": "cpu"}
    return KernelsConfig(**(small | more), output=folder)


def test_a_record_a_table_and_a_figure(compiled, tmp_path):
    paths = run_kernels(config(tmp_path / "new", operators=("softmax", "selective")))
    assert [path.name for path in paths] == [
        "kernels.json", "kernels.md", "kernels.png", "kernels.svg",
    ]  # fmt: skip
    record = json.loads(paths[0].read_text(encoding="utf-8"))
    ran = [row for row in record["rows"] if row["refused"] is None]
    backends = ("blockwise", "reference", "blockwise, compiled")
    assert [(row["operator"], row["backend"], row["length"]) for row in ran] == [
        pair
        for n in (32, 48)
        for pair in [("softmax", "sdpa", n), *(("selective", b, n) for b in backends)]
    ]
    for row in ran:
        assert 0 < row["forward_seconds"] < row["both_seconds"] * 100
        assert row["equal_width"] == 8
        assert row["equal_forward_seconds"] > 0
        # Two products of 8 per visible pair, two operations each.
        pairs = row["length"] * (row["length"] + 1) / 2
        assert row["compute_floor_seconds"] == pytest.approx(2 * 16 * pairs / 1e11)
        assert row["matrix_share"] == row["compute_floor_seconds"] / row["forward_seconds"]
        assert row["copy_share"] == row["memory_floor_seconds"] / row["forward_seconds"]
        higher = max(row["matrix_share"], row["copy_share"])
        assert row["over_floor"] == pytest.approx(1 / higher)
    assert {row["backend"] for row in record["rows"] if row["refused"]} == {
        "flex", "flash", "triton", "triton-kernel",
    }  # fmt: skip
    assert set(record["exponents"]) == {
        "softmax/sdpa", "selective/blockwise", "selective/blockwise, compiled",
        "selective/reference",
    }  # fmt: skip
    assert record["machine"]["copy_bandwidth"] == 1e10
    assert {"versions", "device", "commit", "command", "wall_seconds"} <= set(record)
    assert "| selective | blockwise | 48 |" in paths[1].read_text(encoding="utf-8")
    assert matplotlib.image.imread(paths[2])[..., :3].std() > 0.02


def test_every_operator_runs_and_bounds_its_work(tmp_path):
    paths = run_kernels(config(tmp_path, lengths=(24,)))
    rows = json.loads(paths[0].read_text(encoding="utf-8"))["rows"]
    ran = {
        (row["operator"], row["backend"].removesuffix(", compiled"))
        for row in rows
        if row["refused"] is None
    }
    assert ran == {
        ("softmax", "sdpa"), ("selective", "blockwise"), ("selective", "reference"),
        ("selective-sparse", "pruned"), ("selective-window", "window"),
        ("selective-window", "band"), ("selective-repeats", "repeats"),
        ("oscillator", "blockwise"), ("oscillator", "reference"), ("kuramoto", "sdpa"),
        ("kuramoto", "reference"), ("frustrated", "sdpa"), ("frustrated", "dense"),
        ("frustrated", "reference"),
    }  # fmt: skip


def test_what_is_measured_is_kept_if_the_next_thing_ends_the_run(monkeypatch, tmp_path):
    measured = kernels._measured

    def failing(name, *rest):
        if name == "kuramoto":
            raise KeyboardInterrupt
        return measured(name, *rest)

    monkeypatch.setattr(kernels, "_measured", failing)
    with pytest.raises(KeyboardInterrupt):
        run_kernels(config(tmp_path, operators=("softmax", "kuramoto"), lengths=(16,)))
    rows = json.loads((tmp_path / "kernels.json").read_text(encoding="utf-8"))["rows"]
    assert "sdpa" in {row["backend"] for row in rows if row["refused"] is None}


def test_what_every_length_pays_once_is_not_taken_to_grow(monkeypatch, tmp_path):
    # A compiler of 3 s before calls of a millisecond: the next length takes about as long again.
    clock = iter(range(0, 1000, 3))
    row = Row("softmax", "sdpa", 64, 8, forward_seconds=1e-3, both_seconds=1e-3)
    monkeypatch.setattr(kernels, "_measured", lambda name, size, *_: [row])
    monkeypatch.setattr(kernels.time, "perf_counter", lambda: float(next(clock)))
    ten = config(tmp_path, operators=("softmax",), lengths=(64, 128, 1024), seconds=60.0)
    rows = json.loads(run_kernels(ten)[0].read_text(encoding="utf-8"))["rows"]
    assert [row["refused"] for row in rows] == [None] * 3


def test_what_does_not_fit_the_time_is_listed(tmp_path):
    paths = run_kernels(config(tmp_path, operators=("softmax",), lengths=(16, 2**20), seconds=5.0))
    rows = json.loads(paths[0].read_text(encoding="utf-8"))["rows"]
    late = [row for row in rows if row["length"] == 2**20]
    assert len(late) == 1
    assert "s were left, and 16 tokens took" in late[0]["refused"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("operators", ("sdpa",), "`operators` must be"),
        ("head_dim", 7, "`head_dim` must be even"),
        ("lengths", (0,), "`lengths` must be"),
        ("repeats", 0, "`repeats` must be"),
        ("live", 0.0, "`live` must be a share above 0"),
    ],
)
def test_fields_that_do_not_fit_are_refused(tmp_path, field, value, message):
    with pytest.raises(ValueError, match=message):
        run_kernels(config(tmp_path / "none", **{field: value}))
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got 'cuda' and no CUDA device"):
        run_kernels(config(tmp_path, device="cuda"))
