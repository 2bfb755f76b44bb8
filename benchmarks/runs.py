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
_FREE = frozenset({"arms", "seeds", "workers", "threads", "records"})
"""Options that may differ between the records of a file."""


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
    """Returns the record of every arm and seed, those of earlier calls first.

    Raises:
        SystemExit: If the file holds records of other options, which no table may mix with these.
    """
    done = written(options)
    recipe = _recipe(options)
    for record in done:
        _require_same(record, recipe, options.records)
    known = {(r["arm"], r["seed"]) for r in done}
    wanted = [(a, s) for s in range(options.seeds) for a in options.arms if (a, s) not in known]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for job in [pool.submit(train, arm, seed, options) for arm, seed in wanted]:
            record = job.result() | {"options": recipe}
            done.append(record)
            print(json.dumps(record), flush=True)
            if options.records is not None:
                with options.records.open("a") as file:
                    file.write(json.dumps(record) + "\n")
    return done


def _recipe(options: argparse.Namespace) -> Record:
    """Returns what changes a record; folders differ between machines."""
    told = {k: v for k, v in vars(options).items() if k not in _FREE}
    return json.loads(json.dumps(told, default=lambda path: path.name))


def _require_same(record: Record, recipe: Record, path: Path) -> None:
    # Records of before 23 November 2026 tell only some of their options, beside their results.
    told = record.get("options", record)
    shared = [name for name in recipe if name in told or "options" in record]
    other = [name for name in shared if told.get(name) != recipe[name]]
    if other:
        raise SystemExit(
            f"`--records` must hold records of the same options; {path} has "
            + ", ".join(f"{name} = {told.get(name)} in place of {recipe[name]}" for name in other)
            + f" for {record['arm']}. Give another file, or the options that it was made with."
        )


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
