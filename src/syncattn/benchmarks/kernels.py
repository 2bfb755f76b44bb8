"""`benchmark kernels`: every operator, backend and length beside softmax attention, in one run."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from syncattn import _validation as check
from syncattn.analysis.plots import save_figure
from syncattn.benchmarks.environment import device_description, environment
from syncattn.benchmarks.folders import require_output
from syncattn.benchmarks.kernels_cases import OPERATORS, problem
from syncattn.benchmarks.kernels_clock import (
    Machine,
    measure_machine,
    peak_bytes,
    shortest_times,
)
from syncattn.benchmarks.kernels_figure import kernels_figure
from syncattn.benchmarks.kernels_problem import Problem, Size, normal
from syncattn.benchmarks.kernels_report import Row, exponents, table
from syncattn.benchmarks.passes import compiled_passes

__all__ = ["KernelsConfig", "run_kernels"]

Run = Callable[[], object]


@dataclass(frozen=True)
class KernelsConfig:
    """Which operators are timed, at which sizes, and where."""

    operators: tuple[str, ...] = ()
    """softmax, selective, selective-sparse, selective-window, selective-repeats, oscillator,
    kuramoto, frustrated; all when left out."""

    lengths: tuple[int, ...] = ()
    """Tokens, ascending; 512 to 2048 on a CPU and 4096 to 32768 on CUDA when left out."""

    head_dim: int = 64
    """Width of a head; even."""

    batch: int = 1
    """Sequences."""

    heads: int = 8
    """Heads."""

    is_causal: bool = True
    """Whether the future is hidden."""

    live: float = 0.05
    """Share of blocks that can lock in selective-sparse, about: a power of one half. In
    selective-window that of pairs."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the operands; bfloat16 on CUDA and float32 on a CPU when auto."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; CUDA where there is one when auto."""

    repeats: int = 3
    """How often each call is timed; the shortest counts."""

    seconds: float = 540.0
    """When to begin no new measurement; what is left out is listed."""

    output: Path = Path("runs/kernels")
    """Folder for kernels.json, kernels.md and the figure."""


def run_kernels(config: KernelsConfig) -> list[Path]:
    """Times the operators and writes a record, a table and a figure.

    The record and the table are written after every operator: what stops the run costs no figure
    that it had. How long the next length will take is told from the last one, the part that grows
    apart from what every length pays, such as a compiler.

    Args:
        config: What to time.

    Returns:
        The paths written: JSON, Markdown, PNG, SVG.

    Raises:
        ValueError: If a field does not fit, there is no such device, or the folder cannot be
            written.
        OSError: If the folder cannot be written.
    """
    started = time.perf_counter()
    device, dtype, lengths = _chosen(config)
    require_output(config.output)
    config.output.mkdir(parents=True, exist_ok=True)
    machine = measure_machine(device, dtype)
    rows: list[Row] = []
    costs: dict[str, tuple[int, float, float]] = {}
    for length in lengths:
        size = Size(
            config.batch, config.heads, length, config.head_dim, dtype, device, config.is_causal,
            config.live,
        )  # fmt: skip
        for name in config.operators or OPERATORS:
            left = config.seconds - (time.perf_counter() - started)
            last, once, growing = costs.get(name, (length, 0.0, 0.0))
            if left < once + growing * (length / last) ** 2:
                took = once + growing
                reason = f"{left:.0f} s were left, and {last} tokens took {took:.0f} s."
                rows.append(Row(name, "all", length, config.head_dim, refused=reason))
                continue
            begun = time.perf_counter()
            found = _measured(name, size, machine, config.repeats)
            took, growing = time.perf_counter() - begun, _growing(found, config.repeats)
            costs[name] = (length, max(0.0, took - growing), growing)
            rows += found
            _write(config, device, machine, rows, time.perf_counter() - started)
    figure = kernels_figure(rows, title=f"{machine.dtype} on {device_description(device)}")
    written = _write(config, device, machine, rows, time.perf_counter() - started)
    return written + save_figure(figure, config.output / "kernels")


def _growing(rows: list[Row], repeats: int) -> float:
    """Returns about how long the calls of a measurement took once nothing was to be prepared."""
    times = [
        seconds
        for row in rows
        for seconds in (row.forward_seconds, row.both_seconds, row.both_seconds)
        if seconds is not None
    ]
    return (repeats + 1) * sum(times)


def _chosen(config: KernelsConfig) -> tuple[torch.device, torch.dtype, list[int]]:
    """Returns device, dtype and lengths, checked."""
    for name in config.operators:
        check.require_choice(name, "operators", tuple(OPERATORS))
    for name in ("head_dim", "batch", "heads", "repeats"):
        check.require_integer(getattr(config, name), name, minimum=1)
    if config.head_dim % 2:
        raise ValueError(
            f"`head_dim` must be even, for phases fill half of it; got {config.head_dim}. Add one."
        )
    if not 0 < config.live <= 1:
        raise ValueError(f"`live` must be a share above 0; got {config.live}. Use 0.05.")
    for length in config.lengths:
        check.require_integer(length, "lengths", minimum=1)
    there = torch.cuda.is_available()
    if config.device == "cuda" and not there:
        raise ValueError("`device` must be there; got 'cuda' and no CUDA device. Use 'cpu'.")
    device = torch.device("cuda" if there and config.device != "cpu" else "cpu")
    standard = "bfloat16" if device.type == "cuda" else "float32"
    dtype: torch.dtype = getattr(torch, standard if config.dtype == "auto" else config.dtype)
    usual = (4096, 8192, 16384, 32768) if device.type == "cuda" else (512, 1024, 2048)
    return device, dtype, sorted(set(config.lengths or usual))


def _measured(name: str, size: Size, machine: Machine, repeats: int) -> list[Row]:
    """Returns one row for each backend of an operator at one size."""
    case = problem(name, size)
    rows = [
        Row(name, backend, size.length, size.dim, refused=reason, note=case.note)
        for backend, reason in case.refused.items()
    ]
    if not case.calls:
        return rows
    leaves = list(case.leaves)
    # Softmax of as many multiply-adds runs in turn with the others, under a name that none has.
    equal = _softmax(case)
    forwards = _with_passes(name, size, {n: _forward(c) for n, c in case.calls.items()})
    both = _with_passes(name, size, {n: _both(c, leaves) for n, c in case.calls.items()})
    backends = list(forwards)
    forwards["="], both["="] = _forward(equal[0]), _both(*equal)
    forward = shortest_times(forwards, size.device, repeats)
    training = shortest_times(both, size.device, repeats)
    for backend in backends:
        work = case.work
        rows.append(
            Row(
                name,
                backend,
                size.length,
                size.dim,
                forward_seconds=forward[backend],
                both_seconds=training[backend],
                peak_bytes=peak_bytes(both[backend], size.device),
                equal_width=work.equal_width,
                equal_forward_seconds=forward["="],
                equal_both_seconds=training["="],
                compute_floor_seconds=2 * work.multiply_adds / machine.matrix_rate,
                memory_floor_seconds=work.bytes / machine.copy_bandwidth,
                note=case.note,
            )
        )
    return rows


def _softmax(case: Problem) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """Returns SDPA of the width at which it has as many multiply-adds, and its operands."""
    # Fused kernels want multiples of 8.
    size, width = case.size, 8 * -(-case.work.equal_width // 8)
    query, key, value = leaves = [normal(size, width) for _ in range(3)]
    return lambda: scaled_dot_product_attention(query, key, value, is_causal=size.is_causal), leaves


def _with_passes(name: str, size: Size, runs: dict[str, Run]) -> dict[str, Run]:
    """Returns the runs, and those that the compiled passes of a CPU shorten with them too."""
    if name == "softmax" or size.device.type != "cpu" or size.dtype != torch.float32:
        return runs
    with compiled_passes(True) as compiled:
        if not compiled:
            return runs

    def passed(run: Run) -> Run:
        def switched() -> None:
            with compiled_passes(True):
                run()

        return switched

    mine = ("blockwise", "pruned", "window", "band", "sdpa")
    return runs | {f"{n}, compiled": passed(run) for n, run in runs.items() if n in mine}


def _forward(call: Callable[[], Tensor]) -> Run:
    def run() -> None:
        with torch.no_grad():
            call()

    return run


def _both(call: Callable[[], Tensor], leaves: list[Tensor]) -> Run:
    def run() -> None:
        out = call()
        torch.autograd.grad(out, leaves, torch.ones_like(out))

    return run


def _write(
    config: KernelsConfig,
    device: torch.device,
    machine: Machine,
    rows: list[Row],
    seconds: float,
) -> list[Path]:
    record: dict[str, Any] = {
        "command": shlex.join(sys.argv),
        "config": asdict(config) | {"output": str(config.output)},
        "machine": machine._asdict(),
        "rows": [row.record() for row in rows],
        "exponents": exponents(rows),
        "wall_seconds": seconds,
    } | environment(device)
    written = [config.output / "kernels.json", config.output / "kernels.md"]
    written[0].write_text(json.dumps(record, indent=1), encoding="utf-8")
    written[1].write_text(table(rows, machine, record["device"]), encoding="utf-8")
    return written
