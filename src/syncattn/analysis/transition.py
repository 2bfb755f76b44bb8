"""The synchronization transition: coherence against coupling, and one population looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from syncattn.analysis import style

__all__ = ["Branch", "Population", "transition_figure"]

_THEORY = "theory"
_LOCKED = "#D55E00"
_DRIFTING = "#8A8A8A"


@dataclass(frozen=True)
class Branch:
    """Coherence at rising coupling.

    Attributes:
        coupling_strength: The couplings.
        order_parameter: Mean coherence at each.
        deviation: Its standard deviation over time, drawn as bars; None draws none.
    """

    coupling_strength: Any
    order_parameter: Any
    deviation: Any = None


@dataclass(frozen=True)
class Population:
    """One population at one coupling.

    Attributes:
        coupling_strength: The coupling.
        times: Times.
        order_parameter: Coherence at each.
        mean: Mean coherence of the stationary part.
        points: ``(oscillators, 2)`` positions in the unit disc at the end.
        locked: Which of them turn together; None where that is not known.
        on_circle: True for phases, which lie on the circle; False for a projection of a sphere.
    """

    coupling_strength: float
    times: Any
    order_parameter: Any
    mean: float
    points: Any
    locked: Any = None
    on_circle: bool = True


def transition_figure(
    branches: Mapping[str, Branch],
    population: Population,
    *,
    theory: Branch | None = None,
    critical_coupling: float | None = None,
    title: str = "Synchronization transition",
    caption: str = "",
) -> Figure:
    """Draws coherence against coupling with theory beside it, and one population in detail.

    Args:
        branches: Simulated coherence, by how the population started.
        population: One coupling in time, and where its oscillators are at the end.
        theory: The same without finite size; None where no closed theory is known.
        critical_coupling: Where incoherence loses its stability; None draws no line.
        title: The figure's title.
        caption: What the reader should know, below the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no branch.
    """
    if not branches:
        raise ValueError("`branches` must hold at least one branch; got none. Simulate one first.")
    lines = style.caption_lines(caption, 8.5) if caption else []
    figure = style.empty_figure(9.2, 5.35 + style.CAPTION_LINE * len(lines))
    _draw_transition(
        style.position(figure, 0.65, 0.5, 4.5, 3.85),
        branches,
        population,
        theory,
        critical_coupling,
        title,
    )
    _draw_time(style.position(figure, 6.05, 0.5, 2.85, 1.3), population)
    _draw_points(figure, population)
    style.add_caption(figure, lines, left=0.3)
    return figure


def _draw_transition(
    axes: Axes,
    branches: Mapping[str, Branch],
    population: Population,
    theory: Branch | None,
    critical: float | None,
    title: str,
) -> None:
    style.clean_axes(axes)
    colour = style.colours([_THEORY, *branches])
    if critical is not None and np.isfinite(critical):
        axes.axvline(critical, color="#666666", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    if theory is not None:
        axes.plot(
            style.to_numpy(theory.coupling_strength),
            style.to_numpy(theory.order_parameter),
            color=colour[_THEORY],
            linewidth=1.3,
            label="theory, infinitely many",
            zorder=2,
        )
    for index, (name, branch) in enumerate(branches.items()):
        # The second branch is hollow, so that one under it still shows.
        axes.errorbar(
            style.to_numpy(branch.coupling_strength),
            style.to_numpy(branch.order_parameter),
            yerr=None if branch.deviation is None else style.to_numpy(branch.deviation),
            fmt=style.MARKERS[index],
            color=colour[name],
            markersize=4.0 if index == 0 else 6.0,
            markerfacecolor=colour[name] if index == 0 else "none",
            markeredgewidth=0.9,
            elinewidth=0.7,
            linestyle="none",
            label=name,
            zorder=3 + index,
        )
    chosen = population.coupling_strength
    axes.plot(
        [chosen],
        [population.mean],
        marker="*",
        markersize=12,
        color="#E69F00",
        markeredgecolor="black",
        markeredgewidth=0.6,
        linestyle="none",
        label=f"the population at the right, K = {chosen:g}",
        zorder=6,
    )
    axes.set_ylim(-0.02, 1.03)
    axes.set_xlim(left=-0.02 * axes.get_xlim()[1])
    _label_critical(axes, critical)
    axes.set_xlabel("coupling strength K (radians per unit time)", fontsize=style.LABEL_FONT)
    axes.set_ylabel("order parameter R", fontsize=style.LABEL_FONT)
    axes.set_title(title, fontsize=style.TITLE_FONT, loc="left", pad=8, parse_math=False)
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.105),
        ncols=2,
        fontsize=style.SMALL_FONT,
        frameon=False,
        columnspacing=1.5,
    )


def _label_critical(axes: Axes, critical: float | None) -> None:
    low, high = axes.get_xlim()
    if critical is None or not low < critical < high:
        return
    right = critical > low + 0.75 * (high - low)
    axes.annotate(
        f"critical coupling {critical:.3g}",
        xy=(critical, 0.03),
        xytext=(-4 if right else 4, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        va="center",
        fontsize=style.SMALL_FONT,
        color="#555555",
    )


def _draw_time(axes: Axes, population: Population) -> None:
    style.clean_axes(axes)
    times, order = style.to_numpy(population.times), style.to_numpy(population.order_parameter)
    axes.plot(times, order, color="#0072B2", linewidth=1.0)
    axes.axhline(population.mean, color="#E69F00", linewidth=1.0, linestyle=(0, (4, 2)))
    axes.set_ylim(-0.02, 1.03)
    axes.set_xlim(float(times[0]), float(times[-1]))
    axes.set_xlabel("time", fontsize=style.LABEL_FONT)
    axes.set_ylabel("R", fontsize=style.LABEL_FONT)
    axes.set_title(
        f"K = {population.coupling_strength:g}: mean R = {population.mean:.3f} (dashed)",
        fontsize=style.LABEL_FONT,
        loc="left",
        parse_math=False,
    )


def _draw_points(figure: Figure, population: Population) -> None:
    axes = style.position(figure, 6.3, 2.45, 2.35, 2.35)
    axes.set_axis_off()
    axes.set(xlim=(-1.12, 1.12), ylim=(-1.12, 1.12), aspect="equal")
    points = style.to_numpy(population.points)
    locked = population.locked
    turn = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(turn), np.sin(turn), color="#cccccc", linewidth=0.7, zorder=1)
    groups: Sequence[tuple[str, Any, str, float]]
    if locked is None:
        groups = [("oscillators", np.ones(len(points), dtype=bool), "#0072B2", 1.0)]
    else:
        together = style.to_numpy(locked).astype(bool)
        groups = [
            (f"turn together ({int(together.sum())})", together, _LOCKED, 1.0),
            (f"drift ({int((~together).sum())})", ~together, _DRIFTING, 0.86),
        ]
    for name, chosen, colour, radius in groups:
        # Drifting phases stand on an inner ring, else they would hide among the locked.
        scale = radius if population.on_circle else 1.0
        axes.scatter(
            *(scale * points[chosen]).T,
            s=5,
            color=colour,
            alpha=0.5,
            linewidths=0,
            label=name,
            zorder=2,
        )
    mean = points.mean(0)
    axes.annotate(
        "",
        xy=mean,
        xytext=(0, 0),
        arrowprops={"arrowstyle": "-|>", "color": "black", "linewidth": 1.3, "shrinkA": 0,
                    "shrinkB": 0},
        zorder=4,
    )  # fmt: skip
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=2,
        fontsize=style.SMALL_FONT,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.0,
        markerscale=2.0,
    )
