"""How a trained model bears an imperfect device: robustness panels, settling curve, histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from syncattn.analysis import style

__all__ = ["robustness_panels", "settling_figure"]

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#666666"
_COLUMNS = 3
_WIDTH, _TALL, _LOW = 2.5, 1.55, 0.95
_LEFT, _GAP, _ROW = 0.75, 0.75, 3.3


def robustness_panels(
    sweeps: Sequence[Mapping[str, Any]],
    *,
    baseline: float,
    score: str = "bits per byte",
    title: str = "Robustness to an imperfect device",
) -> Figure:
    """Draws one pair of panels per non-ideality: what it costs, and how far it turns the states.

    Args:
        sweeps: One per non-ideality: `label` (of the horizontal axis), `log` (whether that axis is
            logarithmic), and `points` with `value`, `scores` (one per seed), and, where they are
            known, `rms_angle`, `predicted_rms_angle` and `median_angle` in radians.
        baseline: The score of the perfect device.
        score: What the score is.
        title: The figure's title.

    Returns:
        The figure.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not sweeps or not all(sweep["points"] for sweep in sweeps):
        raise ValueError(
            f"`sweeps` must hold at least one, each with points; got {len(sweeps)}. Leave out what "
            f"has no points."
        )
    columns = min(_COLUMNS, len(sweeps))
    rows = math.ceil(len(sweeps) / columns)
    width = _LEFT + columns * _WIDTH + (columns - 1) * _GAP + 0.3
    seeds = len(sweeps[0]["points"][0]["scores"])
    lines = style.caption_lines(_panels_caption(score, seeds), width - 0.6)
    height = 0.55 + rows * _ROW + 0.15 + style.CAPTION_LINE * len(lines)
    figure = style.empty_figure(width, height)
    figure.text(0.3 / width, 1 - 0.28 / height, title, fontsize=style.TITLE_FONT, parse_math=False)
    for index, sweep in enumerate(sweeps):
        row, column = divmod(index, columns)
        left = _LEFT + column * (_WIDTH + _GAP)
        top = 0.55 + row * _ROW
        upper = style.position(figure, left, top, _WIDTH, _TALL)
        lower = style.position(figure, left, top + _TALL + 0.15, _WIDTH, _LOW)
        _scores(upper, sweep, baseline)
        _angles(lower, sweep)
        if column == 0:
            upper.set_ylabel(score, fontsize=style.LABEL_FONT)
            lower.set_ylabel("angle (rad)", fontsize=style.LABEL_FONT)
    style.add_caption(figure, lines, left=0.3)
    return figure


def _panels_caption(score: str, seeds: int) -> str:
    text = (
        f"Upper panels: {score} of the trained model on the device (lower is better); dashed, the "
        "perfect device. Lower panels: angle between a reading and the ideal settled state. "
        "Circles (simulated) and line (predicted to first order) are rms values over the "
        "oscillators for which the prediction is below 0.5 rad; none where there are none. Dotted: "
        "the median angle over all oscillators."
    )
    if seeds > 1:
        text += (
            f" Each point is the mean of {seeds} seeds (chips and noise), the band one sample "
            "standard deviation, dots the seeds."
        )
    return text


def _scores_with_band(
    axes: Axes, points: Sequence[Mapping[str, Any]], key: str, colour: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws one sample deviation around the mean and returns places, scores by seed and means."""
    x = np.array([point[key] for point in points], dtype=float)
    scores = np.array([point["scores"] for point in points], dtype=float)
    mean = scores.mean(1)
    if scores.shape[1] > 1:
        deviation = scores.std(1, ddof=1)
        axes.fill_between(x, mean - deviation, mean + deviation, color=colour, alpha=0.2, lw=0)
    return x, scores, mean


def _scores(axes: Axes, sweep: Mapping[str, Any], baseline: float) -> None:
    x, scores, mean = _scores_with_band(axes, sweep["points"], "value", _BLUE)
    if scores.shape[1] > 1:
        repeated = np.repeat(x, scores.shape[1])
        axes.plot(repeated, scores.ravel(), ".", color=_BLUE, markersize=2, alpha=0.6)
    axes.plot(x, mean, "o-", color=_BLUE, markersize=3.5, linewidth=1.3)
    axes.axhline(baseline, color=_GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    _horizontal(axes, sweep, x)
    axes.tick_params(labelbottom=False)
    # What stays within a hundredth of a bit is flat, not a mountain of rounding.
    low, high = min(scores.min(), baseline), max(scores.max(), baseline)
    room = max(0.08 * (high - low), 0.01)
    axes.set_ylim(low - room, high + room)
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _angles(axes: Axes, sweep: Mapping[str, Any]) -> None:
    points = sweep["points"]
    x = np.array([point["value"] for point in points], dtype=float)
    found = {
        key: np.array([_positive(point.get(key)) for point in points])
        for key in ("predicted_rms_angle", "rms_angle", "median_angle")
    }
    axes.plot(x, found["median_angle"], color=_GREY, linewidth=0.9, linestyle=":")
    axes.plot(x, found["predicted_rms_angle"], color=_ORANGE, linewidth=1.2)
    axes.plot(x, found["rms_angle"], "o", color=_BLUE, markerfacecolor="white", markersize=4)
    if not any(np.isfinite(y).any() for y in found.values()):
        axes.text(
            0.5, 0.5, "the states are read exactly", transform=axes.transAxes, ha="center",
            va="center", fontsize=style.SMALL_FONT, color=_GREY,
        )  # fmt: skip
    _horizontal(axes, sweep, x)
    axes.set_xlabel(sweep["label"], fontsize=style.LABEL_FONT)
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 4)
    axes.yaxis.set_major_locator(FixedLocator([1e-3, 1e-2, 1e-1, 1]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _positive(value: Any) -> float:
    number = math.nan if value is None else float(value)
    return number if number > 0 else math.nan


def _horizontal(axes: Axes, sweep: Mapping[str, Any], x: np.ndarray) -> None:
    style.clean_axes(axes)
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    axes.set_axisbelow(True)
    # Both panels of a pair share an axis, whatever is missing in one of them.
    if sweep.get("log", True):
        axes.set_xscale("log")
        room = (x.max() / x.min()) ** 0.05 if x.max() > x.min() else 1.5
        axes.set_xlim(x.min() / room, x.max() * room)
    else:
        room = 0.05 * (x.max() - x.min()) or 1.0
        axes.set_xlim(x.min() - room, x.max() + room)
    axes.xaxis.set_major_locator(FixedLocator(x.tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def settling_figure(
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    layers: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    baseline: float,
    median_rate: float,
    score: str = "bits per byte",
    title: str = "Settling time",
) -> Figure:
    """Draws the score against the settling time, and how fast the oscillators of each layer settle.

    Args:
        curves: Points by kind of start, with `time` and `scores` (one per seed).
        layers: By layer the `drive` and the `order_parameter` of its oscillators.
        baseline: The score when everything has settled.
        median_rate: Median drive over all layers; its inverse is the unit of the upper axis.
        score: What the score is.
        title: The figure's title.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no curve or no layer.
    """
    if not curves or not layers:
        raise ValueError(
            f"`curves` and `layers` must hold at least one entry each; got {len(curves)} and "
            f"{len(layers)}. Pass a curve and the drives of a layer."
        )
    width, height = 9.9, 2.5
    text = (
        f"Left: {score} when the oscillators are read after a time, dashed when all have settled; "
        f"upper axis in units of the median settling rate ({median_rate:.3g}). Middle: the rate "
        "at which an oscillator settles. Right: how well the anchors that pull at it agree; near "
        "0 they cancel. Bands are one sample standard deviation over the seeds."
    )
    lines = style.caption_lines(text, width - 0.6)
    figure = style.empty_figure(width, 1.0 + height + 0.65 + style.CAPTION_LINE * len(lines))
    figure.text(
        0.3 / width, 1 - 0.28 / figure.get_figheight(), title, fontsize=style.TITLE_FONT,
        parse_math=False,
    )  # fmt: skip
    axes = style.position(figure, _LEFT, 0.95, 3.3, height)
    _curves(axes, curves, baseline, median_rate)
    axes.set_ylabel(score, fontsize=style.LABEL_FONT)
    for index, (key, label) in enumerate((
        ("drive", "settling rate K"), ("order_parameter", "order parameter ρ"),
    )):  # fmt: skip
        panel = style.position(figure, _LEFT + 3.95 + 2.75 * index, 0.95, 2.2, height)
        _histogram(panel, {name: layer[key] for name, layer in layers.items()}, key == "drive")
        panel.set_xlabel(label, fontsize=style.LABEL_FONT)
        if index == 0:
            panel.set_ylabel("share of oscillators (%)", fontsize=style.LABEL_FONT)
            panel.legend(fontsize=style.SMALL_FONT, frameon=False, loc="upper left")
    style.add_caption(figure, lines, left=0.3)
    return figure


def _curves(
    axes: Axes, curves: Mapping[str, Sequence[Mapping[str, Any]]], baseline: float, rate: float
) -> None:
    style.clean_axes(axes)
    for (name, points), colour, marker in zip(
        curves.items(), (_BLUE, _ORANGE, _GREY), style.MARKERS, strict=False
    ):
        x, _, mean = _scores_with_band(axes, points, "time", colour)
        axes.plot(x, mean, color=colour, marker=marker, markersize=3.5, linewidth=1.3, label=name)
    axes.axhline(baseline, color=_GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_xscale("log")
    axes.set_xlabel("settling time (inverse unit of the couplings)", fontsize=style.LABEL_FONT)
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    axes.set_axisbelow(True)
    axes.legend(
        title="start", title_fontsize=style.SMALL_FONT, fontsize=style.SMALL_FONT, frameon=False
    )

    def scaled(time: Any) -> Any:
        return time * rate

    def unscaled(units: Any) -> Any:
        return units / rate

    second = axes.secondary_xaxis("top", functions=(scaled, unscaled))
    second.tick_params(labelsize=style.SMALL_FONT, width=0.6, length=2.5)
    second.set_xlabel("time × median K", fontsize=style.LABEL_FONT)


def _histogram(axes: Axes, layers: Mapping[str, Sequence[float]], logarithmic: bool) -> None:
    style.clean_axes(axes)
    values = {name: style.to_numpy(layer).astype(float).ravel() for name, layer in layers.items()}
    values = {name: layer[np.isfinite(layer)] for name, layer in values.items()}
    everything = np.concatenate(list(values.values()))
    if logarithmic:
        everything = everything[everything > 0]
        low, high = np.quantile(everything, 0.0005), everything.max()
        bins = np.geomspace(low / 1.05, high * 1.05, 41)
        axes.set_xscale("log")
    else:
        bins = np.linspace(0, max(1.0, float(everything.max())), 41)
    supply = (_BLUE, _ORANGE, "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
    for index, (name, layer) in enumerate(values.items()):
        clipped = np.clip(layer, bins[0], bins[-1])
        axes.hist(
            clipped, bins=bins.tolist(), weights=np.full(layer.size, 100 / max(layer.size, 1)),
            histtype="step", color=supply[index % len(supply)], linewidth=1.2, label=name,
        )  # fmt: skip
