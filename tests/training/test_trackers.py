"""A curve goes to the tracker that was asked for, and to none that is missing."""

import json
import sys
from dataclasses import asdict, replace
from types import ModuleType, SimpleNamespace

import pytest

from syncattn.training import CurvePoint, train
from syncattn.training.trackers import Tracker, require_tracker, start_tracker

from . import tiny

POINT = CurvePoint(10, 100, 2.5, 2.75, 1e-3, 0.5, 1.5)


def test_nobody_is_told_by_default(tmp_path):
    with start_tracker("none", tmp_path, "x", {}) as tracker:
        tracker.add(POINT)
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_hears_every_point_and_the_end():
    heard = []
    double = SimpleNamespace(
        log=lambda values, step: heard.append((step, values)), finish=lambda: heard.append("end")
    )
    with pytest.raises(KeyError), Tracker(double) as tracker:
        tracker.add(POINT)
        raise KeyError
    values = asdict(POINT)
    del values["step"]
    assert heard == [(10, values), "end"]


@pytest.mark.parametrize("name", ["tensorboard", "trackio"])
def test_what_is_not_installed_is_refused_before_the_first_step(tmp_path, monkeypatch, name):
    monkeypatch.setattr("syncattn.training.trackers.find_spec", lambda _: None)
    config = replace(tiny.CONFIG, tracker=name)
    message = f"`tracker` '{name}' must be installed; it is not. Run `pip install {name}`"
    with pytest.raises(ImportError, match=message):
        train(tiny.gpt2(), tiny.corpus(tmp_path), config, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    require_tracker("none")


def test_trackio_hears_the_curve_of_a_run(tmp_path, monkeypatch):
    """A double of the package, with the calls that Accelerate's tracker makes."""
    heard = []
    trackio = ModuleType("trackio")
    run = SimpleNamespace(
        # Older releases of Accelerate keep the step to themselves.
        log=lambda values, step=None: heard.append(values["valid_bits_per_byte"]),
        finish=lambda: heard.append("end"),
    )
    trackio.config = SimpleNamespace(update=lambda values, **_: heard.append(values["steps"]))
    trackio.init = lambda project, name: heard.append((project, name)) or run
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    monkeypatch.setattr("syncattn.training.trackers.find_spec", lambda _: object())
    config = replace(tiny.CONFIG, tracker="trackio")
    result = train(tiny.gpt2(), tiny.corpus(tmp_path), config, directory=tmp_path / "run",
                   label="gpt2", progress=False)  # fmt: skip
    points = [point.valid_bits_per_byte for point in result.curve]
    assert heard == [("syncattn", "gpt2"), 12, *points, "end"]


@pytest.mark.slow
def test_tensorboard_files_hold_the_curve(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = replace(tiny.CONFIG, tracker="tensorboard")
    result = train(tiny.gpt2(), tiny.corpus(tmp_path), config, directory=tmp_path / "run",
                   label="gpt2", progress=False)  # fmt: skip
    events = EventAccumulator(str(tmp_path / "run" / "gpt2"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("valid_bits_per_byte")]
    expected = [(point.step, pytest.approx(point.valid_bits_per_byte)) for point in result.curve]
    assert found == expected
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4, 8, 12]
