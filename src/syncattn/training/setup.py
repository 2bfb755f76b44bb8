"""What is settled before the first step: device, optimizer, and whether everything fits."""

from __future__ import annotations

import atexit
import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from torch import distributed, nn
from transformers import PreTrainedModel

from syncattn import _validation as check
from syncattn.data import Corpus
from syncattn.nn.decay import undecayed
from syncattn.training.checkpoint import FROZEN
from syncattn.training.config import TrainingConfig
from syncattn.training.sharding import shard, sharding_wanted
from syncattn.training.trackers import require_tracker

__all__ = ["Run", "leave_group", "parameter_groups", "prepare"]

# What may change when a run goes on, because no weight depends on it.
_FREE_SETTINGS = (
    "evaluation_interval", "evaluation_tokens", "test_tokens", "checkpoint_interval", "patience",
    "final_weights", "tracker", "sharding", "accumulation_steps",
)  # fmt: skip
# Settings that came later: a checkpoint without them was made with these.
_LATER = {"schedule": "cosine"}
# What Transformers writes into a configuration by itself when it saves or loads.
_VOLATILE = ("architectures", "dtype", "transformers_version", "_name_or_path")


@dataclass(frozen=True)
class Run:
    """What stays the same while a model trains.

    Attributes:
        model: The caller's model, on the device.
        corpus: Its data.
        config: Its settings.
        directory: Folder of the run.
        label: Name shown.
        accelerator: Device and processes.
        prepared: The model as Accelerate wraps it; the one to train.
        optimizer: AdamW.
        parameters: What is trained.
        identity: What must be the same when the run goes on; plain values.
        is_sharded: Whether processes share the weights.
    """

    model: PreTrainedModel
    corpus: Corpus
    config: TrainingConfig
    directory: Path
    label: str
    accelerator: Accelerator
    prepared: nn.Module
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    identity: dict[str, Any]
    is_sharded: bool = False


def prepare(
    model: PreTrainedModel,
    corpus: Corpus,
    config: TrainingConfig,
    directory: Path | str,
    label: str,
) -> Run:
    """Checks that everything fits, and puts model and optimizer on the device.

    Args:
        model: A causal language model of Transformers.
        corpus: Bytes.
        config: Settings.
        directory: Folder of the run.
        label: Name shown.

    Returns:
        The run, ready to start.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If model, corpus, settings and number of processes do not fit each other, or a
            weight is float16 or not finite.
    """
    _require_kinds(model, corpus, config, directory)
    _require_fit(model, corpus, config)
    _require_weights(model)
    require_tracker(config.tracker)
    # Should this training fail, others may wait in a collective: leaving would wait for them.
    atexit.unregister(leave_group)
    # Precision is left to autocast: Accelerate's is one for the whole process, and for ever.
    # Parts are counted here: what a launcher says of them would divide each loss once more.
    accelerator = Accelerator(
        mixed_precision="no", gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1)
    )
    processes = accelerator.num_processes
    parts = processes * config.accumulation_steps
    if config.batch_size % parts:
        raise ValueError(
            "`batch_size` must be a multiple of the number of processes times "
            f"`accumulation_steps`; got {config.batch_size} and {processes} * "
            f"{config.accumulation_steps}. Choose another batch size."
        )
    # Before sharding, which gives the model another class.
    identity = _identity(model, corpus, config) | {"num_processes": processes}
    model.to(accelerator.device)
    model.train()
    sharded = processes > 1 and sharding_wanted(config)
    if sharded:
        shard(model, accelerator.device)
    groups = parameter_groups(model, config.weight_decay)
    optimizer = torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2)
    )
    prepared = model if sharded else accelerator.prepare(model)
    return Run(
        model=model,
        corpus=corpus,
        config=config,
        directory=Path(directory),
        label=label,
        accelerator=accelerator,
        prepared=prepared,
        optimizer=optimizer,
        parameters=[parameter for group in groups for parameter in group["params"]],
        identity=identity,
        is_sharded=sharded,
    )


def leave_group() -> None:
    """Leaves the process group, if there is one.

    A training that ended well has this done at exit: the threads of a group that outlives the
    interpreter abort the process.
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Returns the trainable parameters in two groups for AdamW: decayed and not.

    Parameters of fewer than two dimensions are not decayed, nor is a parameter that carries
    `_no_weight_decay = True`, nor those of a module that carries it, all or by name: phases,
    anchors and couplings have no meaningful zero to shrink to.

    Args:
        model: Model.
        weight_decay: Of the first group; the second has none.

    Returns:
        The groups that are not empty, each with `params` and `weight_decay`.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If no parameter is trainable, or the decay is negative.
    """
    check.require_instance(model, "model", nn.Module, "Pass a network.")
    check.require_number(weight_decay, "weight_decay", minimum=0.0)
    kept = undecayed(model)
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            left = id(parameter) in kept or parameter.ndim < 2
            (others if left else decayed).append(parameter)
    if not decayed and not others:
        raise ValueError(
            "`model` must have a trainable parameter; got none. Set `requires_grad` on some."
        )
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _require_kinds(model: Any, corpus: Any, config: Any, directory: Any) -> None:
    check.require_instance(model, "model", PreTrainedModel, "Pass a model of Transformers.")
    check.require_instance(corpus, "corpus", Corpus, "Call `load_corpus`.")
    check.require_instance(config, "config", TrainingConfig, "Pass TrainingConfig().")
    check.require_path(directory, "directory")


def _require_weights(model: PreTrainedModel) -> None:
    for name, weight in model.named_parameters():
        if weight.dtype == torch.float16 and weight.requires_grad:
            raise ValueError(
                f"`model` must have weights of more than float16, whose steps are lost; got "
                f"{name!r}. Call `model.float()`, and set `mixed_precision` to 'bf16' for speed."
            )
        check.require_values(weight, f"model.{name}")
        if not bool(weight.isfinite().all()):
            raise ValueError(
                f"`model` must have finite weights; got NaN or infinity in {name!r}. Load or draw "
                f"them again."
            )


def _require_fit(model: PreTrainedModel, corpus: Corpus, config: TrainingConfig) -> None:
    for name in ("train", "valid", "test"):
        size = getattr(corpus, name).shape[0]
        if size <= config.context_length:
            raise ValueError(
                "Every split of `corpus` must have at least `context_length` + 1 = "
                f"{config.context_length + 1} bytes; got {size} for {name}. Give a longer text or "
                "lower `context_length`."
            )
    vocabulary = getattr(model.config, "vocab_size", None)
    if vocabulary is not None and vocabulary < 256:
        raise ValueError(
            "`model` must have a vocabulary of at least 256, one token per byte; got "
            f"{vocabulary}. Set `vocab_size` to 256."
        )
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and longest < config.context_length:
        raise ValueError(
            "`context_length` must be at most the model's `max_position_embeddings`; got "
            f"{config.context_length} and {longest}. Lower the one or raise the other."
        )


def _identity(model: PreTrainedModel, corpus: Corpus, config: TrainingConfig) -> dict[str, Any]:
    settings = {
        k: v
        for k, v in config.as_dict().items()
        if k not in _FREE_SETTINGS and _LATER.get(k, ...) != v
    }
    architecture: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    # The optimiser counts what it trains: with other weights frozen its moments would be misplaced.
    frozen = sorted(name for name, p in model.named_parameters() if not p.requires_grad)
    told = f"{len(frozen)} ({sha256(' '.join(frozen).encode()).hexdigest()[:12]})"
    return (
        settings
        | {FROZEN: told}
        | {"corpus": corpus.identity.sha256, "model": type(model).__name__}
        | {f"model.{k}": v for k, v in architecture.items() if k not in _VOLATILE}
    )
