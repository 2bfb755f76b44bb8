"""What a trained model looks at: its weights on a piece of text, drawn and in figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from syncattn._typing import Tensor
from syncattn.analysis import attention_weights, save_figure
from syncattn.analysis.heads import locked_share
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
    middle = len(data) // 2
    # A line that is not indented: blanks in a row would fill the picture.
    line = re.compile(rb"^[^\s]", re.MULTILINE).search(data, middle, len(data) - length)
    start = line.start() if line else max(0, len(data) - length)
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
    figure = attention_weights(
        layers, tokens, mechanism=name, legend=legend, visible=_visible(patterns)
    )
    save_figure(figure, path)


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
        Lists by layer, None where a mechanism has no oscillators. The locked fraction is of visible
        pairs of different tokens, None where there is no such pair.
    """
    visible = _visible(patterns)
    return {
        "order_parameter": [
            None if p.order_parameter is None else float(p.order_parameter.nanmean())
            for p in patterns
        ],
        "locked_fraction": [
            None if p.locked is None else locked_share(p.locked, visible) for p in patterns
        ],
    }


def _visible(patterns: Sequence[Synchrony]) -> Tensor:
    """Returns which pairs a causal mechanism may see; some hide a token from itself."""
    weights = patterns[0].weights
    strict = not bool(weights.diagonal(dim1=-2, dim2=-1).any())
    return torch.ones(weights.shape[-2:], dtype=torch.bool).tril(-1 if strict else 0)
