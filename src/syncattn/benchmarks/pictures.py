"""What a trained model looks at: its weights on a piece of text, drawn and in figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from syncattn._typing import Tensor
from syncattn.analysis import attention_weights, save_figure
from syncattn.models import SyncAttnForCausalLM
from syncattn.nn import Synchrony

__all__ = ["diagnostics", "draw_weights", "layer_patterns", "snippet"]

LENGTH = 36
"""Bytes of a snippet: as many as can still be read as labels."""


def snippet(split: Tensor, length: int = LENGTH) -> bytes:
    """Returns a piece of text from the middle of a split that begins with a line.

    Args:
        split: ``(bytes,)``, uint8.
        length: Number of bytes.

    Returns:
        The piece; shorter only when the split is.
    """
    data = bytes(split.tolist())
    middle = data.find(b"\n", len(data) // 2) + 1
    start = middle if 0 < middle <= len(data) - length else max(0, len(data) - length)
    return data[start : start + length]


def layer_patterns(model: SyncAttnForCausalLM, text: bytes) -> list[Synchrony]:
    """Returns the picture of every layer on one text, without the batch axis.

    Args:
        model: A trained model.
        text: Bytes, at most the model's context.

    Returns:
        One `Synchrony` per layer, on the CPU.
    """
    model.eval()
    input_ids = torch.tensor([list(text)], device=model.device)
    return [
        Synchrony(*(None if part is None else part[0].cpu() for part in layer))  # pyright: ignore[reportArgumentType]
        for layer in model.synchrony(input_ids)
    ]


def draw_weights(
    patterns: Sequence[Synchrony], text: bytes, path: Path, *, name: str, legend: str
) -> None:
    """Writes the picture of a model's weights.

    Args:
        patterns: What `layer_patterns` returned.
        text: The text it was run on.
        path: Where to write, without suffix.
        name: The mechanism's name.
        legend: What R and *locked* mean for it.
    """
    tokens = [chr(byte) if byte < 128 else f"\\x{byte:02x}" for byte in text]
    layers = [_Pattern(layer) for layer in patterns]
    save_figure(attention_weights(layers, tokens, mechanism=name, legend=legend), path)


class _Pattern:
    """A `Synchrony` as the plots read it."""

    def __init__(self, layer: Synchrony) -> None:
        self.weights = layer.weights
        self.order_parameter = layer.order_parameter
        self.locked = layer.locked
        self.locked_fraction = None


def diagnostics(patterns: Sequence[Synchrony]) -> dict[str, Any]:
    """Returns the order parameter and the locked fraction of every layer, means over heads.

    Args:
        patterns: What `layer_patterns` returned.

    Returns:
        Lists by layer, None where a mechanism has no oscillators.
    """
    return {
        "order_parameter": [
            None if p.order_parameter is None else float(p.order_parameter.mean()) for p in patterns
        ],
        "locked_fraction": [
            None if p.locked is None else _locked_fraction(p.locked) for p in patterns
        ],
    }


def _locked_fraction(locked: Tensor) -> float:
    queries, keys = locked.shape[-2:]
    visible = torch.ones(queries, keys).tril(keys - queries).bool()
    return float(locked[..., visible].float().mean())
