"""What the fault tests run in processes of their own.

python -m tests.training.faults kill FOLDER KILLS SEED
python -m tests.training.faults figures FOLDER
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from syncattn.training import train

from . import tiny


def run(folder, name):
    return train(
        tiny.gpt2(), tiny.corpus(folder), tiny.CONFIG, directory=folder / name, progress=False,
        resume=True,
    )  # fmt: skip


def started(folder, name):
    """Starts a training in a process of its own, which writes its figures; returns its number."""
    child = os.fork()
    if child:
        return child
    # Nothing of the parent may run in the child after the training, not even after a failure.
    try:
        (folder / f"{name}.json").write_text(json.dumps(tiny.figures(run(folder, name))))
        os._exit(0)
    except BaseException as error:
        print(f"{name}: {error!r}", file=sys.stderr, flush=True)
    os._exit(1)


def killed(folder, name, seconds):
    """Kills a training after a time; tells whether it was before its end."""
    child = started(folder, name)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def finished(folder, name):
    """Returns the figures of a training that nobody kills."""
    _, status = os.waitpid(started(folder, name), 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return json.loads((folder / f"{name}.json").read_text())


def kill_often(folder, kills, seed):
    """Kills trainings at random moments and compares each, resumed to its end, with a whole one."""
    draw = random.Random(seed)
    # Written once, before anybody may be killed while writing it.
    tiny.corpus(folder)
    began = time.perf_counter()
    whole = finished(folder, "whole")
    duration = time.perf_counter() - began
    done, runs = 0, 0
    while done < kills:
        runs += 1
        name = f"run-{runs}"
        for _ in range(draw.randint(1, 5)):
            done += killed(folder, name, draw.uniform(0.0, duration))
        assert finished(folder, name) == whole, name
    print(json.dumps({"kills": done, "runs": runs, "seconds_of_a_run": round(duration, 3)}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    command, folder, *numbers = sys.argv[1:]
    if command == "kill":
        kill_often(Path(folder), *map(int, numbers))
    else:
        print(json.dumps(tiny.figures(run(Path(folder), "run"))))
