"""Problems and cells of the benchmark small enough for a test."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.cells import Cell, prepared
from syncattn.benchmarks.networks import Network, Shape, build_network
from syncattn.benchmarks.problems import Problem
from syncattn.benchmarks.records import Record
from syncattn.benchmarks.tasks import Recipe, task_named
from syncattn.data.sources import Lookup

LOOKUP = Lookup(samples_only=True)
SHAPE = Shape(16, 2, 2, 40)


def recipe(task: str) -> Recipe:
    return task_named(task).recipes["smoke"]


def problem(task: str) -> Problem:
    return prepared(task, LOOKUP, recipe(task))


def network(arm: str, task: str = "copy", shape: Shape = SHAPE) -> Network:
    known = task_named(task)
    return build_network(
        ARMS[arm], problem(task), shape, is_causal=known.is_causal, positions=known.positions
    )


def cell(**changes: Any) -> Cell:
    task = changes.get("task", "copy")
    values = {
        "task": task,
        "scale": "smoke",
        "arm": "softmax",
        "control": "none",
        "seed": 0,
        "learning_rate": 3e-3,
        "is_trial": False,
        "lookup": LOOKUP,
        "data_sha256": problem(task).identity.sha256,
        "recipe": recipe(task),
    }
    return Cell(**(values | changes))


def record(**changes: Any) -> Record:
    values = {
        "task": "copy",
        "arm": "softmax",
        "mechanism": "softmax",
        "seed": 0,
        "metric": "accuracy",
        "test_score": 0.5,
        "data": {"name": "copying", "sha256": "ab" * 32, "whole": True, "extent": "generated"},
        "versions": {"torch": "2"},
        "commit": None,
        "device": "cpu",
        "command": "syncattn benchmark run",
        "recipe": {"steps": 3, "scale": "smoke"},
    }
    return Record(**(values | changes))


def records_of(folder: Path) -> Path:
    return folder / "records.jsonl"


class Oracle(nn.Module):
    """Answers from a table of targets by input, or the next byte as told by a rule."""

    def __init__(self, answer, classes):
        super().__init__()
        self.answer, self.classes = answer, classes
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        return torch.nn.functional.one_hot(self.answer(batch), self.classes).float() * 50
