"""A network as a graph that runs without this package's Python: torch.export."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from syncattn import _validation as check
from syncattn._typing import Tensor
from syncattn.models.modeling import SyncAttnForCausalLM

SHORTEST = 3
"""Tokens below which a graph for all lengths would need cases of its own."""


class _Logits(nn.Module):
    """Tokens in, logits out: a graph has no use for the fields of an output."""

    def __init__(self, model: SyncAttnForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model(input_ids).logits


def export_model(
    model: SyncAttnForCausalLM, *, length: int | None = None, max_batch_size: int = 64
) -> ExportedProgram:
    """Returns the full pass of a language model as an exported program.

    The program takes `input_ids`, any number of sequences from 2 to `max_batch_size`, without
    padding, and returns the logits. `torch.export.save` writes it to a file. It has no cache.

    Args:
        model: The network; exported as in evaluation.
        length: Tokens of every sequence; any from 3 to the limit of the model when None.
        max_batch_size: Most sequences at once, at least 2.

    Returns:
        The program; ``program.module()`` runs it.

    Raises:
        TypeError: If `length` is not an integer.
        ValueError: If `length` is out of range.
        RuntimeError: If the operator of the mechanism cannot be traced for every length.
    """
    limit = model.config.max_position_embeddings
    check.require_integer(max_batch_size, "max_batch_size", minimum=2)
    if length is not None:
        check.require_integer(length, "length", minimum=1)
        if length > limit:
            raise ValueError(
                f"`length` must be at most `max_position_embeddings`; got {length} and {limit}. "
                f"Export a shorter one."
            )
    example = torch.zeros(2, length or min(limit, 8), dtype=torch.long, device=model.device)
    shape: dict[int, Any] = {0: Dim("batch", min=2, max=max_batch_size)}
    if length is None:
        shape[1] = Dim("length", min=SHORTEST, max=limit)
    was_training = model.training
    model.eval()
    try:
        return torch.export.export(
            _Logits(model), (example,), dynamic_shapes={"input_ids": shape}, strict=False
        )
    except Exception as error:
        remedy = "Pass a `length`." if length is None else "Use the network itself."
        raise RuntimeError(
            f"{model.config.mechanism!r} must be traceable to be exported; got a step that depends "
            f"on the shape ({type(error).__name__}: {str(error).strip().splitlines()[0]}). {remedy}"
        ) from error
    finally:
        model.train(was_training)
