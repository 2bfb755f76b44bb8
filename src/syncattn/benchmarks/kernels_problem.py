"""One operator at one size, as `benchmark kernels` times it: operands, work and what can run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Problem", "Size", "Work", "flexible", "normal", "problem_of", "work_of"]

Call = Callable[[], Tensor]

# Pairs times coordinates beyond which a definition is not tried: its seconds would be the others'.
_MOST_DEFINED = 2**25
# Pairs beyond which a form that holds matrices of all pairs is not tried: it holds about eight.
_MOST_WEIGHTS = {"cpu": 1 << 26, "cuda": 1 << 29}


class Size(NamedTuple):
    """The size of a call: batch, heads, tokens, width of a head, and how it is computed."""

    batch: int
    heads: int
    length: int
    dim: int
    dtype: torch.dtype
    device: torch.device
    is_causal: bool
    live: float


class Work(NamedTuple):
    """What a forward pass cannot do without.

    Attributes:
        multiply_adds: Terms of the inner products over the visible pairs that count.
        bytes: Inputs read and outputs written once.
        equal_width: Width of the softmax attention beside it, which has as many multiply-adds
            wherever the operator visits all pairs.
    """

    multiply_adds: float
    bytes: float
    equal_width: int


class Problem(NamedTuple):
    """One operator at one size: its operands, its work, and its backends.

    Attributes:
        size: The size.
        leaves: The operands that want gradients.
        calls: From the name of a backend to a call that returns the output.
        refused: From the name of a backend to why it is not among the calls.
        work: What the forward pass cannot do without.
        note: What is special about the operands.
    """

    size: Size
    leaves: list[Tensor]
    calls: dict[str, Call]
    refused: dict[str, str]
    work: Work
    note: str = ""


def normal(size: Size, width: int, std: float = 1.0) -> Tensor:
    """Returns normal numbers that want gradients, ``(batch, heads, length, width)``.

    Args:
        size: The size.
        width: Of the last axis.
        std: Standard deviation.
    """
    shape = (size.batch, size.heads, size.length, width)
    return (std * torch.randn(shape, device=size.device)).to(size.dtype).requires_grad_()


def work_of(
    size: Size,
    width: int,
    operands: list[Tensor],
    out_width: int,
    *,
    pairs: int | None = None,
    equal_width: int | None = None,
) -> Work:
    """Returns the work of products of one width per pair.

    Args:
        size: The size.
        width: Terms per pair of all its products.
        operands: What is read.
        out_width: Width of what is written.
        pairs: Pairs of one head that count; the visible ones when None.
        equal_width: Width of the softmax attention beside it; half of `width` when None.
    """
    every = size.length * (size.length + 1) / 2 if size.is_causal else size.length**2
    count = size.batch * size.heads * (every if pairs is None else pairs)
    moved = sum(x.numel() * x.element_size() for x in operands)
    out = size.batch * size.heads * size.length * out_width * size.dtype.itemsize
    return Work(float(count * width), moved + out, equal_width or math.ceil(width / 2))


def problem_of(
    size: Size,
    leaves: list[Tensor],
    calls: dict[str, Call],
    work: Work,
    *,
    dense: Collection[str] = (),
    refused: dict[str, str] | None = None,
    note: str = "",
) -> Problem:
    """Returns a problem whose backends have run once, forward and backward; others say why not.

    Args:
        size: The size.
        leaves: The operands that want gradients.
        calls: What to try, by the name of the backend.
        work: See `Problem`.
        dense: Names of those that hold matrices of all pairs.
        refused: What is known not to run.
        note: See `Problem`.
    """
    able: dict[str, Call] = {}
    refused = dict(refused or {})
    for name, call in calls.items():
        reason = _hopeless(size, name, name in dense) or _failure(call, leaves, size.device)
        if reason is None:
            able[name] = call
        else:
            refused[name] = reason
    return Problem(size, leaves, able, refused, work, note)


def _hopeless(size: Size, name: str, dense: bool) -> str | None:
    """Returns why a backend need not be tried; None where it should."""
    if name.startswith("triton") and size.device.type != "cuda":
        # Interpreted kernels run on a CPU, but their time means nothing.
        return "It lacks: tensors on a CUDA device."
    pairs = size.batch * size.heads * size.length**2
    if dense and pairs > _MOST_WEIGHTS[size.device.type]:
        return f"Each of its matrices of all pairs would take {4 * pairs / 1e9:.3g} GB."
    if name == "reference" and pairs * size.dim > _MOST_DEFINED:
        return f"It is the definition: {4 * pairs * size.dim / 1e9:.3g} GB of differences."
    return None


def _failure(call: Call, leaves: list[Tensor], device: torch.device) -> str | None:
    """Returns why both passes of a call do not run; None where they do."""
    try:
        out = call()
        torch.autograd.grad(out, leaves, torch.ones_like(out))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    # Compilers, drivers and allocators raise what they like, and one of them must not cost the
    # figures of all others.
    except Exception as error:
        lacking = re.findall(r"[:;] ([^:;]+) \(NOT met\)", str(error))
        if lacking:
            return "It lacks: " + "; ".join(lacking) + "."
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


def flexible(size: Size, refused: dict[str, str]) -> Callable[..., Tensor] | None:
    """Returns compiled FlexAttention under the mask of a size, None off CUDA.

    Args:
        size: The size.
        refused: Where its absence is told.
    """
    if size.device.type != "cuda":
        refused["flex"] = "FlexAttention is compiled on CUDA alone here."
        return None
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    # Every length is a graph of its own, of which Dynamo keeps eight; beyond, it falls back to a
    # dense form.
    torch.compiler.reset()
    attend = torch.compile(flex_attention, dynamic=False)
    mask = None
    if size.is_causal:
        mask = create_block_mask(
            lambda b, h, i, j: i >= j, None, None, size.length, size.length, str(size.device)
        )
    return lambda *operands, **options: attend(*operands, block_mask=mask, **options)
