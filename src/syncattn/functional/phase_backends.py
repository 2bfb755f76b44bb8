"""The backends that the two torus operators share, and the precision of their features."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from syncattn._autocast import autocast_dtype
from syncattn._backends import Requirement
from syncattn._typing import Tensor
from syncattn.kernels import triton_requirements, with_triton
from syncattn.kernels.score import Score

_HALF = (torch.bfloat16, torch.float16)


def phase_backends(
    candidates: Mapping[str, tuple[Requirement, ...]],
    score: Score,
    needs: tuple[Requirement, ...] = (),
) -> dict[str, tuple[Requirement, ...]]:
    """Returns the backends of an operator with ``"triton"``, the preferred one first.

    Args:
        candidates: The other backends.
        score: What makes the weights.
        needs: What the operator itself asks of ``"triton"``.
    """
    phase = score.query_phase
    narrow = Requirement("a head of at most 128 coordinates", phase.shape[-1] <= 128)
    triton = triton_requirements(phase, score.key_phase, visibility=score.visibility)
    return with_triton(candidates, (*needs, narrow, *triton), phase)


def feature_dtype(phase: Tensor) -> torch.dtype:
    """Returns the dtype in which cosines and sines are multiplied, as autocast has it.

    Args:
        phase: The phases as they came.
    """
    chosen = None if phase.dtype in _HALF else autocast_dtype(phase)
    return phase.dtype if chosen is None else chosen
