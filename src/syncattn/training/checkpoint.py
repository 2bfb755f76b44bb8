"""Checkpoints: all that a run needs to go on exactly where it was, whole or not there at all."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, load_model, save_file
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from syncattn import _validation as check
from syncattn.data.download import sha256_of
from syncattn.models.quiet import quiet_transformers
from syncattn.training.sharding import copied_state, each_once, restore, whole, whole_state
from syncattn.training.writing import writing

__all__ = [
    "CurvePoint",
    "TrainingState",
    "has_checkpoints",
    "last_checkpoint",
    "load_checkpoint",
    "save_checkpoint",
]

_FOLDER = "checkpoints"
_MANIFEST = "manifest.json"
_OPTIMIZER = "optimizer.safetensors"
_STATE = "state.json"
_MODEL = "model"
_BEST = "best"
_WEIGHTS = "model.safetensors"
_PROCESSES = "num_processes"
FROZEN = "number of frozen parameters"
"""What a run says of them; checkpoints of earlier versions say nothing."""


@dataclass(frozen=True)
class CurvePoint:
    """One point of a training curve.

    Attributes:
        step: Optimiser steps done.
        tokens: Bytes predicted in training so far.
        train_bits_per_byte: Mean over the steps since the last point.
        valid_bits_per_byte: On the head of the validation split, after this step.
        learning_rate: Of this step.
        gradient_norm: Of this step, before clipping.
        seconds: Spent in training steps so far, without evaluation and checkpoints.
    """

    step: int
    tokens: int
    train_bits_per_byte: float
    valid_bits_per_byte: float
    learning_rate: float
    gradient_norm: float
    seconds: float


@dataclass
class TrainingState:
    """What a run knows besides weights and optimiser.

    Batches and dropout are functions of the seed and the step, so no generator is among it.

    Attributes:
        step: Optimiser steps done.
        curve: Points so far.
        nats: Sum of the training losses since the last point.
        nats_steps: Steps in that sum.
        seconds: Spent in training steps.
        peak_memory_bytes: Largest figure so far.
        best: A copy of the weights of the best point, where they are kept.
    """

    step: int = 0
    curve: list[CurvePoint] = field(default_factory=list[CurvePoint])
    nats: float = 0.0
    nats_steps: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    best: dict[str, torch.Tensor] | None = field(default=None, repr=False, compare=False)

    @property
    def best_point(self) -> CurvePoint:
        """The point with the lowest validation figure, the first of equals; there must be one."""
        return min(self.curve, key=lambda point: point.valid_bits_per_byte)

    def as_dict(self) -> dict[str, Any]:
        """Returns everything but weights as plain values that JSON can hold."""
        return {k: v for k, v in asdict(replace(self, best=None)).items() if k != "best"}

    def advance(self, nats: float, seconds: float) -> None:
        """Counts a step.

        Args:
            nats: Its training loss.
            seconds: The time it took.
        """
        self.step += 1
        self.nats += nats
        self.nats_steps += 1
        self.seconds += seconds

    def add(self, point: CurvePoint) -> None:
        """Adds a point to the curve, from which the mean training loss starts anew.

        Args:
            point: The point.
        """
        self.curve.append(point)
        self.nats = 0.0
        self.nats_steps = 0


def save_checkpoint(
    directory: Path,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    *,
    run: dict[str, Any],
    keep: int = 2,
    write: bool = True,
) -> Path:
    """Writes a checkpoint that appears whole or not at all, and drops all but the newest.

    Of the earlier ones whole ones alone count as newest; torn ones are dropped, as the new one
    takes their place.

    Weights that processes share are made whole first, so that one process can load them; all of
    them must call, and one of them writes.

    Args:
        directory: Folder of the run; checkpoints go to `checkpoints/step-00000000` below it.
        model: Model; `model/` of the checkpoint can be given to `from_pretrained`, and so can
            `best/`, which is there when the state has the weights of the best point.
        optimizer: Optimizer whose state holds tensors and numbers only.
        state: The rest.
        run: What must be the same when the run goes on; plain values.
        keep: Whole checkpoints to keep, the new one included, which is kept whatever its step.
        write: False only takes part in making things whole.

    Returns:
        Folder of the checkpoint.

    Raises:
        OSError: If the disk is full or refuses; what was written so far is removed.
    """
    folder = directory / _FOLDER
    final = folder / f"step-{state.step:08d}"
    weights, moments = {_MODEL: whole_state(model)}, _optimizer_tensors(optimizer)
    if state.best is not None:
        weights[_BEST] = each_once(state.best, whole)
    if not write:
        return final
    temporary = folder / f".partial-{final.name}"
    try:
        with writing(directory):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            # One shard, whatever the size, so that one file can be read back into the model.
            with quiet_transformers():
                for name, tensors in weights.items():
                    model.save_pretrained(
                        temporary / name, state_dict=tensors, max_shard_size="1000TB"
                    )
            save_file(moments, temporary / _OPTIMIZER)
            _write_json(temporary / _STATE, {"state": state.as_dict(), "run": run})
            _write_json(temporary / _MANIFEST, _checksums(temporary))
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
    finally:
        # On a full disk the half of a checkpoint would keep the next one from fitting.
        shutil.rmtree(temporary, ignore_errors=True)
    _drop_others(directory, final, keep)
    return final


def has_checkpoints(directory: Path) -> bool:
    """Tells whether a folder has checkpoints, whole or torn.

    Args:
        directory: Folder of the run.
    """
    return bool(_checkpoints(directory))


def last_checkpoint(directory: Path) -> Path | None:
    """Returns the newest whole checkpoint of a run, or None; warns about torn ones.

    Args:
        directory: Folder of the run.

    Raises:
        TypeError: If it is not a path.
    """
    check.require_instance(directory, "directory", Path, "Wrap it in pathlib.Path.")
    for checkpoint in _checkpoints(directory):
        if _is_whole(checkpoint):
            return checkpoint
        warnings.warn(
            f"The checkpoint {checkpoint.name!r} in {str(directory)!r} is torn: its files differ "
            "from its manifest. An older one, or the start, takes its place.",
            stacklevel=2,
        )
    return None


def load_checkpoint(
    checkpoint: Path,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    *,
    run: dict[str, Any],
) -> TrainingState:
    """Puts a checkpoint back into a model and its optimizer.

    Args:
        checkpoint: Folder of a whole checkpoint.
        model: Model of the same architecture; its weights are replaced.
        optimizer: Optimizer over the same parameters; its state is replaced.
        run: Must equal what the checkpoint was saved with.

    Returns:
        The rest of the state, with the weights of the best point if the checkpoint has them.

    Raises:
        ValueError: If the run differs in any value.
    """
    saved = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    _require_same(saved["run"], json.loads(json.dumps(run)), checkpoint)
    best = None
    if (checkpoint / _BEST).exists():
        # Through the model, which knows what is tied and what is shared.
        _load_weights(model, checkpoint / _BEST / _WEIGHTS)
        best = copied_state(model)
    _load_weights(model, checkpoint / _MODEL / _WEIGHTS)
    content = optimizer.state_dict()
    content["state"] = _optimizer_state(load_file(checkpoint / _OPTIMIZER), optimizer)
    optimizer.load_state_dict(content)
    state = saved["state"]
    curve = [CurvePoint(**point) for point in state["curve"]]
    return TrainingState(**state | {"curve": curve, "best": best})


def _checkpoints(directory: Path) -> list[Path]:
    """Returns the checkpoints of a run, newest first."""
    return sorted((directory / _FOLDER).glob("step-*"), reverse=True)


def _drop_others(directory: Path, new: Path, keep: int) -> None:
    """Removes all checkpoints but the new one and the newest whole ones beside it."""
    kept = 1
    for other in _checkpoints(directory):
        if other == new or not other.is_dir():
            continue
        if kept < keep and _is_whole(other):
            kept += 1
        else:
            shutil.rmtree(other)


def _load_weights(model: PreTrainedModel, path: Path) -> None:
    parameters = model.state_dict(keep_vars=True)
    if not any(isinstance(x, DTensor) for x in parameters.values()):
        load_model(model, path)
        return
    tensors = load_file(path)
    # Of tied weights one name is saved.
    saved = {id(parameters[name]): tensor for name, tensor in tensors.items()}
    for parameter in {id(x): x for x in parameters.values()}.values():
        restore(parameter, saved[id(parameter)])


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = cast("dict[int, dict[str, Any]]", optimizer.state_dict()["state"])
    return {
        f"{index}.{key}": whole(torch.as_tensor(value)).contiguous()
        for index, values in state.items()
        for key, value in values.items()
    }


def _optimizer_state(
    tensors: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> dict[int, dict[str, torch.Tensor]]:
    parameters = [x for group in optimizer.param_groups for x in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        if int(index) >= len(parameters):
            raise ValueError(
                f"`model` must train the same parameters when a run goes on; got "
                f"{len(parameters)}, and the checkpoint has more. Freeze none besides those."
            )
        parameter = parameters[int(index)]
        if isinstance(parameter, DTensor) and tensor.shape == parameter.shape and tensor.dim():
            shards = torch.empty_like(parameter)
            restore(shards, tensor)
            tensor = shards
        state.setdefault(int(index), {})[key] = tensor
    return state


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")


def _checksums(checkpoint: Path) -> dict[str, str]:
    """Returns the sha256 of every file of a checkpoint but its manifest."""
    sums: dict[str, str] = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != _MANIFEST:
            sums[path.relative_to(checkpoint).as_posix()] = sha256_of(path)
    return sums


def _is_whole(checkpoint: Path) -> bool:
    try:
        manifest = json.loads((checkpoint / _MANIFEST).read_text(encoding="utf-8"))
        return manifest == _checksums(checkpoint)
    except (OSError, ValueError):
        return False


def _require_same(saved: dict[str, Any], given: dict[str, Any], checkpoint: Path) -> None:
    for name in sorted(saved.keys() | given.keys()):
        before, now = saved.get(name), given.get(name)
        if name == _PROCESSES:
            if before != now:
                warnings.warn(
                    f"The run goes on in {now} processes after {before}: the same bytes and the "
                    "same losses up to rounding, but another draw of the dropout, if any.",
                    stacklevel=3,
                )
        elif before != now and not (name == FROZEN and before is None):
            raise ValueError(
                f"`{name}` must be the same when a run goes on; got {now!r}, but {checkpoint.name} "
                f"of this run was made with {before!r}. Give the same value, or start in another "
                "directory."
            )
