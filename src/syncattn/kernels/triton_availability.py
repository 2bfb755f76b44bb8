"""Whether the Triton kernels can run here, and why not; Triton is imported only to find out."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from syncattn._backends import Requirement
from syncattn._masks import Visibility
from syncattn._typing import Tensor

__all__ = ["triton_requirements", "with_triton"]

_OPERATOR = "syncattn.kernels.pairwise_operator_triton"
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_WIDEST = 256

# Triton reads it when it is imported, so it is read as early here.
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

_failures: dict[str, str | None] = {}


def triton_requirements(*tensors: Tensor, visibility: Visibility) -> tuple[Requirement, ...]:
    """Returns what the Triton kernels need for a call.

    The first call on a device runs tiny kernels there, forward and backward: a version of Triton
    that cannot compile them is found out then, and not in the middle of a training.

    Args:
        *tensors: The points of a call; all on one device.
        visibility: Who may see whom.
    """
    fits = Requirement(
        f"float32, bfloat16 or float16, at most {_WIDEST} wide",
        all(x.dtype in _FLOATS and 0 < x.shape[-1] <= _WIDEST for x in tensors),
    )
    plain = Requirement("no `attn_mask`", visibility.attn_mask is None)
    device = tensors[0].device
    there = Requirement(
        "tensors on a CUDA device", device.type == "cuda" or (_INTERPRETED and device.type == "cpu")
    )
    if not (fits.met and plain.met and there.met):
        return there, plain, fits
    failure = _failure(device)
    sentence = "a Triton that works here" + ("" if failure is None else f" ({failure})")
    return there, plain, fits, Requirement(sentence, failure is None)


def with_triton(
    candidates: Mapping[str, tuple[Requirement, ...]],
    requirements: tuple[Requirement, ...],
    like: Tensor,
) -> dict[str, tuple[Requirement, ...]]:
    """Returns the backends of an operator with ``"triton"`` among them: first only on CUDA.

    Args:
        candidates: The others, the preferred one first.
        requirements: What ``"triton"`` needs.
        like: A tensor of the call.
    """
    triton = {"triton": requirements}
    return {**triton, **candidates} if like.device.type == "cuda" else {**candidates, **triton}


def _failure(device: torch.device) -> str | None:
    """Returns why a tiny kernel fails on a device; None where it runs."""
    kind = device.type
    if torch.compiler.is_compiling() or _is_captured() or _is_faked():
        # A graph cannot hold the search, and tensors without numbers find nothing out; what an
        # eager call has found out, they can use.
        return _failures.get(kind, "it has not run eagerly in this process yet")
    if kind in _failures:
        return _failures[kind]
    failure = _failures[kind] = _try(device)
    if failure is not None and kind == "cuda":
        warnings.warn(
            f"The Triton kernels must compile for {device}; {failure}. Install the Triton of this "
            f"PyTorch, or go on: other backends compute the same.",
            RuntimeWarning,
            stacklevel=2,
        )
    return failure


def _is_captured() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _is_faked() -> bool:
    return isinstance(torch.empty(0, device="cpu"), FakeTensor)


def _try(device: torch.device) -> str | None:
    try:
        operator = importlib.import_module(_OPERATOR)
    except Exception as error:  # A broken installation can fail in any way.
        return f"importing it raised {type(error).__name__}: {error}"
    return _run(operator, device) if device.type == "cuda" else None


def _run(operator: Any, device: torch.device) -> str | None:
    """Returns why small kernels fail, forward or backward; None where they run."""
    try:
        # The caller may want no gradients now and ask for them later.
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.ones(1, 1, 16, 16, dtype=torch.bfloat16, device=device, requires_grad=True)
            ones = torch.ones(1, 1, 16, device=device)
            out, _ = operator.pair_sums(
                x, x, x, operator.Kernel("distance"), Visibility(16, 16), threshold=ones,
                stretch=ones[0, 0, :1],
            )  # fmt: skip
            torch.autograd.grad(out.sum(), x)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except Exception as error:  # Compilers and drivers raise what they like.
        return f"a small kernel raised {type(error).__name__}: {str(error)[:200]}"
    return None
