"""What a network is given: token numbers, frames and labels that fit it."""

from __future__ import annotations

from typing import Any

import torch

from syncattn import _validation as check
from syncattn._typing import Tensor

# What the losses of Transformers pass over.
_IGNORED = -100


def require_tokens(input_ids: Any, vocab_size: int) -> None:
    """Refuses what are not token numbers of a vocabulary.

    Args:
        input_ids: ``(batch, length)``.
        vocab_size: Number of tokens.

    Raises:
        TypeError: If it is not a tensor of integers.
        ValueError: If it has other axes, or a number is no token.
    """
    check.require_counts(input_ids, "input_ids", "Pass token numbers, torch.long.")
    if input_ids.dim() != 2:
        raise ValueError(
            f"`input_ids` must have the axes (batch, length); got shape "
            f"{check.shape_of(input_ids)}. Add or drop an axis."
        )
    _require_below(input_ids, "input_ids", vocab_size)


def require_stream(inputs_embeds: Any, width: int) -> None:
    """Refuses what is no stream of a width.

    Args:
        inputs_embeds: ``(batch, length, width)``.
        width: `hidden_size` of the network.

    Raises:
        TypeError: If it is not a floating tensor.
        ValueError: If it has other axes, or another width.
    """
    check.require_tensor(inputs_embeds, "inputs_embeds", "batch length width")
    if inputs_embeds.shape[-1] != width:
        raise ValueError(
            f"`inputs_embeds` must be `hidden_size` wide; got {inputs_embeds.shape[-1]} and "
            f"{width}. Pass what the embedding of this model gives."
        )


def require_here(given: Tensor, name: str, device: torch.device) -> None:
    """Refuses a tensor without values for a network that has some.

    Args:
        given: The argument.
        name: Its name.
        device: Where the network is.

    Raises:
        ValueError: If it is on the meta device and the network is not.
    """
    if device.type != "meta":
        check.require_values(given, name)


def require_labels(labels: Any, logits: Tensor) -> None:
    """Refuses labels of a language model that do not fit its logits.

    Args:
        labels: Token numbers, -100 where nothing is to be learned.
        logits: ``(batch, length, vocab_size)``.

    Raises:
        TypeError: If it is not a tensor of integers.
        ValueError: If it has another shape, no values, or a number is no token.
    """
    check.require_counts(labels, "labels", "Pass token numbers, -100 where none is to be learned.")
    if labels.shape != logits.shape[:2]:
        raise ValueError(
            f"`labels` must have one number per place with logits, {tuple(logits.shape[:2])}; got "
            f"shape {check.shape_of(labels)}. Pass the tokens themselves, without "
            f"`logits_to_keep`."
        )
    if not logits.is_meta:
        check.require_values(labels, "labels")
    _require_below(labels, "labels", logits.shape[-1], ignored=_IGNORED)


def _require_below(numbers: Tensor, name: str, limit: int, *, ignored: int | None = None) -> None:
    """Looks where that is free: not on an accelerator, not under torch.compile."""
    if torch.compiler.is_compiling() or numbers.device.type != "cpu" or numbers.numel() == 0:
        return
    known = numbers if ignored is None else numbers.masked_fill(numbers == ignored, 0)
    smallest, largest = (int(value) for value in known.detach().aminmax())
    if smallest < 0 or largest >= limit:
        raise ValueError(
            f"`{name}` must be at least 0 and below `vocab_size`, {limit}; got {smallest} to "
            f"{largest}. Use the tokenizer that the model was made for."
        )
