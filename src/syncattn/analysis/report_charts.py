"""Charts of the report as SVG that follows the page's colours and needs no script."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import EngFormatter, MaxNLocator, ScalarFormatter

__all__ = ["TURN", "Frame", "Line", "chart", "swatch"]

Number = float | int
Ticks = Sequence[tuple[Number, str]]
TURN: Ticks = [(-math.pi, "−π"), (0.0, "0"), (math.pi, "π")]
"""Ticks of an axis of phase differences."""
_DASHES = ("", "6 3", "2 2", "8 3 2 3")


@dataclass(frozen=True)
class Line:
    """A line of a chart, with a band around it and thin lines behind it.

    Attributes:
        x: Where it has values.
        y: The values; one that is not finite leaves a gap.
        colour: Number of a colour of the page, from 0; also chooses dashes.
        low: Lower end of the band; none where None.
        high: Upper end of the band.
        thin: Further lines behind it, such as those of seeds.
        filled: Fill the room below the line.
        dots: Mark the points.
        solid: Draw no dashes, where no other line has to be told apart.
    """

    x: Sequence[Number]
    y: Sequence[Number]
    colour: int = 0
    low: Sequence[Number] | None = None
    high: Sequence[Number] | None = None
    thin: Sequence[tuple[Sequence[Number], Sequence[Number]]] = ()
    filled: bool = False
    dots: bool = False
    solid: bool = False


@dataclass(frozen=True)
class Frame:
    """The axes of a chart.

    Attributes:
        x_label: Under the horizontal axis.
        y_label: Above the vertical axis.
        x_limits: Ends of the horizontal axis; those of the lines when None.
        y_limits: Ends of the vertical axis; those of the lines, with some room, when None.
        x_ticks: Where it is labelled; at round numbers when None.
        upright: Positions of upright lines across the chart.
        size: Width and height in units of the picture, in which type is 11 high.
    """

    x_label: str = ""
    y_label: str = ""
    x_limits: tuple[Number, Number] | None = None
    y_limits: tuple[Number, Number] | None = None
    x_ticks: Ticks | None = None
    upright: Sequence[Number] = ()
    size: tuple[int, int] = (440, 250)


def chart(lines: Sequence[Line], frame: Frame, *, description: str) -> Markup:
    """Returns a chart.

    Args:
        lines: What is drawn, the last on top.
        frame: Its axes.
        description: What a reader who cannot see it should know.

    Returns:
        An ``<svg>`` element whose colours are the page's.

    Raises:
        ValueError: If there is nothing finite to draw.
    """
    place = _Place(lines, frame)
    width, height = frame.size
    parts = [*_axes(place, frame)]
    for x in frame.upright:
        left = place.across(x)
        parts.append(
            f'<line class="upright" x1="{left}" x2="{left}" y1="{place.top}" y2="{place.foot}"/>'
        )
    for line in lines:
        parts += _drawn(line, place)
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(width, height, description, Markup("".join(parts)))


def swatch(colour: int) -> Markup:
    """Returns a short piece of a line for a legend.

    Args:
        colour: As in `Line`.
    """
    return Markup(
        '<svg class="swatch" viewBox="0 0 26 10" aria-hidden="true">'
        '<g class="c{}"><path class="line" d="M1 5H25" {}/></g></svg>'
    ).format(colour % 8, _dashes(colour))


class _Place:
    """From values to the picture's units."""

    def __init__(self, lines: Sequence[Line], frame: Frame) -> None:
        columns = [line.y for line in lines]
        columns += [y for line in lines for y in (line.low, line.high) if y is not None]
        columns += [y for line in lines for _, y in line.thin]
        rows = [line.x for line in lines] + [x for line in lines for x, _ in line.thin]
        self.x = frame.x_limits or _ends(rows, 0.0)
        self.y = frame.y_limits or _ends(columns, 0.06)
        self.y_ticks = _round_ticks(*self.y, 4 if frame.size[1] < 200 else 6)
        width, height = frame.size
        self.left = 8 + 6.2 * max(len(text) for _, text in self.y_ticks)
        self.right, self.top = width - 10.0, 20.0 if frame.y_label else 8.0
        self.foot = height - (34.0 if frame.x_label else 20.0)

    def across(self, x: Number) -> float:
        low, high = self.x
        return round(self.left + (self.right - self.left) * (x - low) / (high - low), 1)

    def up(self, y: Number) -> float:
        low, high = self.y
        share = min(max((y - low) / (high - low), -1.0), 2.0)
        return round(self.foot - (self.foot - self.top) * share, 1)

    def points(self, x: Sequence[Number], y: Sequence[Number]) -> list[str]:
        """Returns the stretches of finite points, ready for a path."""
        pairs = [(a, b) for a, b in zip(x, y, strict=True)]
        stretches = itertools.groupby(pairs, key=lambda pair: math.isfinite(pair[1]))
        return [
            "L".join(f"{self.across(a)} {self.up(b)}" for a, b in stretch)
            for finite, stretch in stretches
            if finite
        ]


def _ends(columns: Sequence[Sequence[Number]], room: float) -> tuple[float, float]:
    values = np.concatenate([np.asarray(column, dtype=float) for column in columns] or [[]])
    values = values[np.isfinite(values)]
    if not values.size:
        raise ValueError("`lines` must hold a finite value; got none. Leave the chart out.")
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    return low - room * (high - low), high + room * (high - low)


def _round_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    values = [float(v) for v in MaxNLocator(most).tick_values(low, high) if low <= v <= high]
    if high >= 10_000:
        label = EngFormatter(sep="\N{NARROW NO-BREAK SPACE}")
        return [(v, label.format_data(v)) for v in values]
    plain = ScalarFormatter(useOffset=False, useMathText=False)
    plain.create_dummy_axis()
    plain.set_locs(values)
    return [(v, plain(v)) for v in values]


def _axes(place: _Place, frame: Frame) -> list[str]:
    ticks = frame.x_ticks
    if ticks is None:
        ticks = _round_ticks(*place.x, 4 if frame.size[0] < 300 else 6)
    parts = [
        f'<line class="rule" x1="{place.left}" x2="{place.right}" y1="{place.up(y)}" '
        f'y2="{place.up(y)}"/><text class="tick" x="{place.left - 4}" y="{place.up(y) + 3.5}" '
        f'text-anchor="end">{escape(text)}</text>'
        for y, text in place.y_ticks
    ]
    parts += [
        f'<text class="tick" x="{place.across(x)}" y="{place.foot + 14}" '
        f'text-anchor="middle">{escape(text)}</text>'
        for x, text in ticks
    ]
    parts.append(
        f'<line class="axis" x1="{place.left}" x2="{place.right}" y1="{place.foot}" '
        f'y2="{place.foot}"/>'
    )
    if frame.x_label:
        parts.append(
            f'<text class="label" x="{place.right}" y="{frame.size[1] - 4}" '
            f'text-anchor="end">{escape(frame.x_label)}</text>'
        )
    if frame.y_label:
        parts.append(f'<text class="label" x="2" y="11">{escape(frame.y_label)}</text>')
    return parts


def _drawn(line: Line, place: _Place) -> list[str]:
    parts = [f'<g class="c{line.colour % 8}">']
    if line.low is not None and line.high is not None:
        upper, lower = place.points(line.x, line.high), place.points(line.x, line.low)
        parts += [
            f'<path class="band" d="M{a}L{"L".join(reversed(b.split("L")))}Z"/>'
            for a, b in zip(upper, lower, strict=False)
        ]
    parts += [f'<path class="thin" d="M{d}"/>' for x, y in line.thin for d in place.points(x, y)]
    for d in place.points(line.x, line.y):
        if line.filled:
            first, last = d.split("L")[0].split()[0], d.split("L")[-1].split()[0]
            parts.append(f'<path class="band" d="M{d}L{last} {place.foot}L{first} {place.foot}Z"/>')
        dashes = "" if line.solid else _dashes(line.colour)
        parts.append(f'<path class="line" d="M{d}" {dashes}/>')
        if line.dots or "L" not in d:
            parts += [
                '<circle class="dot" cx="{}" cy="{}" r="2.4"/>'.format(*point.split())
                for point in d.split("L")
            ]
    return [*parts, "</g>"]


def _dashes(colour: int) -> Markup:
    dashes = _DASHES[colour % len(_DASHES)]
    return Markup('stroke-dasharray="{}"').format(dashes) if dashes else Markup("")
