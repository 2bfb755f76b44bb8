import json

import matplotlib.image
import pytest
import torch

from syncattn.benchmarks.kernels import KernelsConfig, run_kernels
from syncattn.benchmarks.kernels_clock import Machine

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
    assert [(row["operator"], row["backend"], row["length"]) for row in ran] == [
        ("softmax", "sdpa", 32), ("selective", "blockwise", 32),
        ("selective", "blockwise, compiled", 32),
        ("softmax", "sdpa", 48), ("selective", "blockwise", 48),
        ("selective", "blockwise, compiled", 48),
    ]  # fmt: skip
    for row in ran:
        assert 0 < row["forward_seconds"] < row["both_seconds"] * 100
        assert row["equal_width"] == 8
        assert row["equal_forward_seconds"] > 0
        # Two products of 8 per visible pair, two operations each.
        pairs = row["length"] * (row["length"] + 1) / 2
        assert row["compute_floor_seconds"] == pytest.approx(2 * 16 * pairs / 1e11)
    assert {row["backend"] for row in record["rows"] if row["refused"]} == {
        "flex", "flash", "triton", "triton-kernel",
    }  # fmt: skip
    assert set(record["exponents"]) == {
        "softmax/sdpa", "selective/blockwise", "selective/blockwise, compiled",
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
        ("softmax", "sdpa"), ("selective", "blockwise"), ("selective-sparse", "pruned"),
        ("oscillator", "blockwise"), ("kuramoto", "sdpa"), ("frustrated", "sdpa"),
    }  # fmt: skip


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
