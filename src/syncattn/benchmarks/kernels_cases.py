"""What `benchmark kernels` times: every operator through every backend, and softmax beside it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention

from syncattn import functional
from syncattn.benchmarks.kernels_problem import (
    Call,
    Problem,
    Size,
    flexible,
    normal,
    problem_of,
    work_of,
)
from syncattn.benchmarks.kernels_selective import repeated, selective, sparse, windowed

__all__ = ["OPERATORS", "problem"]

OSCILLATOR_DIM = 8
HARMONICS = 2


def softmax(size: Size) -> Problem:
    """Returns softmax attention through SDPA, and FlexAttention and FlashAttention where present.

    Args:
        size: The size.
    """
    query, key, value = leaves = [normal(size, size.dim) for _ in range(3)]
    refused: dict[str, str] = {}

    def sdpa() -> Tensor:
        return scaled_dot_product_attention(query, key, value, is_causal=size.is_causal)

    calls: dict[str, Call] = {"sdpa": sdpa}
    if (attend := flexible(size, refused)) is not None:
        calls["flex"] = lambda: attend(query, key, value)
    if importlib.util.find_spec("flash_attn") is None or size.device.type != "cuda":
        refused["flash"] = "The package flash_attn is not installed, or there is no CUDA device."
    else:
        flash: Any = importlib.import_module("flash_attn").flash_attn_func

        def flash_call() -> Tensor:
            turned = (x.transpose(1, 2) for x in (query, key, value))
            return flash(*turned, causal=size.is_causal).transpose(1, 2)

        calls["flash"] = flash_call
    work = work_of(size, 2 * size.dim, leaves, size.dim)
    return problem_of(size, leaves, calls, work, refused=refused)


def oscillator(size: Size) -> Problem:
    """Returns oscillator attention with the drive and a squared read-out, both over all pairs.

    Args:
        size: The size.
    """
    query, key, value = (normal(size, size.dim) for _ in range(3))
    anchor = normalize(
        torch.randn(1, size.heads, size.length, OSCILLATOR_DIM, device=size.device), dim=-1
    ).requires_grad_()
    calls: dict[str, Call] = {
        name: lambda name=name: functional.oscillator_attention(
            query, key, value, anchor, is_causal=size.is_causal, readout_power=2,
            anchor_bounded=True, backend=name,
        )
        for name in ("blockwise", "triton", "reference")
    }  # fmt: skip
    leaves = [query, key, value, anchor]
    work = work_of(size, 2 * size.dim + 2 * OSCILLATOR_DIM, leaves, size.dim)
    return problem_of(size, leaves, calls, work, dense=("reference",))


def _phases(size: Size) -> tuple[list[Tensor], str]:
    """Returns phases and gates, and a note where their type is not that of the title."""
    wide = size._replace(dtype=torch.float32) if size.device.type == "cpu" else size
    note = "" if wide.dtype == size.dtype else "in float32, which a CPU needs for phases"
    return [normal(wide, size.dim // 2) for _ in range(3)], note


def kuramoto(size: Size) -> Problem:
    """Returns Kuramoto attention, whose cosines and sines fill the width of a head.

    Args:
        size: The size.
    """
    leaves, note = _phases(size)
    theta, query_gate, key_gate = leaves
    calls: dict[str, Call] = {
        name: lambda name=name: functional.kuramoto_attention(
            theta, theta, query_gate, key_gate, is_causal=size.is_causal, backend=name
        )
        for name in ("sdpa", "triton", "reference")
    }
    work = work_of(size, 2 * size.dim, leaves, size.dim // 2)
    return problem_of(size, leaves, calls, work, dense=("reference",), note=note)


def frustrated(size: Size) -> Problem:
    """Returns frustrated synchronization with two harmonics and a delay.

    Args:
        size: The size.
    """
    leaves, note = _phases(size)
    theta, query_gate, key_gate = leaves
    kernel = torch.randn(size.heads, 2, HARMONICS, size.dim // 2, device=size.device)
    calls: dict[str, Call] = {
        name: lambda name=name: functional.frustrated_synchronization(
            theta, theta, query_gate, key_gate, harmonic_amplitude=kernel, frustration=kernel,
            is_causal=size.is_causal, backend=name,
        )
        for name in ("sdpa", "triton", "dense", "reference")
    }  # fmt: skip
    work = work_of(size, (1 + HARMONICS) * size.dim, leaves, size.dim // 2)
    return problem_of(size, leaves, calls, work, dense=("dense", "reference"), note=note)


OPERATORS: dict[str, Callable[[Size], Problem]] = {
    "softmax": softmax,
    "selective": selective,
    "selective-sparse": sparse,
    "selective-window": windowed,
    "selective-repeats": repeated,
    "oscillator": oscillator,
    "kuramoto": kuramoto,
    "frustrated": frustrated,
}
"""From the name of an operator to its operands and backends at a size."""


def problem(operator: str, size: Size) -> Problem:
    """Returns one operator at one size, the same operands in every process.

    Args:
        operator: One of `OPERATORS`.
        size: The size.
    """
    torch.manual_seed(0)
    return OPERATORS[operator](size)
