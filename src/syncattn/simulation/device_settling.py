"""How long settling takes: per token, and in what a model scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from syncattn._typing import Int, Tensor
from syncattn.functional.oscillator_diagnostics import SettlingDiagnostics
from syncattn.simulation.device_layers import on_device, oscillator_layers
from syncattn.simulation.devices import Device

__all__ = [
    "SettlingPoint",
    "bits_per_token",
    "model_diagnostics",
    "settling_curve",
    "settling_summary",
]

Metric = Callable[[nn.Module, Sequence[Any]], float]


@torch.no_grad()
def model_diagnostics(
    model: nn.Module, *inputs: Any, angle: float = 0.01, **keywords: Any
) -> dict[str, SettlingDiagnostics]:
    """Runs a model once and returns how the oscillators of every layer settle.

    Args:
        model: A model or a layer.
        *inputs: Its inputs.
        angle: Distance in radians from the equilibrium that counts as settled.
        **keywords: Its keyword arguments.

    Returns:
        Drive, order parameter, settling time and warnings of every token, by name of the layer.

    Raises:
        ValueError: If there is no oscillator attention.
    """
    found: dict[str, SettlingDiagnostics] = {}

    def watch(name: str) -> Any:
        def look(layer: Any, inputs: Any, keywords: Any) -> None:
            found[name] = layer.diagnostics(*inputs, angle=angle, **keywords)

        return look

    handles = [
        layer.register_forward_pre_hook(watch(name), with_kwargs=True)
        for name, layer in oscillator_layers(model).items()
    ]
    try:
        model(*inputs, **keywords)
    finally:
        for handle in handles:
            handle.remove()
    return found


def settling_summary(diagnostics: SettlingDiagnostics) -> dict[str, float]:
    """Returns quantiles of drive, order parameter and settling time, and the shares in trouble.

    Args:
        diagnostics: Of one layer.

    Returns:
        Numbers by name, over the oscillators that see an anchor; quantiles are NaN without one.
    """
    coupled = diagnostics.coupled
    found: dict[str, float] = {}
    for name in ("drive", "order_parameter", "settling_time"):
        values = getattr(diagnostics, name)[coupled].sort().values
        for level in (0.001, 0.01, 0.5, 0.99):
            # The nearest value: between a finite and an infinite time there is no mean. Sorted by
            # hand, because torch's own quantile takes no more than 2^24 values.
            place = round(level * (values.numel() - 1))
            found[f"{name}_quantile_{level:g}"] = (
                float(values[place]) if values.numel() else math.nan
            )
    total = max(diagnostics.num_coupled, 1)
    return found | {
        "near_degenerate_share": diagnostics.num_near_degenerate / total,
        "near_antipode_share": diagnostics.num_near_antipode / total,
    }


@torch.no_grad()
def bits_per_token(model: nn.Module, batches: Iterable[Int[Tensor, "batch window"]]) -> float:
    """Returns the mean cost of the next token in bits; bits per byte where tokens are bytes.

    Args:
        model: A causal language model of Transformers.
        batches: Windows of tokens; all but the first of each are predicted.

    Returns:
        Bits per token.
    """
    nats, count = 0.0, 0
    for batch in batches:
        windows = batch.to(next(model.parameters()).device)
        logits = model(input_ids=windows[:, :-1]).logits.float()
        targets = windows[:, 1:].flatten()
        nats += cross_entropy(logits.flatten(0, 1), targets, reduction="sum").item()
        count += targets.numel()
    return nats / count / math.log(2)


class SettlingPoint(NamedTuple):
    """One point of a settling curve.

    Attributes:
        time: Settling time; infinite for the settled layer.
        values: The metric, one per seed.
    """

    time: float
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return sum(self.values) / len(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds; None for one."""
        n = len(self.values)
        if n == 1:
            return None
        return math.sqrt(sum((v - self.mean) ** 2 for v in self.values) / (n - 1))


def settling_curve(
    model: nn.Module,
    batches: Sequence[Any],
    times: Sequence[float],
    *,
    metric: Metric = bits_per_token,
    seeds: Sequence[int] = (0,),
    device: Device | None = None,
) -> list[SettlingPoint]:
    """Returns a metric of a model against the time its oscillators are given.

    Args:
        model: A model with oscillator attention.
        batches: What the metric is taken on.
        times: Settling times; infinity is the settled layer.
        metric: From model and batches to a number; bits per token by default.
        seeds: Seeds of the starts.
        device: Other imperfections, and whether starts are random or the previous token's state;
            a perfect device with random starts when None.

    Returns:
        One point per time.

    Raises:
        ValueError: If there are no times, seeds or batches, or a time is negative.
    """
    for name, sequence in (("times", times), ("seeds", seeds), ("batches", batches)):
        if len(sequence) == 0:
            raise ValueError(f"`{name}` must hold at least one entry; got none. Add one.")
    points: list[SettlingPoint] = []
    for time in times:
        settling_time = None if math.isinf(time) else time
        timed = replace(device or Device(), settling_time=settling_time)
        values: list[float] = []
        for seed in seeds:
            with torch.no_grad(), on_device(model, timed, seed=seed):
                values.append(metric(model, batches))
        points.append(SettlingPoint(time, tuple(values)))
    return points
