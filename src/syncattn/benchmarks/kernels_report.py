"""The rows of `benchmark kernels`: what was measured, how it grows with the length, and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from syncattn.benchmarks.kernels_clock import Machine

__all__ = ["Row", "exponents", "table"]


class Row(NamedTuple):
    """One operator through one backend at one size; times in seconds.

    Attributes:
        operator: Its name.
        backend: Its backend.
        length: Tokens.
        head_dim: Width of a head.
        forward_seconds: Shortest time of the forward pass; None where it did not run.
        both_seconds: Of the forward and the backward pass.
        peak_bytes: Memory that both passes raise above what was in use.
        equal_width: Width at which softmax attention has as many multiply-adds.
        equal_forward_seconds: Time of SDPA at that width, measured in turn.
        equal_both_seconds: The same for both passes.
        compute_floor_seconds: Time of the forward products at the machine's matrix rate.
        memory_floor_seconds: Time to read the inputs and write the output once.
        refused: Why it did not run.
        note: What is special about the operands.
    """

    operator: str
    backend: str
    length: int
    head_dim: int
    forward_seconds: float | None = None
    both_seconds: float | None = None
    peak_bytes: float | None = None
    equal_width: int | None = None
    equal_forward_seconds: float | None = None
    equal_both_seconds: float | None = None
    compute_floor_seconds: float | None = None
    memory_floor_seconds: float | None = None
    refused: str | None = None
    note: str = ""

    @property
    def over_floor(self) -> float | None:
        """The forward time over the larger of its two floors."""
        floors = (self.compute_floor_seconds, self.memory_floor_seconds)
        known = [x for x in floors if x is not None]
        if self.forward_seconds is None or not known:
            return None
        return self.forward_seconds / max(known)

    @property
    def matrix_share(self) -> float | None:
        """The share of the machine's matrix rate that the forward products reach."""
        return _over(self.compute_floor_seconds, self.forward_seconds)

    @property
    def copy_share(self) -> float | None:
        """The share of the machine's copy bandwidth at which operands and output are moved."""
        return _over(self.memory_floor_seconds, self.forward_seconds)

    def record(self) -> dict[str, Any]:
        """Returns the fields and what follows from them, for JSON."""
        derived = ("matrix_share", "copy_share", "over_floor")
        return self._asdict() | {name: getattr(self, name) for name in derived}


def _over(x: float | None, y: float | None) -> float | None:
    return None if x is None or y is None else x / y


def exponents(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Returns the power of the length with which the times of each backend grow.

    It is the slope of a line fitted to the logarithms of time and length, for those with two
    lengths at least: 2 where every pair is computed, 1 where the work per token is constant.

    Args:
        rows: The rows.
    """
    found: dict[str, dict[str, float]] = {}
    for key in dict.fromkeys((row.operator, row.backend) for row in rows):
        mine = [row for row in rows if (row.operator, row.backend) == key]
        for name in ("forward_seconds", "both_seconds"):
            points = [
                (math.log(row.length), math.log(seconds))
                for row in mine
                if (seconds := getattr(row, name)) is not None
            ]
            if len({x for x, _ in points}) > 1:
                label = name.removesuffix("_seconds")
                found.setdefault("/".join(key), {})[label] = _slope(points)
    return found


def _slope(points: Sequence[tuple[float, float]]) -> float:
    middle = [sum(axis) / len(points) for axis in zip(*points, strict=True)]
    across = sum((x - middle[0]) * (y - middle[1]) for x, y in points)
    return across / sum((x - middle[0]) ** 2 for x, _ in points)


_HEADER = (
    "operator", "backend", "tokens", "forward ms", "both ms", "peak MB", "/ SDPA", "both / SDPA",
    "of matrix rate", "of copy rate", "over floor",
)  # fmt: skip


def table(rows: Sequence[Row], machine: Machine, device: str) -> str:
    """Returns the rows as a Markdown page.

    Args:
        rows: The rows.
        machine: What the device can do.
        device: The device in words.
    """
    lines = [
        "# Kernels",
        "",
        f"{machine.dtype} on {device}. A copy moves {machine.copy_bandwidth / 1e9:.3g} GB/s and a "
        f"product reaches {machine.matrix_rate / 1e12:.3g} Tflop/s; shares are of these. SDPA is "
        f"softmax attention of as many multiply-adds, measured in turn.",
        "",
        "| " + " | ".join(_HEADER) + " |",
        "|" + " -- |" * len(_HEADER),
    ]
    lines += [_line(row) for row in rows if row.forward_seconds is not None]
    growth = exponents(rows)
    if growth:
        lines += ["", "| time grows as tokens to the power | forward | both |", "| -- | -- | -- |"]
        lines += [
            f"| {name} | {e['forward']:.2f} | {e['both']:.2f} |" for name, e in growth.items()
        ]
    refused = {(r.operator, r.backend, r.refused): r.length for r in reversed(rows) if r.refused}
    if refused:
        lines += ["", "Not measured, from the length named on:", ""]
        lines += [
            f"- {operator}, {backend}, {length} tokens: {reason}"
            for (operator, backend, reason), length in reversed(refused.items())
        ]
    notes = {row.operator: row.note for row in rows if row.note}
    lines += [""] + [f"{operator}: {note}." for operator, note in notes.items()] if notes else []
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    forward, both = row.forward_seconds, row.both_seconds
    cells = (
        row.operator,
        row.backend,
        str(row.length),
        _number(forward, 1e3),
        _number(both, 1e3),
        _number(row.peak_bytes, 1e-6),
        _ratio(forward, row.equal_forward_seconds),
        _ratio(both, row.equal_both_seconds),
        _share(row.matrix_share),
        _share(row.copy_share),
        _ratio(row.over_floor, 1.0),
    )
    return "| " + " | ".join(cells) + " |"


def _number(x: float | None, scale: float) -> str:
    return "-" if x is None or math.isnan(x) else f"{x * scale:.3g}"


def _ratio(x: float | None, y: float | None) -> str:
    ratio = _over(x, y)
    return "-" if ratio is None else f"{ratio:.2f}"


def _share(x: float | None) -> str:
    return "-" if x is None else f"{x:.1%}"
