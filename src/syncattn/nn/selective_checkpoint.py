"""Weights of the public code of selective synchronization, read without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Tensor

PROJECTIONS = {
    "W_omega": "frequency_proj",
    "W_theta": "phase_proj",
    "W_v": "v_proj",
    "W_o": "o_proj",
}
"""Name in the public code and name here."""
COUPLINGS = {"K": "raw_coupling_strength", "alpha": "raw_coupling_decay"}


def load_author_layer(layer: nn.Module, state_dict: Mapping[str, Any], *, prefix: str = "") -> None:
    """Copies the weights of the public code into a layer of the published form.

    Args:
        layer: A `SelectiveSynchronization` with ``variant="paper"``.
        state_dict: Tensors named W_omega, W_theta, W_v and W_o, each with .weight and .bias, K
            and alpha.
        prefix: Beginning of these names; names that begin otherwise are passed over.

    Raises:
        ValueError: If the layer is not of the published form, or names or shapes do not match.
        TypeError: If a value is not a tensor.
    """
    variant = getattr(layer, "variant", None)
    if variant != "paper":
        raise ValueError(
            f"`variant` must be 'paper' to load the weights of the public code; got {variant!r}. "
            f"Build the layer with variant='paper'."
        )
    names = {
        f"{a}.{end}": f"{b}.{end}" for a, b in PROJECTIONS.items() for end in ("weight", "bias")
    }
    names |= COUPLINGS
    given = {
        name.removeprefix(prefix): value
        for name, value in state_dict.items()
        if name.startswith(prefix)
    }
    missing, unknown = sorted(names.keys() - given.keys()), sorted(given.keys() - names.keys())
    if missing or unknown:
        raise ValueError(
            f"`state_dict` must hold exactly {', '.join(sorted(names))}"
            f"{f' behind {prefix!r}' if prefix else ''}; got missing {missing or 'none'} and "
            f"unknown {unknown or 'none'}. Check the file, or pass another `prefix`."
        )
    own = dict(layer.named_parameters())
    values = {name: _fitted(given[name], name, own[names[name]]) for name in names}
    with torch.no_grad():
        for name, value in values.items():
            own[names[name]].copy_(value)


def read_author_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint without running code that it may hold.

    Args:
        path: A file of safetensors, or one of torch.save, of which only tensors are read.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        ValueError: If the file holds anything but tensors by name.
        ImportError: If the file is one of safetensors and that package is not installed.
    """
    check.require_path(path)
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ModuleNotFoundError as error:
            raise ImportError(
                "`path` is a file of safetensors, which is not installed. "
                "Install the extra: pip install 'syncattn[models]'."
            ) from error
        return load_file(path, device="cpu")
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"`path` must be a checkpoint that holds tensors alone; got {path.name}, which cannot "
            f"be read safely ({type(error).__name__}). Save its state_dict with safetensors."
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"`path` must hold tensors by name, a state_dict; got a {type(state).__name__} in "
            f"{path.name}. Save model.state_dict() alone."
        )
    return {str(name): tensor for name, tensor in state.items()}


def _fitted(value: Any, name: str, parameter: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"`state_dict[{name!r}]` must be a tensor; got {type(value).__name__}. "
            f"Pass the state_dict of the module."
        )
    # K is one number, with or without an axis of its own.
    shaped = value.reshape(parameter.shape) if value.numel() == parameter.numel() == 1 else value
    if shaped.shape != parameter.shape:
        raise ValueError(
            f"`state_dict[{name!r}]` must have shape {tuple(parameter.shape)}; got "
            f"{tuple(value.shape)}. Build the layer with the sizes of the checkpoint."
        )
    return shaped
