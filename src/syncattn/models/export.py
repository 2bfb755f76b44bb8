"""A network as a graph that runs without this package's Python: torch.export and ONNX."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from syncattn import _validation as check
from syncattn._typing import Tensor
from syncattn.models.modeling import SyncAttnForCausalLM
from syncattn.nn import OscillatorAttention, SelectiveSynchronization

__all__ = ["export_model", "export_onnx"]

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
        max_batch_size: Most sequences at once, at least 2; with 2 the program takes no other
            number.

    Returns:
        The program; ``program.module()`` runs it.

    Raises:
        TypeError: If `length` is not an integer, or the model no language model.
        ValueError: If `length` is out of range, or left out for a model of too small a limit.
        RuntimeError: If the operator of the mechanism cannot be traced for every length.
    """
    check.require_instance(model, "model", SyncAttnForCausalLM, "Export a language model.")
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
    shape: dict[int, Any] = {}
    if max_batch_size > 2:
        shape[0] = Dim("batch", min=2, max=max_batch_size)
    if length is None and limit <= SHORTEST:
        raise ValueError(
            f"`length` must be given for a model of at most {SHORTEST} tokens; got None and "
            f"{limit}. Pass `length`."
        )
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


def export_onnx(
    model: SyncAttnForCausalLM,
    path: str | Path,
    *,
    length: int | None = None,
    max_batch_size: int = 64,
) -> Path:
    """Writes the full pass of a language model as an ONNX file.

    ONNX knows no operators of this package, so the graph is that of the dense definition: memory
    grows with the square of the length. It takes `input_ids` (int64) as `export_model` does and
    returns `logits`.

    Args:
        model: The network; exported as in evaluation.
        path: File to write; weights too large for one file come beside it.
        length: See `export_model`.
        max_batch_size: See `export_model`.

    Returns:
        The file.

    Raises:
        ImportError: If onnx or onnxscript is not installed.
        TypeError: If `length` is not an integer.
        ValueError: If `length` is out of range.
        RuntimeError: If a layer has no dense form that ONNX can express.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{' and '.join(missing)} must be installed to write ONNX; not found. "
            f"Run `pip install onnx onnxscript`, or use export_model, which needs neither."
        )
    with _dense(model):
        program = export_model(model, length=length, max_batch_size=max_batch_size)
    # Regions without autocast are graphs of their own.
    graphs = (x for x in program.graph_module.modules() if isinstance(x, torch.fx.GraphModule))
    targets = {str(node.target) for graph in graphs for node in graph.graph.nodes}
    own = sorted(name for name in targets if name.startswith("syncattn."))
    if own:
        raise RuntimeError(
            f"{model.config.mechanism!r} must be expressible by common operators to become ONNX; "
            f"got {', '.join(own)}, which only this package has. Use export_model."
        )
    path = Path(path)
    exported: Any = torch.onnx.export(program, verbose=False, output_names=["logits"])
    exported.save(path)
    return path


@contextmanager
def _dense(model: nn.Module) -> Generator[None]:
    """Lets every layer that has several forms take the dense one."""
    before: list[tuple[Any, str]] = []
    for module in model.modules():
        if isinstance(module, SelectiveSynchronization):
            before.append((module.options, module.options.get("backend", "auto")))
            module.options["backend"] = "reference"
        elif isinstance(module, OscillatorAttention):
            before.append((module, module.backend))
            module.backend = "reference"
    try:
        yield
    finally:
        for owner, backend in before:
            if isinstance(owner, dict):
                owner["backend"] = backend
            else:
                owner.backend = backend
