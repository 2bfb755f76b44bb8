"""Selective synchronization as `benchmark kernels` times it: all pairs, and those that can lock."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from syncattn import explain_backend, functional
from syncattn._masks import Visibility
from syncattn.benchmarks.kernels_problem import (
    Call,
    Problem,
    Size,
    flexible,
    normal,
    problem_of,
    work_of,
)

__all__ = ["repeated", "selective", "sparse", "windowed"]

_COUPLINGS: dict[str, Any] = {"coupling_strength": 1.3, "coupling_decay": 0.5}
_INVERSE_THRESHOLD = 1 / 1.3**2

# Squared detunings lock below 0.78 at these couplings.
_REACH = 0.88

_REPEATS = 32

_ROWS = 1024


def _excess(squared: Tensor) -> Tensor:
    """Returns what is positive where squared detunings lock at these couplings."""
    return torch.exp(-squared) - _INVERSE_THRESHOLD * squared


def _calls(
    leaves: list[Tensor], is_causal: bool, backends: tuple[str, ...], **options: Any
) -> dict[str, Call]:
    frequency, value = leaves
    return {
        name: lambda name=name: functional.selective_synchronization(
            frequency, frequency, value, is_causal=is_causal, backend=name, **_COUPLINGS, **options
        )
        for name in backends
    }


def _planned(frequency: Tensor, is_causal: bool, backend: str, **options: Any) -> int:
    """Returns the pairs of the first head that a backend computes, locked or not."""
    part = frequency[:1, :1]
    with torch.no_grad():
        choice = explain_backend(
            part, part, is_causal=is_causal, backend=backend, **_COUPLINGS, **options
        )
    return choice.pairs[backend]


def _locked(frequency: Tensor, is_causal: bool) -> int:
    """Returns the visible pairs of the first head that lock, each token with itself among them."""
    omega = frequency[0, 0].detach().float()
    count = 0
    # A matrix of all pairs would take a gigabyte at the longest lengths.
    for start in range(0, len(omega), _ROWS):
        rows = omega[start : start + _ROWS]
        seen = omega[: start + len(rows)] if is_causal else omega
        away = torch.cdist(rows, seen, compute_mode="donot_use_mm_for_euclid_dist")
        near = _excess(away.square()) > 0
        count += int((near.tril(start) if is_causal else near).sum())
    return count


def _shares(size: Size, locked: int, planned: int) -> str:
    visible = size.length * (size.length + 1) / 2 if size.is_causal else size.length**2
    shares = f"{locked / visible:.1%} of the visible pairs lock"
    return f"{shares}; the plan computes {planned / visible:.1%}"


def selective(size: Size) -> Problem:
    """Returns selective synchronization of all pairs.

    Args:
        size: The size.
    """
    frequency, value = leaves = [normal(size, size.dim, size.dim**-0.5), normal(size, size.dim)]
    refused: dict[str, str] = {}
    calls = _calls(leaves, size.is_causal, ("blockwise", "triton", "reference"))
    calls["triton-kernel"] = _bare_kernel(frequency, value, size)
    if (attend := flexible(size, refused)) is not None:
        calls["flex"] = _by_score(attend, frequency, value)
    work = work_of(size, 2 * size.dim, leaves, size.dim)
    return problem_of(size, leaves, calls, work, dense=("reference",), refused=refused)


def _bare_kernel(frequency: Tensor, value: Tensor, size: Size) -> Call:
    """Returns the Triton kernels without the checks and the order parameter of the operator."""
    decay = torch.full((size.heads,), _COUPLINGS["coupling_decay"], device=size.device)
    g = torch.full(frequency.shape[:3], _INVERSE_THRESHOLD, device=size.device)
    visibility = Visibility(size.length, size.length, size.is_causal)

    def call() -> Tensor:
        module: Any = importlib.import_module("syncattn.kernels.selective_synchronization_triton")
        return module.selective_synchronization(
            frequency, frequency, value, g, decay, visibility=visibility, pruned=False,
            self_pairs=True, smoothing=0.0, edge_floor=1e-3,
        )[0]  # fmt: skip

    return call


def _by_score(attend: Callable[..., Tensor], frequency: Tensor, value: Tensor) -> Call:
    """Returns the same sums by FlexAttention, whose score becomes the logarithm of a strength."""

    def call() -> Tensor:
        norm = frequency.float().square().sum(-1)
        # Its backward pass adds to one place per tensor: read at two, a tensor must be two.
        other = norm.clone()

        def log_strength(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            u = (norm[b, h, i] + other[b, h, j] - 2 * score).clamp(min=0)
            u = torch.where(i == j, 0.0, u)
            q = _excess(u)
            log = 0.5 * torch.log(torch.where(q > 0, q, 1.0))
            return torch.where(q > 0, log, -torch.inf)

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
    leaves = [frequency, normal(size, size.dim)]
    calls = _calls(leaves, size.is_causal, ("pruned", "triton-pruned"))
    locked = _locked(frequency, size.is_causal)
    work = work_of(size, 2 * size.dim, leaves, size.dim, pairs=locked)
    note = _shares(size, locked, _planned(frequency, size.is_causal, "pruned"))
    return problem_of(size, leaves, calls, work, note=note)


def windowed(size: Size) -> Problem:
    """Returns selective synchronization of one coordinate, so spread that few pairs can lock.

    Args:
        size: The size; `live` is about the share of pairs that can.
    """
    shape = (size.batch, size.heads, size.length, 1)
    spread = torch.rand(shape, device=size.device) * (2 * _REACH / size.live)
    frequency = spread.to(size.dtype).requires_grad_()
    leaves = [frequency, normal(size, size.dim)]
    place = {"position_coordinate": 0}
    calls = _calls(leaves, size.is_causal, ("window", "triton-pruned"))
    calls |= _calls(leaves, size.is_causal, ("band",), **place)
    locked = _locked(frequency, size.is_causal)
    work = work_of(size, 1 + size.dim, leaves, size.dim, pairs=locked, equal_width=size.dim)
    note = _shares(size, locked, _planned(frequency, size.is_causal, "window"))
    return problem_of(size, leaves, calls, work, note=note)


def repeated(size: Size) -> Problem:
    """Returns selective synchronization of tokens that repeat, under no causal mask.

    Args:
        size: The size.
    """
    size = size._replace(is_causal=False)
    distinct = max(1, size.length // _REPEATS)
    few = normal(size._replace(length=distinct), size.dim, size.dim**-0.5).detach()
    index = torch.randint(distinct, (size.length,), device=size.device)
    frequency = few[:, :, index].requires_grad_()
    leaves = [frequency, normal(size, size.dim)]
    calls = _calls(leaves, False, ("repeats",))
    pairs = _planned(frequency, False, "repeats")
    work = work_of(size, 2 * size.dim, leaves, size.dim, pairs=pairs)
    return problem_of(
        size, leaves, calls, work, note=f"{_REPEATS} tokens of each frequency, without causal mask"
    )
