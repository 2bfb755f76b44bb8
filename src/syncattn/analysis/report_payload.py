"""Weights and phases packed for the report's script: small whole numbers in base64."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from syncattn._typing import Tensor
from syncattn.analysis.observation import Observation, PhaseFilm
from syncattn.analysis.style import readable_character, to_numpy

__all__ = ["UNKNOWN", "chosen", "matrix_payload", "phase_payload", "token_labels"]

UNKNOWN = 65_535
"""Stands for NaN among unsigned numbers of 16 bits."""
_TOP = UNKNOWN - 1


def token_labels(text: bytes) -> list[str]:
    r"""Returns the bytes of a text as labels; a byte beyond ASCII as ``\x..``.

    Args:
        text: The text.
    """
    return [
        readable_character(chr(byte)) if byte < 128 else f"\\x{byte:02x}" for byte in text
    ]  # fmt: skip


def chosen(number: int, most: int) -> list[int]:
    """Returns evenly spread indices with the first and the last, all of them if they fit.

    Args:
        number: How many there are.
        most: How many may be chosen, at least 1.
    """
    if number <= most:
        return list(range(number))
    return sorted({round(i * (number - 1) / max(most - 1, 1)) for i in range(most)})


def matrix_payload(
    observation: Observation, layers: Sequence[int], heads: Sequence[int]
) -> dict[str, Any]:
    """Returns the weights, locked pairs and order parameters of some layers and heads.

    Args:
        observation: What a model did.
        layers: Indices of layers.
        heads: Indices of heads.

    Returns:
        Values JSON can hold. Weights lose what lies beyond 16 bits, but one above 0 stays above 0.
    """
    pictures = [observation.layers[number] for number in layers]
    weights = np.stack([to_numpy(p.weights)[heads] for p in pictures])
    whole = np.rint(weights * _TOP)
    whole = np.where((weights > 0) & (whole == 0), 1, whole)
    return {
        "layers": [number + 1 for number in layers],
        "heads": [number + 1 for number in heads],
        "tokens": token_labels(observation.text),
        "weights": _packed(whole.astype("<u2")),
        "visible": _bits(to_numpy(observation.visible)),
        "locked": _stack(pictures, heads, "locked"),
        "order": _stack(pictures, heads, "order_parameter"),
    }


def phase_payload(film: PhaseFilm, heads: Sequence[int], coordinates: int) -> dict[str, Any]:
    """Returns phases in steps of π / 32767, the first coordinates of some heads.

    Args:
        film: The phases.
        heads: Indices of heads.
        coordinates: How many coordinates of a head.

    Returns:
        Values JSON can hold; an unknown phase is −32768.
    """
    phase = to_numpy(film.phase)[:, list(heads), :, :coordinates]
    known = np.isfinite(phase)
    steps = np.where(known, np.rint(np.where(known, phase, 0) / np.pi * 32767), -32768)
    return {
        "shape": list(phase.shape),
        "heads": [number + 1 for number in heads],
        "moments": film.moments,
        "phase": _packed(steps.astype("<i2")),
    }


def _stack(pictures: Sequence[Any], heads: Sequence[int], name: str) -> str | None:
    parts: list[Tensor | None] = [getattr(p, name) for p in pictures]
    if any(part is None for part in parts):
        return None
    values = np.stack([to_numpy(part)[heads] for part in parts])
    if values.dtype == bool:
        return _bits(values)
    whole = np.where(np.isfinite(values), np.rint(np.nan_to_num(values).clip(0, 1) * _TOP), UNKNOWN)
    return _packed(whole.astype("<u2"))


def _bits(values: np.ndarray) -> str:
    return _packed(np.packbits(values.astype(bool).ravel(), bitorder="little"))


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
