"""The figure of `benchmark kernels`: time over length, forward and with the backward pass."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from syncattn.analysis.style import (
    LABEL_FONT,
    MARKERS,
    SMALL_FONT,
    TITLE_FONT,
    clean_axes,
    colours,
    empty_figure,
    position,
)
from syncattn.benchmarks.kernels_report import Row, exponents

__all__ = ["kernels_figure"]

_PANEL, _LEFT, _TOP = (3.2, 2.7), 0.75, 0.65


def kernels_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Returns two panels of times on logarithmic axes, a line for each operator and backend.

    Args:
        rows: The rows; those that did not run are left out.
        title: The line above the panels.
    """
    figure = empty_figure(_LEFT + 2 * _PANEL[0] + 2.9, _TOP + _PANEL[1] + 0.65)
    ran = [row for row in rows if row.forward_seconds is not None]
    names = list(dict.fromkeys((row.operator, row.backend) for row in ran))
    colour = colours(dict.fromkeys(operator for operator, _ in names))
    growth = exponents(rows)
    panels = (("forward", "forward_seconds"), ("both", "both_seconds"))
    for place, (label, field) in enumerate(panels):
        axes = position(figure, _LEFT + place * (_PANEL[0] + 0.55), _TOP, *_PANEL)
        clean_axes(axes)
        for number, (operator, backend) in enumerate(names):
            mine = [r for r in ran if (r.operator, r.backend) == (operator, backend)]
            power = growth.get(f"{operator}/{backend}", {}).get(label)
            grown = "" if power is None else f" (N^{power:.2f})"
            axes.plot(
                [row.length for row in mine],
                [1e3 * getattr(row, field) for row in mine],
                marker=MARKERS[number % len(MARKERS)],
                color=colour[operator],
                linestyle="--" if "triton" in backend else "-",
                linewidth=1.1,
                markersize=4,
                label=f"{operator}, {backend}{grown}",
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("tokens", fontsize=LABEL_FONT)
        heading = "forward" if label == "forward" else "forward and backward"
        axes.set_title(heading, fontsize=TITLE_FONT, loc="left")
        if place == 0:
            axes.set_ylabel("milliseconds", fontsize=LABEL_FONT)
        elif names:
            axes.legend(
                fontsize=SMALL_FONT, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1.0)
            )
    figure.text(0.01, 0.985, title, fontsize=TITLE_FONT, va="top")
    return figure
