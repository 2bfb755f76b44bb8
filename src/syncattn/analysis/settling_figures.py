"""Figures of oscillator attention: how strongly oscillators are driven, and when they settle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from syncattn.analysis import style

__all__ = ["settling_curves"]


def settling_curves(
    drive: Any,
    settling_time: Any,
    *,
    angle: float = 0.01,
    names: Sequence[str] | None = None,
    title: str = "Drive and settling",
) -> Figure:
    """Draws how the drive of free oscillators spreads, and the share settled by time, by head.

    Args:
        drive: Rate of settling, ``(heads, oscillators)``; NaN for an oscillator without anchors.
        settling_time: Time to within the angle, the same shape; infinite without drive.
        angle: That angle in radians, for the caption.
        names: Names of the heads; numbers when None.
        title: The figure's title.

    Returns:
        The figure: drives on the left, settling on the right.

    Raises:
        ValueError: If shapes differ or there is no head.
    """
    rate, time = style.to_numpy(drive), style.to_numpy(settling_time)
    if rate.ndim != 2 or rate.shape != time.shape or not rate.size:
        raise ValueError(
            f"`drive` and `settling_time` must have one shape (heads, oscillators); got "
            f"{rate.shape} and {time.shape}. Index one sequence of the batch."
        )
    names = [f"head {n + 1}" for n in range(len(rate))] if names is None else names
    caption = (
        "Left: share of a head's oscillators with at most this drive, which is the rate at which "
        f"they settle. Right: share within {angle:g} radians of their equilibrium by time, in the "
        "inverse unit of the couplings. Oscillators without drive never settle."
    )
    figure, (left, right) = style.panels_in_rows(
        2, title, caption, panel_width=2.3, panel_height=1.7, row_height=2.3, right=1.0
    )
    colour = style.colours(names)
    finite = time[np.isfinite(time)]
    last = 1.05 * float(np.quantile(finite, 0.98)) if finite.size else 1.0
    for n, name in enumerate(names):
        known = np.sort(rate[n][np.isfinite(rate[n])])
        count = max(len(known), 1)
        dashes: Any = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))[n % 4]
        shared: dict[str, Any] = {"color": colour[name], "linewidth": 1.2, "linestyle": dashes}
        left.step(known, np.arange(1, len(known) + 1) / count, where="post", **shared)
        settled = np.sort(time[n][np.isfinite(time[n])])
        x = np.concatenate([[0.0], settled, [last]])
        y = np.concatenate([[0.0], np.arange(1, len(settled) + 1), [len(settled)]]) / count
        right.step(x, y, where="post", label=name, **shared)
    for axes, label in ((left, "drive"), (right, "time")):
        style.clean_axes(axes)
        axes.tick_params(labelleft=True)
        axes.set_ylim(0.0, 1.02)
        axes.set_xlabel(label, fontsize=style.SMALL_FONT)
        axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    right.set_xlim(0.0, last)
    left.set_ylabel("share of oscillators", fontsize=style.SMALL_FONT)
    right.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=style.SMALL_FONT, frameon=False
    )
    return figure
