"""Weights that processes share: cut into shards for training, made whole for checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from accelerate.utils import parse_flag_from_env
from torch import nn
from torch.distributed import get_world_size
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from syncattn._typing import Tensor
from syncattn.training.config import TrainingConfig

__all__ = [
    "copied_state",
    "each_once",
    "local",
    "put_back",
    "restore",
    "shard",
    "sharding_wanted",
    "whole",
    "whole_state",
]


def sharding_wanted(config: TrainingConfig) -> bool:
    """Tells whether the settings, or `accelerate launch --use_fsdp`, ask for shared weights.

    Args:
        config: The settings.
    """
    return config.sharding == "full" or parse_flag_from_env("ACCELERATE_USE_FSDP")


def shard(model: PreTrainedModel, device: torch.device) -> None:
    """Cuts every parameter into one shard per process, in place, block by block.

    It is torch's `fully_shard`, on any device; a block's weights are whole only while it works.
    Accelerate leaves FSDP out on CPU, and passes tied weights by.

    Args:
        model: A network of Transformers, on the device.
        device: Where the processes compute.
    """
    mesh = init_device_mesh(device.type, (get_world_size(),))
    # New parameters take the places of the old ones and do not have their marks.
    marked = [n for n, p in model.named_parameters() if getattr(p, "_no_weight_decay", False)]
    blocks: set[str] = set(cast("Any", model)._no_split_modules or ())
    for module in list(model.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
    # By default the outermost weights stay whole after a forward pass.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    for name in marked:
        model.get_parameter(name)._no_weight_decay = True  # pyright: ignore[reportAttributeAccessIssue]


def whole(tensor: Tensor) -> Tensor:
    """Returns the tensor of all shards; every process must call. Others stay as they are.

    Args:
        tensor: A shard, or a whole tensor.
    """
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """Returns what of a tensor is in this process.

    Args:
        tensor: A shard, or a whole tensor.
    """
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Returns parameters and buffers, whole, tied ones as one tensor; every process must call.

    Args:
        model: Sharded or not.
    """
    return each_once(model.state_dict(keep_vars=True), lambda x: whole(x.detach()))


def copied_state(model: nn.Module) -> dict[str, Tensor]:
    """Returns a copy of parameters and buffers, shards staying shards, tied ones as one tensor.

    Args:
        model: Sharded or not.
    """
    return each_once(model.state_dict(keep_vars=True), lambda x: x.detach().clone())


@torch.no_grad()
def put_back(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Gives a model the parameters and buffers of a copy, in place.

    Args:
        model: Sharded as it was when it was copied.
        state: What `copied_state` returned.
    """
    for name, target in model.state_dict(keep_vars=True).items():
        target.copy_(state[name])


def each_once(state: Mapping[str, Tensor], change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Returns a state with every tensor changed, one under several names once.

    Args:
        state: Tensors by name.
        change: What becomes of each.
    """
    found: dict[int, Tensor] = {}
    changed: dict[str, Tensor] = {}
    for name, value in state.items():
        if id(value) not in found:
            found[id(value)] = change(value)
        changed[name] = found[id(value)]
    return changed


@torch.no_grad()
def restore(target: Tensor, value: Tensor) -> None:
    """Copies a whole tensor into one that may be sharded; every process must call.

    Args:
        target: Is replaced in place.
        value: The same in all processes.
    """
    if isinstance(target, DTensor):
        value = value.to(target.device)
        value = distribute_tensor(value, target.device_mesh, target.placements)
    target.copy_(value)
