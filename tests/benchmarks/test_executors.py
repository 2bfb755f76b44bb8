import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
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


def endless(cell):
    """Tells its process by a file; ends for a cell that says so, else works for minutes."""
    folder, name = cell
    (Path(folder) / f"{os.getpid()}.pid").touch()
    if name != "short":
        time.sleep(300)
    return name


STOPPED = """
import signal, sys, time
from contextlib import closing
from syncattn.benchmarks.executors import in_workers
from tests.benchmarks.test_executors import endless

def end(*_):
    raise SystemExit(143)

signal.signal(signal.SIGTERM, end)
if __name__ == "__main__":
    # As a terminal does; a shell in the background ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cells = [(sys.argv[1], name) for name in ("long", "short", "longer")]
    with closing(in_workers(endless, cells, None, workers=2)) as outcomes:
        for outcome in outcomes:
            print(outcome.result, flush=True)
"""


def pids(folder):
    return {int(path.stem) for path in folder.glob("*.pid")}


def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def stopped(tmp_path):
    """Begins two workers and returns what stops their parent: its exit code, output and errors."""
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED)
    words = [sys.executable, str(script), str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    root = str(Path(__file__).parents[2])
    env = os.environ | {"PYTHONPATH": root}
    with subprocess.Popen(words, env=env, start_new_session=True, **pipes) as parent:

        def stop(name, *, group=False):
            (os.killpg if group else os.kill)(parent.pid, name)
            said, errors = parent.communicate(timeout=60)
            return parent.returncode, said, errors

        stop.pid = parent.pid
        yield stop
        for pid in pids(tmp_path):
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
        parent.kill()


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


on_linux = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", -2), ("SIGKILL", -9)])
def test_workers_end_with_what_began_them(tmp_path, stopped, name, code):
    # The short cell is done and the one after it begun.
    until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    time.sleep(0.5)
    ended, said, errors = stopped(signal.Signals[name])
    assert (ended, said) == (code, "short\n")
    assert "SpawnProcess" not in errors
    until(lambda: not any(map(lives, pids(tmp_path))), 5)


@on_linux
@pytest.mark.slow
def test_ctrl_c_while_workers_start_is_heard_by_their_parent_alone(stopped):
    children = Path(f"/proc/{stopped.pid}/task/{stopped.pid}/children")
    # The tracker of resources, and two workers that import PyTorch.
    until(lambda: len(children.read_text().split()) == 3)
    begun = [int(pid) for pid in children.read_text().split()]
    time.sleep(0.5)
    _, said, errors = stopped(signal.SIGINT, group=True)
    assert not said and errors.count("Traceback") == 1
    until(lambda: not any(map(lives, begun)), 5)


@on_linux
@pytest.mark.slow
def test_who_loses_interest_ends_the_workers(tmp_path):
    cells = [(str(tmp_path), name) for name in ("long", "short")]
    with closing(in_workers(endless, cells, None, workers=2)) as outcomes:
        assert next(outcomes).result == "short"
    assert not any(map(lives, pids(tmp_path)))


def test_what_is_finished_when_it_is_stopped_is_kept(monkeypatch):
    class Pool(ProcessPoolExecutor):
        def submit(self, run, cell):
            future = Future()
            try:
                future.set_result(run(cell))
            except ValueError as error:
                future.set_exception(error)
            return future

    def stopped(running, **_):
        raise SystemExit(143)

    monkeypatch.setattr(executors, "worker_pool", Pool)
    monkeypatch.setattr(executors, "wait", stopped)
    kept = []
    with pytest.raises(SystemExit):
        for outcome in in_workers(double, [1, "wrong"], None, workers=2):
            kept.append(outcome)
    assert found(kept) == {"1": 2, "wrong": "wrong cell"}


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
