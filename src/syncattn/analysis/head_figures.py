"""Figures of heads: measures by layer and head, divergence, the lock graph, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from syncattn.analysis import style
from syncattn.analysis.synchrony import component_labels

__all__ = ["checkpoint_curves", "divergence_map", "head_map", "lock_graph"]

_CELL = 0.42
_ALONE = "#9a9a9a"


def head_map(
    measures: Mapping[str, Any],
    *,
    limits: Mapping[str, tuple[float, float]] | None = None,
    first_layer: int = 1,
    title: str = "Heads by layer",
    caption: str = "",
) -> Figure:
    """Draws measures by layer and head, each a panel with its own scale and its numbers.

    Made for the order parameter by layer, head and harmonic (one panel per harmonic), the locked
    fraction, entropy, effective neighbours and rank.

    Args:
        measures: ``(layers, heads)`` by name; NaN where undefined, which stays white.
        limits: Ends of the scale by name; the smallest and the largest value when absent.
        first_layer: The number of the first row; 0 where it is the embedding.
        title: The figure's title.
        caption: Below it, how to read the measures.

    Returns:
        The figure, three panels in a row.

    Raises:
        ValueError: If there is no measure, or one is not a matrix.
    """
    arrays = {name: style.to_numpy(values) for name, values in measures.items()}
    if not arrays or any(array.ndim != 2 or not array.size for array in arrays.values()):
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(
            f"`measures` must hold matrices of layers and heads; got {shapes}. Stack the layers."
        )
    columns = min(3, len(arrays))
    layers, heads = (max(a.shape[axis] for a in arrays.values()) for axis in (0, 1))
    width, height = max(_CELL * heads, 1.6), max(0.6 * _CELL * layers, 0.6)
    figure, panels = style.panels_in_rows(
        len(arrays), title, caption, panel_width=width, panel_height=height,
        row_height=height + 0.62, columns=columns,
    )  # fmt: skip
    for (name, array), axes in zip(arrays.items(), panels, strict=True):
        _cells(axes, array, (limits or {}).get(name))
        axes.set_yticks(range(len(array)), [str(first_layer + n) for n in range(len(array))])
        axes.set_xticks(range(array.shape[1]), [str(n + 1) for n in range(array.shape[1])])
        axes.tick_params(labelsize=style.SMALL_FONT, length=0, labelleft=True)
        axes.set_title(name, fontsize=style.LABEL_FONT, loc="left", pad=3, parse_math=False)
        axes.set_xlabel("head", fontsize=style.SMALL_FONT, labelpad=1)
        axes.set_ylabel("layer", fontsize=style.SMALL_FONT, labelpad=1)
    return figure


def divergence_map(
    divergence: Any, *, title: str = "How differently heads attend", caption: str = ""
) -> Figure:
    """Draws the Jensen–Shannon divergence of every two heads, one panel per layer.

    Args:
        divergence: What `head_divergence` returned by layer, ``(layers, heads, heads)`` in nats.
        title: The figure's title.
        caption: Below it; how to read it when empty.

    Returns:
        The figure, all panels on the scale from 0 to ln 2.

    Raises:
        ValueError: If the shape is another.
    """
    values = style.to_numpy(divergence)
    if values.ndim != 3 or values.shape[1] != values.shape[2] or not values.size:
        raise ValueError(
            f"`divergence` must have the shape (layers, heads, heads); got {values.shape}. Stack "
            f"what `head_divergence` returned."
        )
    side = max(_CELL * values.shape[1], 1.2)
    caption = caption or (
        "Mean Jensen–Shannon divergence of the rows of two heads, in nats: 0 when they attend "
        "alike, 0.69 when they share no key."
    )
    figure, panels = style.panels_in_rows(
        len(values), title, caption, panel_width=side, panel_height=side, row_height=side + 0.62
    )
    names = [str(n + 1) for n in range(values.shape[1])]
    for number, axes in enumerate(panels):
        _cells(axes, values[number], (0.0, float(np.log(2))))
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(labelsize=style.SMALL_FONT, length=0, labelleft=True)
        axes.set_title(f"layer {number + 1}", fontsize=style.LABEL_FONT, loc="left", pad=3)
        axes.set_xlabel("head", fontsize=style.SMALL_FONT, labelpad=1)
    return figure


def lock_graph(
    locked: Any,
    tokens: Sequence[str],
    *,
    cutoff: float | None = None,
    title: str = "Lock graph",
) -> Figure:
    """Draws who locks with whom as arcs over the text, one colour per cluster.

    Args:
        locked: ``(tokens, tokens)`` boolean of one head; one direction makes an edge.
        tokens: The text, one string per token.
        cutoff: Largest detuning that locks, told in the caption.
        title: The figure's title.

    Returns:
        The figure; its caption counts clusters, links and tokens that lock with none.

    Raises:
        ValueError: If there is no token, or the matrix does not fit the tokens.
    """
    edges = style.to_numpy(locked).astype(bool)
    number = len(tokens)
    if not number or edges.shape != (number, number):
        raise ValueError(
            f"`locked` must have one row and column for each of {number} tokens, at least one; got "
            f"{edges.shape}. Index one head of one sequence."
        )
    edges = (edges | edges.T) & ~np.eye(number, dtype=bool)
    label = component_labels(torch.from_numpy(edges)).numpy()
    sizes = {root: int((label == root).sum()) for root in dict.fromkeys(label.tolist())}
    clusters = [root for root in sorted(sizes, key=lambda r: -sizes[r]) if sizes[root] > 1]
    colour = style.colours(f"cluster {n}" for n in range(len(clusters)))
    tint = {root: colour[f"cluster {n}"] for n, root in enumerate(clusters)}
    links = int(edges.sum()) // 2
    caption = _graph_caption(clusters, sizes, links, number, cutoff)
    width = max(0.16 * number, 3.6)
    lines = style.caption_lines(caption, width + 0.2)
    height = min(0.5 * width, 2.4)
    figure = style.empty_figure(width + 0.6, height + 1.1 + style.CAPTION_LINE * len(lines))
    axes = style.position(figure, 0.3, 0.42, width, height)
    axes.set_axis_off()
    axes.set(xticks=[], yticks=[])
    where = np.arange(number)
    tall = 1.0
    for a, b in zip(*np.nonzero(np.triu(edges)), strict=True):
        turn = np.linspace(0, np.pi, 40)
        middle, half = (a + b) / 2, (b - a) / 2
        tall = max(tall, float(half))
        axes.plot(
            middle - half * np.cos(turn), half * np.sin(turn), color=tint[int(label[a])],
            linewidth=0.8, alpha=0.55, solid_capstyle="round",
        )  # fmt: skip
    shades = [tint.get(int(root), _ALONE) for root in label]
    axes.scatter(where, np.zeros(number), s=14, c=shades, zorder=3, clip_on=False)
    axes.set_xlim(-0.8, number - 0.2)
    axes.set_ylim(-0.02 * tall, 1.05 * tall)
    for place, token in enumerate(tokens):
        shown = style.readable_character(token)
        axes.annotate(
            shown, (place, 0), xytext=(0, -6), textcoords="offset points", ha="center", va="top",
            fontsize=style.CELL_FONT + 1, rotation=90 if len(shown) > 1 else 0,
            color=shades[place], annotation_clip=False, parse_math=False,
        )  # fmt: skip
    axes.set_title(title, fontsize=style.TITLE_FONT, fontweight="bold", loc="left", pad=6,
                   parse_math=False)  # fmt: skip
    style.add_caption(figure, lines, left=0.3)
    return figure


def checkpoint_curves(
    measures: Mapping[str, Any],
    steps: Sequence[int],
    *,
    title: str = "Through training",
    caption: str = "",
) -> Figure:
    """Draws measures of several checkpoints, or runs in order, with one line per layer.

    Args:
        measures: ``(checkpoints, layers)`` by name; NaN leaves a gap.
        steps: Training steps of the checkpoints, rising.
        title: The figure's title.
        caption: Below it.

    Returns:
        The figure, three panels in a row.

    Raises:
        ValueError: If there is no measure, or one has not a row per checkpoint.
    """
    arrays = {name: style.to_numpy(values) for name, values in measures.items()}
    if not arrays or any(a.ndim != 2 or len(a) != len(steps) for a in arrays.values()):
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(
            f"`measures` must hold a row for each of {len(steps)} checkpoints; got {shapes}. Stack "
            f"the checkpoints."
        )
    layers = max(array.shape[1] for array in arrays.values())
    key = ", ".join(f"{_MARKER_NAMES[n % len(_MARKER_NAMES)]} layer {n + 1}" for n in range(layers))
    figure, panels = style.panels_in_rows(
        len(arrays), title, f"{caption} Marks: {key}.".strip(), panel_width=1.9,
        panel_height=1.45, row_height=2.1, columns=3,
    )  # fmt: skip
    shades = colormaps["viridis"](np.linspace(0.0, 0.85, layers))
    for (name, array), axes in zip(arrays.items(), panels, strict=True):
        for layer in range(array.shape[1]):
            axes.plot(
                steps, array[:, layer], color=shades[layer], linewidth=1.2, markersize=3.2,
                marker=style.MARKERS[layer % len(style.MARKERS)],
            )  # fmt: skip
        style.clean_axes(axes)
        axes.tick_params(labelleft=True)
        axes.grid(axis="y", linewidth=0.4, color="#dddddd")
        axes.set_title(name, fontsize=style.LABEL_FONT, loc="left", pad=3, parse_math=False)
        axes.set_xlabel("training step", fontsize=style.SMALL_FONT)
    return figure


_MARKER_NAMES = ("circles", "squares", "triangles", "diamonds", "upturned triangles", "pluses",
                 "crosses", "stars")  # fmt: skip


def _cells(axes: Axes, array: np.ndarray, limits: tuple[float, float] | None) -> None:
    known = array[np.isfinite(array)]
    low, high = limits or ((float(known.min()), float(known.max())) if known.size else (0.0, 1.0))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    image = np.ma.masked_invalid(array)
    axes.imshow(image, cmap="cividis", vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    digits = 0 if max(abs(low), abs(high)) >= 100 else 1 if max(abs(low), abs(high)) >= 3 else 2
    for (row, column), value in np.ndenumerate(array):
        bright = np.isfinite(value) and (value - low) / (high - low) > 0.55
        axes.text(
            column, row, f"{value:.{digits}f}" if np.isfinite(value) else "–", ha="center",
            va="center", fontsize=style.SMALL_FONT,
            color="black" if bright or not np.isfinite(value) else "white",
        )  # fmt: skip
    for spine in axes.spines.values():
        spine.set_visible(False)


def _graph_caption(
    clusters: Sequence[int], sizes: Mapping[int, int], links: int, number: int,
    cutoff: float | None,
) -> str:  # fmt: skip
    alone = number - sum(sizes[root] for root in clusters)
    largest = f", the largest of {sizes[clusters[0]]} tokens" if clusters else ""
    text = (
        f"An arc joins two tokens that lock. {links} links make {len(clusters)} "
        f"cluster{'' if len(clusters) == 1 else 's'}{largest}; {alone} of {number} tokens, grey, "
        f"lock with none."
    )
    return text if cutoff is None else f"{text} Pairs lock up to a detuning of {cutoff:.2f}."
