"""Scores of arms as dots: one per seed, a bar at the mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from syncattn.analysis import style

__all__ = ["score_dots"]

_ROW, _PANEL, _LABELS, _TOP, _BOTTOM = 0.19, 2.3, 2.1, 0.55, 0.5
_COLUMNS = 3


def score_dots(panels: Mapping[str, Mapping[str, Sequence[float]]], *, title: str) -> Figure:
    """Draws a panel per table and a row per arm.

    Args:
        panels: Scores of the seeds by the row's name, by the panel's title. An arm and its controls
            are told apart by a comma.
        title: Above everything.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no panel, or one without a score.
    """
    if not panels or not all(any(len(s) for s in rows.values()) for rows in panels.values()):
        raise ValueError(
            "`panels` must hold a table with a score, and no table without one; got "
            f"{ {name: len(rows) for name, rows in panels.items()} }. Leave empty ones out."
        )
    columns = min(_COLUMNS, len(panels))
    names = list(panels)
    bands = [names[i : i + columns] for i in range(0, len(names), columns)]
    heights = [_ROW * max(len(panels[name]) for name in band) for band in bands]
    width = columns * (_PANEL + _LABELS) + 0.4
    figure = style.empty_figure(width, sum(heights) + len(bands) * (_TOP + _BOTTOM) + 0.4)
    figure.text(
        0.02, 1 - 0.2 / figure.get_figheight(), title, fontsize=style.TITLE_FONT, va="center",
        parse_math=False,
    )  # fmt: skip
    top = 0.4
    for band, height in zip(bands, heights, strict=True):
        top += _TOP
        for column, name in enumerate(band):
            left = column * (_PANEL + _LABELS) + _LABELS
            _panel(figure, name, panels[name], (left, top, _PANEL, height))
        top += height + _BOTTOM
    return figure


def _panel(
    figure: Figure,
    name: str,
    rows: Mapping[str, Sequence[float]],
    place: tuple[float, float, float, float],
) -> None:
    axes = style.position(figure, *place)
    style.clean_axes(axes)
    colour = style.colours(dict.fromkeys(row.split(",")[0].split("-")[0] for row in rows))
    for y, (row, scores) in enumerate(rows.items()):
        own = colour[row.split(",")[0].split("-")[0]]
        filled = "," not in row
        values = np.asarray(scores, dtype=float)
        axes.plot(
            values, np.full(values.shape, y), "o", color=own, markersize=3.5,
            markerfacecolor=own if filled else "none", markeredgewidth=0.8,
        )  # fmt: skip
        if values.size:
            axes.plot([values.mean()] * 2, [y - 0.35, y + 0.35], color=own, linewidth=1.2)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=style.SMALL_FONT, parse_math=False)
    axes.tick_params(labelsize=style.SMALL_FONT)
    told = "\n".join(style.caption_lines(name, _PANEL))
    axes.set_title(told, fontsize=style.SMALL_FONT, parse_math=False)
    axes.grid(axis="x", linewidth=0.3)
