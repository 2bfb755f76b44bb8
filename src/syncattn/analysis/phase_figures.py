"""Figures of torus layers: coupling functions, frustration, order by layer, loss by copy depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from syncattn.analysis import style
from syncattn.analysis.copy_depth import Bin
from syncattn.analysis.coupling import CouplingFunctions, FrustrationParts

__all__ = ["coupling_curves", "frustration_histograms", "loss_curves", "order_curves"]

_TURN = [-math.pi, -math.pi / 2, 0.0, math.pi / 2, math.pi]
_TURN_LABELS = ["−π", "−π/2", "0", "π/2", "π"]
_LEFT, _TOP = 0.65, 0.42
_DELAYS = ("the token seen (delay 0)", "its successor (delay 1)")


def coupling_curves(functions: CouplingFunctions, *, title: str = "Coupling functions") -> Figure:
    r"""Draws the coupling function of every head over the phase difference, one line per delay.

    Args:
        functions: What `coupling_functions` returned.
        title: The figure's title.

    Returns:
        The figure, one panel per head, four in a row.
    """
    pull = style.to_numpy(functions.pull)
    heads, delays, _ = pull.shape
    colour = style.colours(f"delay {s}" for s in range(delays))
    named = [_DELAYS[s] if s < len(_DELAYS) else f"delay {s}" for s in range(delays)]
    lines = ", ".join(f"{_line_name(s)} {name}" for s, name in enumerate(named))
    caption = (
        f"Pull on a token by phase difference φ: {lines}. Above zero at φ > 0 attracts. α is "
        f"the angle of the mean first harmonic, in radians; the percentages are harmonics "
        f"{', '.join(str(m + 1) for m in range(functions.strength.shape[2]))} in the strength. "
        f"Bands hold the middle 80 percent of coordinates."
    )
    height = 1.35 + 0.13 * delays
    figure, panels = style.panels_in_rows(
        heads, title, caption, panel_height=1.35, row_height=height + 0.5
    )
    limit = 1.1 * max(float(np.abs(style.to_numpy(functions.lower)).max()),
                      float(np.abs(style.to_numpy(functions.upper)).max()), 1e-6)  # fmt: skip
    phi = style.to_numpy(functions.phase_difference)
    for head, axes in enumerate(panels):
        axes.axhline(0.0, color="#999999", linewidth=0.6)
        axes.axvline(0.0, color="#999999", linewidth=0.6)
        notes: list[str] = []
        for s in range(delays):
            tint = colour[f"delay {s}"]
            low, high = (
                style.to_numpy(x)[head, s] for x in (functions.lower, functions.upper)
            )  # fmt: skip
            axes.fill_between(phi, low, high, color=tint, alpha=0.15, linewidth=0)
            axes.plot(phi, pull[head, s], color=tint, linewidth=1.3, linestyle=_LINES[s % 4])
            notes.append(_note(functions, head, s))
        axes.set_ylim(-limit, limit)
        _turn_axis(axes)
        if head % 4 == 0:
            axes.set_ylabel("pull in radians", fontsize=style.SMALL_FONT)
        axes.set_title(f"head {head + 1}", fontsize=style.LABEL_FONT, loc="left", pad=3)
        axes.set_xlabel("\n".join(notes), fontsize=style.CELL_FONT + 0.5, linespacing=1.3)
    return figure


def frustration_histograms(
    parts: FrustrationParts, *, title: str = "Frustration of the delayed term"
) -> Figure:
    """Draws how the data's transitions spread and where the kernel's own angle lies, by head.

    Args:
        parts: What `frustration_parts` returned.
        title: The figure's title.

    Returns:
        The figure, one panel per head, four in a row.
    """
    edges, count = style.to_numpy(parts.bin_edges), style.to_numpy(parts.transition_count)
    colour = style.colours(["data", "kernel"])
    caption = (
        "Share of the data's transitions δ by angle (bars) and the kernel's static angle α (line), "
        "in radians. The delayed coupling turns by α + δ. R is the concentration: 1 when all "
        "angles are alike, 0 when they spread over the circle."
    )
    figure, panels = style.panels_in_rows(
        len(count), title, caption, panel_height=1.35, row_height=2.1
    )
    angles, spread = (style.to_numpy(x) for x in (parts.static_angle, parts.static_concentration))
    shares = count / np.maximum(count.sum(1, keepdims=True), 1)
    for head, axes in enumerate(panels):
        axes.stairs(shares[head], edges, fill=True, color=colour["kernel"], alpha=0.55)
        static = float(angles[head])
        axes.axvline(static, color=colour["data"], linewidth=1.3, linestyle=(0, (4, 2)))
        axes.set_ylim(0.0, 1.15 * float(shares.max()) + 1e-9)
        _turn_axis(axes)
        if head % 4 == 0:
            axes.set_ylabel("share", fontsize=style.SMALL_FONT)
        axes.set_title(f"head {head + 1}", fontsize=style.LABEL_FONT, loc="left", pad=3)
        axes.set_xlabel(
            f"α {static:+.2f}, R {float(spread[head]):.2f}\n"
            f"δ {float(parts.transition_angle[head]):+.2f}, "
            f"R {float(parts.transition_concentration[head]):.2f}",
            fontsize=style.CELL_FONT + 0.5, linespacing=1.3,
        )  # fmt: skip
    return figure


def order_curves(order: Any, *, title: str = "Order parameter by layer") -> Figure:
    """Draws how far tokens agree before each layer and after the last, one line per harmonic.

    Args:
        order: What `order_by_layer` returned, ``(layers, harmonics)``.
        title: The figure's title.

    Returns:
        The figure.
    """
    values = style.to_numpy(order)
    names = [f"harmonic {m + 1}" for m in range(values.shape[1])]
    caption = (
        "Coherence of the tokens' phases, averaged over coordinates: 1 when the m-th multiples of "
        "all phases agree. Depth 0 is the embedding."
    )
    curves = {name: (np.arange(len(values)), values[:, m]) for m, name in enumerate(names)}
    figure, axes = _lines(curves, title, caption)
    axes.set_xticks(range(len(values)))
    axes.set_xlabel("layers passed", fontsize=style.LABEL_FONT)
    axes.set_ylabel("coherence", fontsize=style.LABEL_FONT)
    axes.set_ylim(0.0, 1.0)
    return figure


def loss_curves(
    bins: Mapping[str, Sequence[Bin]],
    *,
    over: str = "copy depth",
    title: str = "Loss by copy depth",
) -> Figure:
    """Draws the loss of several models in the bins of copy depth or distance.

    Args:
        bins: What `loss_by_copy_depth` or `loss_by_distance` returned, by model.
        over: What the bins are of.
        title: The figure's title.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no model, or models differ in their bins.
    """
    if not bins:
        raise ValueError("`bins` must hold at least one model; got none. Pass its bins.")
    labels = [[b.name for b in found] for found in bins.values()]
    if any(label != labels[0] for label in labels):
        raise ValueError(
            f"`bins` must be the same for all models; got {labels}. Compute them with one set of "
            f"edges."
        )
    first = next(iter(bins.values()))
    caption = (
        f"Mean loss in nats per token by {over}; below each bin the number of tokens. Bars are "
        f"standard errors as if tokens were independent."
    )
    curves = {
        name: (np.arange(len(found)), np.array([b.mean for b in found]))
        for name, found in bins.items()
    }
    figure, axes = _lines(curves, title, caption, width=max(4.2, 0.62 * len(first)), below=0.3)
    colour = style.colours(bins)
    for name, found in bins.items():
        error = np.array([b.error for b in found])
        axes.errorbar(
            np.arange(len(found)), [b.mean for b in found], yerr=np.nan_to_num(error),
            fmt="none", ecolor=colour[name], elinewidth=0.8,
        )  # fmt: skip
    ticks = [f"{b.name}\n{b.num_tokens:,}" for b in first]
    axes.set_xticks(range(len(first)), ticks, fontsize=style.CELL_FONT + 0.5)
    axes.set_xlabel(over, fontsize=style.LABEL_FONT)
    axes.set_ylabel("nats per token", fontsize=style.LABEL_FONT)
    return figure


_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))


def _line_name(s: int) -> str:
    return ("solid", "dashed", "dotted", "dash-dotted")[s % 4]


def _note(functions: CouplingFunctions, head: int, delay: int) -> str:
    if not float(functions.strength[head, delay].sum()):
        return f"delay {delay}: none"
    angle = float(functions.sakaguchi_angle[head, delay])
    shares = style.to_numpy(functions.harmonic_share[head, delay])
    listed = " ".join(f"{share:.0%}" for share in shares)
    return f"delay {delay}: α {angle:+.2f}, {listed}"


def _turn_axis(axes: Axes) -> None:
    axes.set_xlim(-math.pi, math.pi)
    axes.set_xticks(_TURN, _TURN_LABELS)
    style.clean_axes(axes)


def _lines(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    title: str,
    caption: str,
    *,
    width: float = 3.8,
    below: float = 0.0,
) -> tuple[Figure, Axes]:
    """Returns a figure with one line per name and a legend beside it."""
    room = 0.6 + max(len(name) for name in curves) * 0.6 * style.LABEL_FONT / 72
    total, height = _LEFT + width + room, max(2.3, 0.2 * len(curves))
    text = style.caption_lines(caption, total - 0.6)
    figure = style.empty_figure(
        total, _TOP + height + 0.65 + below + style.CAPTION_LINE * len(text)
    )  # fmt: skip
    axes = style.position(figure, _LEFT, _TOP, width, height)
    colour = style.colours(curves)
    for n, (name, (x, y)) in enumerate(curves.items()):
        axes.plot(
            x, y, color=colour[name], linewidth=1.3, markersize=3.5, label=name,
            marker=style.MARKERS[n % len(style.MARKERS)],
        )  # fmt: skip
    style.clean_axes(axes)
    axes.set_title(title, fontsize=style.TITLE_FONT, fontweight="bold", loc="left", pad=6)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=style.LABEL_FONT, frameon=False,
        handlelength=1.6, borderaxespad=0.2,
    )  # fmt: skip
    style.add_caption(figure, text, left=0.3)
    return figure, axes
