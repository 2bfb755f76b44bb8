import os
import time
from pathlib import Path

import pytest

from syncattn.benchmarks import executors
from syncattn.benchmarks.executors import (
    ATTEMPTS,
    Outcome,
    in_process,
    in_workers,
    on_ray,
    usable_cores,
)


def double(cell):
    if cell == "wrong":
        raise ValueError("wrong cell")
    return 2 * cell


def deadly(cell):
    """Counts how often it is begun; dies the first times that it is told to."""
    folder, name, deaths = cell
    begun = len(list(Path(folder).glob(f"{name}-*")))
    (Path(folder) / f"{name}-{begun}").touch()
    if begun < deaths:
        time.sleep(0.2)
        os._exit(1)
    return name


def found(outcomes):
    return {str(o.cell): o.result if o.error is None else str(o.error) for o in outcomes}


def begun(folder, name):
    return len(list(folder.glob(f"{name}-*")))


def test_in_process_goes_on_after_an_error():
    assert found(in_process(double, [1, "wrong", 3], None)) == {
        "1": 2, "wrong": "wrong cell", "3": 6
    }  # fmt: skip


def test_nothing_is_begun_after_the_deadline():
    assert found(in_process(double, [1, 2], time.monotonic() - 1)) == {}
    assert found(in_workers(double, [1, 2], time.monotonic() - 1, workers=1)) == {}


@pytest.mark.slow
def test_workers_survive_errors_and_deaths(tmp_path):
    cells = [(str(tmp_path), "good", 0), (str(tmp_path), "once", 1), (str(tmp_path), "never", 9)]
    outcomes = list(in_workers(deadly, cells, None, workers=2))
    results = {o.cell[1]: o for o in outcomes}
    assert len(outcomes) == 3
    assert results["good"].result == "good"
    assert results["once"].result == "once" and begun(tmp_path, "once") == 2
    assert "it died 2 times" in str(results["never"].error)
    assert begun(tmp_path, "never") == ATTEMPTS
    assert found(in_workers(double, [1, "wrong"], None, workers=2))["wrong"] == "wrong cell"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_local_ray_begins_the_runs_of_a_killed_worker_again(tmp_path):
    pytest.importorskip("ray")
    cells = [(str(tmp_path), "good", 0), (str(tmp_path), "once", 1), (str(tmp_path), "never", 9)]
    outcomes = list(on_ray(deadly, cells, None, address="local", workers=2))
    results = {o.cell[1]: o for o in outcomes}
    assert len(outcomes) == 3
    assert results["good"].result == "good"
    assert results["once"].result == "once" and begun(tmp_path, "once") == 2
    assert "it died 2 times" in str(results["never"].error)
    failing = found(on_ray(double, [1, "wrong", 3], None, address="local", workers=2))
    assert failing == {"1": 2, "wrong": "ValueError: wrong cell", "3": 6}


def test_suspects_are_not_begun_after_the_deadline(monkeypatch):
    def dies(run, waiting, suspects, deadline, workers):
        suspects.append(waiting.popleft())
        time.sleep(0.02)
        return iter(())

    monkeypatch.setattr(executors, "_together", dies)
    monkeypatch.setattr(executors, "_alone", lambda run, cell: Outcome(cell, "begun", None))
    assert list(in_workers(double, [1], time.monotonic() + 0.01, workers=1)) == []
    assert len(list(in_workers(double, [1], None, workers=1))) == 1


def test_workers_share_the_cores_that_may_be_used(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 6}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1
