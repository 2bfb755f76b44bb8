"""What `benchmark kernels` times: every operator through every backend, and softmax beside it."""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention

from syncattn import BackendUnavailableError, explain_backend, functional
from syncattn._masks import Visibility

__all__ = ["OPERATORS", "Problem", "Size", "Work", "problem"]

OSCILLATOR_DIM = 8
HARMONICS = 2
_COUPLINGS: dict[str, Any] = {"coupling_strength": 1.3, "coupling_decay": 0.5}


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
        multiply_adds: Terms of the inner products over the visible pairs.
        bytes: Inputs read and outputs written once.
        equal_width: Width of a head at which softmax attention has as many multiply-adds; None
            where the pairs differ.
    """

    multiply_adds: float
    bytes: float
    equal_width: int | None


class Problem(NamedTuple):
    """One operator at one size: its operands, its work, and its backends.

    Attributes:
        leaves: The operands that want gradients.
        calls: From the name of a backend to a call that returns the output.
        refused: From the name of a backend to why it is not among the calls.
        work: What the forward pass cannot do without.
        note: What is special about the operands.
    """

    leaves: list[Tensor]
    calls: dict[str, Callable[[], Tensor]]
    refused: dict[str, str]
    work: Work
    note: str = ""


def _normal(size: Size, width: int, std: float = 1.0) -> Tensor:
    shape = (size.batch, size.heads, size.length, width)
    return (std * torch.randn(shape, device=size.device)).to(size.dtype).requires_grad_()


def _pairs(size: Size) -> float:
    every = size.length * (size.length + 1) / 2 if size.is_causal else size.length**2
    return float(size.batch * size.heads * every)


def _work(size: Size, width: int, operands: list[Tensor], out_width: int) -> Work:
    """Returns the work of products of `width` per pair, and the softmax width of the same."""
    moved = sum(x.numel() * x.element_size() for x in operands)
    out = size.batch * size.heads * size.length * out_width * size.dtype.itemsize
    return Work(_pairs(size) * width, moved + out, math.ceil(width / 2))


def _able(
    size: Size, calls: dict[str, Callable[[], Tensor]], refused: dict[str, str]
) -> tuple[dict[str, Callable[[], Tensor]], dict[str, str]]:
    """Splits the backends by whether one call works."""
    able: dict[str, Callable[[], Tensor]] = {}
    for name, call in calls.items():
        if name.startswith("triton") and size.device.type != "cuda":
            # Interpreted kernels run on a CPU, but their time means nothing.
            refused[name] = "It lacks: tensors on a CUDA device."
            continue
        try:
            with torch.no_grad():
                call()
        except (BackendUnavailableError, torch.cuda.OutOfMemoryError) as error:
            lacking = re.findall(r"[:;] ([^:;]+) \(NOT met\)", str(error))
            refused[name] = "It lacks: " + "; ".join(lacking) + "." if lacking else str(error)
        else:
            able[name] = call
    return able, refused


def _flex(size: Size, refused: dict[str, str]) -> Callable[..., Tensor] | None:
    """Returns compiled FlexAttention where it pays to wait for the compiler."""
    if size.device.type != "cuda":
        refused["flex"] = "FlexAttention is compiled on CUDA alone here."
        return None
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def softmax(size: Size) -> Problem:
    """Returns softmax attention through SDPA, and FlexAttention and FlashAttention where present.

    Args:
        size: The size.
    """
    query, key, value = leaves = [_normal(size, size.dim) for _ in range(3)]
    refused: dict[str, str] = {}

    def sdpa() -> Tensor:
        return scaled_dot_product_attention(query, key, value, is_causal=size.is_causal)

    calls: dict[str, Callable[[], Tensor]] = {"sdpa": sdpa}
    if (attend := _flex(size, refused)) is not None:
        mask = None
        if size.is_causal:
            from torch.nn.attention.flex_attention import create_block_mask

            mask = create_block_mask(
                lambda b, h, i, j: i >= j, None, None, size.length, size.length, str(size.device)
            )
        calls["flex"] = lambda: attend(query, key, value, block_mask=mask)
    if importlib.util.find_spec("flash_attn") is None or size.device.type != "cuda":
        refused["flash"] = "The package flash_attn is not installed, or there is no CUDA device."
    else:
        flash: Any = importlib.import_module("flash_attn").flash_attn_func

        def flash_call() -> Tensor:
            turned = (x.transpose(1, 2) for x in (query, key, value))
            return flash(*turned, causal=size.is_causal).transpose(1, 2)

        calls["flash"] = flash_call
    calls, refused = _able(size, calls, refused)
    return Problem(leaves, calls, refused, _work(size, 2 * size.dim, leaves, size.dim))


def _selective(frequency: Tensor, value: Tensor, size: Size, backend: str) -> Tensor:
    return functional.selective_synchronization(
        frequency, frequency, value, is_causal=size.is_causal, backend=backend, **_COUPLINGS
    )


def selective(size: Size) -> Problem:
    """Returns selective synchronization of all pairs.

    Args:
        size: The size.
    """
    frequency, value = leaves = [_normal(size, size.dim, size.dim**-0.5), _normal(size, size.dim)]
    refused: dict[str, str] = {}
    calls: dict[str, Callable[[], Tensor]] = {
        name: lambda name=name: _selective(frequency, value, size, name)
        for name in ("blockwise", "triton")
    }
    calls["triton-kernel"] = _bare_kernel(frequency, value, size)
    if (attend := _flex(size, refused)) is not None:
        calls["flex"] = _flexible(attend, frequency, value, size)
    calls, refused = _able(size, calls, refused)
    return Problem(leaves, calls, refused, _work(size, 2 * size.dim, leaves, size.dim))


def _bare_kernel(frequency: Tensor, value: Tensor, size: Size) -> Callable[[], Tensor]:
    """Returns the Triton kernels without the checks and the order parameter of the operator."""
    ones = torch.ones(size.heads, device=size.device)
    g = torch.full(frequency.shape[:3], 1 / 1.69, device=size.device)
    visibility = Visibility(size.length, size.length, size.is_causal)

    def call() -> Tensor:
        module: Any = importlib.import_module("syncattn.kernels.selective_synchronization_triton")
        return module.selective_synchronization(
            frequency, frequency, value, g, 0.5 * ones, visibility=visibility, pruned=False,
            self_pairs=True, smoothing=0.0, edge_floor=1e-3,
        )[0]  # fmt: skip

    return call


def _flexible(
    attend: Callable[..., Tensor], frequency: Tensor, value: Tensor, size: Size
) -> Callable[[], Tensor]:
    """Returns the same sums by FlexAttention, whose score becomes the logarithm of a strength."""
    g = 1 / 1.69

    def call() -> Tensor:
        norm = frequency.float().square().sum(-1)

        def log_strength(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            u = (norm[b, h, i] + norm[b, h, j] - 2 * score).clamp(min=0)
            u = torch.where(i == j, 0.0, u)
            q = torch.exp(-u) - g * u
            log = 0.5 * torch.log(torch.where(q > 0, q, 1.0))
            visible = (q > 0) & ((j <= i) | (not size.is_causal))
            return torch.where(visible, log, -torch.inf)

        return attend(frequency, frequency, value, score_mod=log_strength, scale=1.0)

    return call


def sparse(size: Size) -> Problem:
    """Returns selective synchronization of clusters so far apart that most blocks cannot lock.

    Args:
        size: The size; `live` is the share of blocks that can.
    """
    bits = min(max(1, round(math.log2(1 / size.live))), size.dim, 12)
    shape = (size.batch, size.heads, size.length)
    # Of one size, so that halving at medians parts them cleanly.
    cluster = torch.rand(shape, device=size.device).argsort(-1) % 2**bits
    corner = (cluster[..., None] >> torch.arange(bits, device=size.device)) & 1
    centre = torch.zeros(*shape, size.dim, device=size.device)
    centre[..., :bits] = 8.0 * corner
    noise = 0.2 * size.dim**-0.5 * torch.randn(*shape, size.dim, device=size.device)
    frequency = (centre + noise).to(size.dtype).requires_grad_()
    value = _normal(size, size.dim)
    refused: dict[str, str] = {}
    calls: dict[str, Callable[[], Tensor]] = {
        name: lambda name=name: _selective(frequency, value, size, name)
        for name in ("pruned", "triton-pruned")
    }
    calls, refused = _able(size, calls, refused)
    with torch.no_grad():
        planned = explain_backend(
            frequency[:1, :1], frequency[:1, :1], is_causal=size.is_causal, backend="pruned",
            **_COUPLINGS,
        ).pairs["pruned"]  # fmt: skip
    leaves = [frequency, value]
    work = _work(size, 2 * size.dim, leaves, size.dim)
    pairs = planned * size.batch * size.heads
    work = work._replace(multiply_adds=2.0 * size.dim * pairs)
    return Problem(leaves, calls, refused, work, f"{planned / size.length**2:.1%} of pairs live")


def oscillator(size: Size) -> Problem:
    """Returns oscillator attention with the drive and a squared read-out, both over all pairs.

    Args:
        size: The size.
    """
    query, key, value = (_normal(size, size.dim) for _ in range(3))
    anchor = normalize(
        torch.randn(1, size.heads, size.length, OSCILLATOR_DIM, device=size.device), dim=-1
    ).requires_grad_()
    calls: dict[str, Callable[[], Tensor]] = {
        name: lambda name=name: functional.oscillator_attention(
            query, key, value, anchor, is_causal=size.is_causal, readout_power=2,
            anchor_bounded=True, backend=name,
        )
        for name in ("blockwise", "triton")
    }  # fmt: skip
    calls, refused = _able(size, calls, {})
    leaves = [query, key, value, anchor]
    width = 2 * size.dim + 2 * OSCILLATOR_DIM
    return Problem(leaves, calls, refused, _work(size, width, leaves, size.dim))


def _phases(size: Size) -> list[Tensor]:
    wide = size._replace(dtype=torch.float32) if size.device.type == "cpu" else size
    return [_normal(wide, size.dim // 2) for _ in range(3)]


def kuramoto(size: Size) -> Problem:
    """Returns Kuramoto attention, whose cosines and sines fill the width of a head.

    Args:
        size: The size.
    """
    theta, query_gate, key_gate = leaves = _phases(size)
    calls: dict[str, Callable[[], Tensor]] = {
        name: lambda name=name: functional.kuramoto_attention(
            theta, theta, query_gate, key_gate, is_causal=size.is_causal, backend=name
        )
        for name in ("sdpa", "triton")
    }
    calls, refused = _able(size, calls, {})
    return Problem(leaves, calls, refused, _work(size, 2 * size.dim, leaves, size.dim // 2))


def frustrated(size: Size) -> Problem:
    """Returns frustrated synchronization with two harmonics and a delay.

    Args:
        size: The size.
    """
    theta, query_gate, key_gate = leaves = _phases(size)
    kernel = torch.randn(size.heads, 2, HARMONICS, size.dim // 2, device=size.device)
    calls: dict[str, Callable[[], Tensor]] = {
        name: lambda name=name: functional.frustrated_synchronization(
            theta, theta, query_gate, key_gate, harmonic_amplitude=kernel, frustration=kernel,
            is_causal=size.is_causal, backend=name,
        )
        for name in ("sdpa", "triton")
    }  # fmt: skip
    calls, refused = _able(size, calls, {})
    width = (1 + HARMONICS) * size.dim
    return Problem(leaves, calls, refused, _work(size, width, leaves, size.dim // 2))


OPERATORS: dict[str, Callable[[Size], Problem]] = {
    "softmax": softmax,
    "selective": selective,
    "selective-sparse": sparse,
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
