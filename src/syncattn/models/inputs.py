"""What a network is given: token numbers, frames and labels that fit it."""

from __future__ import annotations

from typing import Any

import torch

from syncattn import _validation as check
from syncattn._typing import Tensor

# What the losses of Transformers pass over.
_IGNORED = -100

_OTHER_TOKENIZER = "Use the tokenizer that the model was made for."
_PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")


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
    _require_below(input_ids, "input_ids", "vocab_size", vocab_size, _OTHER_TOKENIZER)


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


def require_labels(
    labels: Any, logits: Tensor, *, name: str = "labels", ignored: int = _IGNORED
) -> None:
    """Refuses labels of a language model that do not fit its logits.

    Args:
        labels: Token numbers, -100 where nothing is to be learned.
        logits: ``(batch, length, vocab_size)``.
        name: What the caller calls them.
        ignored: Another number in place of -100.

    Raises:
        TypeError: If it is not a tensor of integers.
        ValueError: If it has another shape, no values, or a number is no token.
    """
    check.require_counts(labels, name, "Pass token numbers, -100 where none is to be learned.")
    if labels.shape != logits.shape[:2]:
        raise ValueError(
            f"`{name}` must have one number per place with logits, {tuple(logits.shape[:2])}; got "
            f"shape {check.shape_of(labels)}. Pass the tokens themselves, without "
            f"`logits_to_keep`."
        )
    if not logits.is_meta:
        check.require_values(labels, name)
    limit = logits.shape[-1]
    _require_below(labels, name, "vocab_size", limit, _OTHER_TOKENIZER, ignored=ignored)


def loss_of_tokens(labels: Any, logits: Tensor, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of the loss of a language model.

    Args:
        labels: See `require_labels`.
        logits: See `require_labels`.
        options: More arguments: `num_items_in_batch`, which else is counted; `shift_labels`, the
            labels of every place themselves; `ignore_index`.

    Raises:
        TypeError: See `require_labels`, and if a number of items is none.
        ValueError: See `require_labels`.
    """
    ignored: int = options.get("ignore_index", _IGNORED)
    shifted: Tensor | None = options.get("shift_labels")
    items: Any = options.get("num_items_in_batch")
    require_labels(labels, logits, ignored=ignored)
    if shifted is not None:
        require_labels(shifted, logits, name="shift_labels", ignored=ignored)
        options = options | {"shift_labels": shifted.long().contiguous()}
    if items is None:
        items = _items(labels[:, 1:] if shifted is None else shifted, ignored)
    elif isinstance(items, torch.Tensor):
        items = items.clamp(min=1)
    else:
        check.require_number(items, "num_items_in_batch", minimum=0.0)
        items = max(items, 1)
    arguments = {"logits": logits, "labels": labels.long(), "vocab_size": logits.shape[-1]}
    return arguments | options | {"num_items_in_batch": items}


def _items(labels: Tensor, ignored: int = _IGNORED) -> Tensor:
    # At least 1: the loss of no label is 0, where its mean would be NaN.
    return (labels != ignored).sum().clamp(min=1)


def loss_of_sequences(labels: Any, logits: Tensor, problem: str | None) -> dict[str, Any]:
    """Returns the arguments of the loss of a classifier, and its `problem_type`.

    Args:
        labels: Classes ``(batch,)``, -100 where there is none; numbers from 0 to 1 for every
            class, ``(batch, num_labels)``; or numbers to predict, as many as the logits.
        logits: ``(batch, num_labels)``.
        problem: `problem_type` of the configuration; None to tell by the labels.

    Raises:
        TypeError: If labels are not a tensor, or classes not integers.
        ValueError: If `problem_type` is unknown, the shape does not fit, or a value is out of
            range.
    """
    check.require_instance(labels, "labels", torch.Tensor, "Pass torch.tensor(labels).")
    batch, count = logits.shape
    regression, single, several = _PROBLEMS
    if problem is None:
        one = labels.dim() < 2 or labels.shape[1] == 1
        problem = regression if count == 1 else single if one else several
    check.require_choice(problem, "problem_type", _PROBLEMS)
    arguments = {"logits": logits, "pooled_logits": logits, "problem_type": problem}
    shapes = [(batch, count)]
    if problem == single or count == 1:
        shapes = [(batch,), (batch, 1)]
    if tuple(labels.shape) not in shapes:
        raise ValueError(
            f"`labels` must have shape {' or '.join(map(str, shapes))} for `problem_type` "
            f"{problem!r} with {count} labels; got {check.shape_of(labels)}. Set `problem_type` "
            f"for another loss."
        )
    if not logits.is_meta:
        check.require_values(labels, "labels")
    if problem == single:
        check.require_counts(labels, "labels", "Pass class numbers, or set `problem_type`.")
        remedy = "Count the classes from 0."
        _require_below(labels, "labels", "num_labels", count, remedy, ignored=_IGNORED)
        labels = labels.flatten().long()
        return arguments | {"labels": labels, "num_items_in_batch": _items(labels)}
    check.require_finite(labels, "labels")
    if problem == several and _may_look(labels) and bool(((labels < 0) | (labels > 1)).any()):
        raise ValueError(
            f"`labels` must be between 0 and 1, one number for every class; got "
            f"{labels.min().item():g} to {labels.max().item():g}. Pass 1 for each that applies."
        )
    return arguments | {"labels": labels.reshape(logits.shape).to(logits.dtype)}


def _require_below(numbers: Tensor, name: str, limit_name: str, limit: int, remedy: str, *,
                   ignored: int | None = None) -> None:  # fmt: skip
    if (numbers.numel() == 0) or not _may_look(numbers):
        return
    known = numbers if ignored is None else numbers.masked_fill(numbers == ignored, 0)
    smallest, largest = (int(value) for value in known.detach().aminmax())
    if smallest < 0 or largest >= limit:
        raise ValueError(
            f"`{name}` must be at least 0 and below `{limit_name}`, {limit}; got {smallest} to "
            f"{largest}. {remedy}"
        )


def _may_look(numbers: Tensor) -> bool:
    """Tells whether looking at values is free: not on an accelerator, not under torch.compile."""
    return numbers.device.type == "cpu" and not torch.compiler.is_compiling()
