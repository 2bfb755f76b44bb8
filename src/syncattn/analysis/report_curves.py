"""The report's two large charts, learning and coherence by depth, each with its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from markupsafe import Markup

from syncattn.analysis.curves import CurveSummary, summarize_curves
from syncattn.analysis.observation import Observation
from syncattn.analysis.report_charts import Frame, Line, chart
from syncattn.analysis.style import colours
from syncattn.analysis.text_table import TextTable

__all__ = ["Charted", "colour_numbers", "learning_chart", "order_chart"]


class Charted(NamedTuple):
    """A chart with its title, caption, legend and the table of its numbers."""

    title: str
    caption: str
    picture: Markup
    legend: list[tuple[str, int]]
    table: TextTable


def colour_numbers(names: Sequence[str]) -> dict[str, int]:
    """Returns the number of the page's colour for every name; a mechanism keeps its own.

    Args:
        names: What is drawn.
    """
    palette = list(colours(str(n) for n in range(8)).values())
    return {name: palette.index(colour) for name, colour in colours(names).items()}


def learning_chart(curves: Mapping[str, Sequence[Mapping[str, Any]]], value: str) -> Charted | None:
    """Returns the learning curves: means over seeds with a band of one standard deviation.

    Args:
        curves: Points by arm; see `learning_curves`.
        value: The key of the value.

    Returns:
        The chart; None where no arm has a point.
    """
    summaries = summarize_curves(curves, value)
    if not summaries:
        return None
    number = colour_numbers(list(summaries))
    lines = [_learning_line(summary, number[name]) for name, summary in summaries.items()]
    label = value.replace("_", " ").replace("valid ", "validation ", 1)
    ends = [(f"{name}: {_end(summary)}", number[name]) for name, summary in summaries.items()]
    several = any(len(summary.seeds) > 1 for summary in summaries.values())
    seeds = (
        " Bands are one sample standard deviation over seeds, thin lines the seeds."
        if several
        else " One seed each, so how much seeds differ is not known."
    )
    picture = chart(
        lines,
        Frame("training tokens seen", label),
        description=f"Learning curves, {label} at the end: {'; '.join(e for e, _ in ends)}.",
    )
    return Charted(
        "Learning curves",
        f"{label.capitalize()} against the training tokens seen, with the last value beside each "
        f"name.{seeds}",
        picture,
        ends,
        _learning_table(summaries, label),
    )


def order_chart(observations: Mapping[str, Observation]) -> Charted | None:
    """Returns the order parameter of every model by layer, a band from head to head.

    Args:
        observations: What each model did with the text.

    Returns:
        The chart; None without oscillators.
    """
    number = colour_numbers(list(observations))
    lines: list[Line] = []
    rows: list[list[str]] = []
    legend: list[tuple[str, int]] = []
    for name, seen in observations.items():
        orders = [layer.order_parameter for layer in seen.layers]
        known = torch.stack([x.double().nanmean(-1) for x in orders if x is not None] or [
            torch.full((1,), math.nan)
        ])  # fmt: skip
        if not bool(known.isfinite().any()):
            continue
        mean, low, high = known.nanmean(-1), known.amin(-1), known.amax(-1)
        depth = list(range(1, len(known) + 1))
        lines.append(
            Line(depth, mean.tolist(), number[name], low.tolist(), high.tolist(), dots=True)
        )
        legend.append((name, number[name]))
        rows += [
            [name, str(n), *("–" if x.isnan() else f"{x:.3f}" for x in numbers)]
            for n, numbers in zip(depth, torch.stack([mean, low, high], 1), strict=True)
        ]
    if not lines:
        return None
    deepest = max(len(line.x) for line in lines)
    ticks = [(n, str(n)) for n in range(1, deepest + 1, max(1, deepest // 8))]
    frame = Frame("layer", "order parameter R", (0.9, deepest + 0.1), (0.0, 1.0), ticks)
    picture = chart(lines, frame, description="Order parameter by layer; numbers in the table.")
    return Charted(
        "Order parameter by depth",
        "How far the oscillators that a token meets in a layer agree: the mean over tokens and "
        "heads, with a band from the smallest head to the largest. What R is of differs between "
        "mechanisms; see each model below.",
        picture,
        legend,
        TextTable(
            "Order parameter by layer", ["model", "layer", "mean", "lowest", "highest"], rows
        ),
    )


def _learning_line(summary: CurveSummary, colour: int) -> Line:
    several = len(summary.seeds) > 1
    low = high = None
    if summary.deviation is not None:
        low = (summary.mean - summary.deviation).tolist()
        high = (summary.mean + summary.deviation).tolist()
    thin = [(seed.tokens.tolist(), seed.values.tolist()) for seed in summary.seeds]
    return Line(
        summary.tokens.tolist(), summary.mean.tolist(), colour, low, high,
        thin if several or not summary.tokens.size else (), dots=True,
    )  # fmt: skip


def _end(summary: CurveSummary) -> str:
    if not summary.tokens.size:
        return "seeds share no point"
    spread = "" if summary.deviation is None else f" ± {summary.deviation[-1]:.3f}"
    count = sum(seed.stopped for seed in summary.seeds)
    number = "one seed" if count == 1 else f"{count} seeds"
    stopped = f", {number} diverged" if count else ""
    return f"{summary.mean[-1]:.3f}{spread}{stopped}"


def _learning_table(summaries: Mapping[str, CurveSummary], label: str) -> TextTable:
    places = sorted({t for s in summaries.values() for t in s.tokens.tolist()})
    rows = [
        [f"{tokens:,.0f}", *(_at(summary, tokens) for summary in summaries.values())]
        for tokens in places
    ]
    return TextTable(f"{label.capitalize()} by training tokens", ["tokens", *summaries], rows)


def _at(summary: CurveSummary, tokens: float) -> str:
    found = summary.tokens == tokens
    if not found.any():
        return "–"
    spread = "" if summary.deviation is None else f" ± {float(summary.deviation[found][0]):.3f}"
    return f"{float(summary.mean[found][0]):.3f}{spread}"
