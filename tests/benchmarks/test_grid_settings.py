import dataclasses
import math

import pytest
import torch

from syncattn.benchmarks.grid_settings import Entry, Settings
from tests.benchmarks.benchmark_small import LOOKUP, recipe


def settings(folder, **changes):
    return Settings(folder, LOOKUP, "smoke", **changes)


@pytest.mark.parametrize("minutes", [math.nan, math.inf, -math.inf, -1.0, 0.0])
def test_a_budget_is_a_time(tmp_path, minutes):
    with pytest.raises(ValueError, match="`minutes` must be finite and strictly between 0 and inf"):
        settings(tmp_path, minutes=minutes)


def test_one_worker_at_least_works(tmp_path):
    with pytest.raises(ValueError, match="`workers` must be at least 1"):
        settings(tmp_path, workers=0)


@pytest.mark.parametrize("device", ["tpu", "", "meta", "cuda", "cuda:1", "mps", "cpu:x"])
def test_a_device_that_is_not_here_is_refused(tmp_path, device, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    with pytest.raises(ValueError, match=f"`device` must be one .* here, .*; got '{device}'"):
        settings(tmp_path, device=device)


def test_a_device_is_known_by_kind_and_number(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    for device in ("cpu", "cuda", "cuda:0"):
        assert settings(tmp_path, device=device).device == device
    for device in ("cuda:1", "mps"):
        with pytest.raises(ValueError, match="`device` must be one"):
            settings(tmp_path, device=device)


def test_a_cluster_may_have_other_devices_but_none_that_nobody_knows(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    assert settings(tmp_path, device="cuda", ray="auto").device == "cuda"
    with pytest.raises(ValueError, match="`device` must be one"):
        settings(tmp_path, device="tpu", ray="auto")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"steps": 0}, "`steps` must be at least 1; got 0"),
        ({"steps": -3}, "`steps` must be at least 1; got -3"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"rates": (1e-3, -1.0)}, "`learning_rate`"),
        ({"rates": (1e-3, 1e-2), "tuning_steps": 0}, "`steps`"),
    ],
)
def test_a_recipe_that_no_run_could_follow_is_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        Entry("copy", ("softmax",), ("none",), (0,), dataclasses.replace(recipe("copy"), **changes))


def test_a_seed_below_zero_is_refused():
    with pytest.raises(ValueError, match="`seeds` must be at least 0; got -1"):
        Entry("copy", ("softmax",), ("none",), (0, -1), recipe("copy"))
