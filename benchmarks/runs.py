"""Runs of arms and seeds in worker processes, each written down as soon as it is finished."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from syncattn.benchmarks.arms import Arm, count_parameters, matched_config
from syncattn.models import SyncAttnConfig

Record = dict[str, Any]


def add_runs(parser: argparse.ArgumentParser, *, seeds: int) -> None:
    """Adds the options of `finish`, but for the arms."""
    parser.add_argument("--seeds", type=int, default=seeds, help="seeds 0 to n - 1")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--records", type=Path, help="JSON lines; what is there is not run again")


def written(options: argparse.Namespace) -> list[Record]:
    """Returns the records of earlier calls."""
    if options.records is None or not options.records.exists():
        return []
    return [json.loads(line) for line in options.records.read_text().splitlines()]


def finish(
    train: Callable[[str, int, argparse.Namespace], Record], options: argparse.Namespace
) -> list[Record]:
    """Returns the record of every arm and seed, those of earlier calls first."""
    done = written(options)
    known = {(r["arm"], r["seed"]) for r in done}
    wanted = [(a, s) for s in range(options.seeds) for a in options.arms if (a, s) not in known]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for job in [pool.submit(train, arm, seed, options) for arm, seed in wanted]:
            record = job.result()
            done.append(record)
            print(json.dumps(record), flush=True)
            if options.records is not None:
                with options.records.open("a") as file:
                    file.write(json.dumps(record) + "\n")
    return done


def as_large_as_softmax(arm: Arm, context: int, **shape: Any) -> SyncAttnConfig:
    """Returns the model of an arm with as many parameters as softmax has with 8/3 of the width."""
    goal = count_parameters(
        SyncAttnConfig(intermediate_size=8 * shape["hidden_size"] // 3, **shape)
    )
    return matched_config(arm, parameters=goal, context_length=context, **shape)


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Takes one step down the gradient, clipped to norm 1."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
