"""The picture of one mechanism: who attends to whom, and how far its oscillators agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from syncattn._masks import Visibility
from syncattn.analysis import style

__all__ = ["LayerPattern", "attention_weights"]

_MOST_LAYERS = 4
_MOST_HEADS = 4
_MOST_LABELS = 40
_MOST_LINES = 12
_ORDER_HEIGHT = 1.25
_LEGEND_ROWS = 8
_HIDDEN = "#e4e4e4"
_HATCH = "#bdbdbd"
_LOCKED = "#D55E00"


@runtime_checkable
class LayerPattern(Protocol):
    """What one layer did with one sequence; each attribute is a tensor or an array.

    Attributes:
        weights: ``(heads, queries, keys)``, rows sum to 1, or to 0 where nothing is attended to.
        order_parameter: ``(heads, queries)`` in [0, 1], NaN where undefined; None without
            oscillators.
        locked: ``(heads, queries, keys)`` boolean; None where locking has no meaning.
        locked_fraction: ``(heads,)`` in [0, 1], of pairs of two tokens; from `locked` when None.
    """

    @property
    def weights(self) -> Any: ...  # noqa: D102
    @property
    def order_parameter(self) -> Any: ...  # noqa: D102
    @property
    def locked(self) -> Any: ...  # noqa: D102
    @property
    def locked_fraction(self) -> Any: ...  # noqa: D102


class _Layer(NamedTuple):
    weights: np.ndarray
    order: np.ndarray | None
    locked: np.ndarray | None
    fraction: np.ndarray | None


class _Room(NamedTuple):
    """Sizes in inches."""

    side: float
    left: float
    top: float
    column: float
    row: float
    right: float
    keys: float


def _wrong(argument: str, wanted: str, got: object, remedy: str) -> ValueError:
    return ValueError(f"`{argument}` must {wanted}; got {got}. {remedy}")


def _optional(pattern: LayerPattern, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    given = getattr(pattern, name)
    if given is None:
        return None
    array = style.to_numpy(given)
    if array.shape != shape:
        raise _wrong(name, f"have the shape {shape}", array.shape, "Pass one sequence of one layer")
    return array


def _read_layer(pattern: LayerPattern, visible: np.ndarray, tokens: int) -> _Layer:
    weights = style.to_numpy(pattern.weights)
    if weights.ndim != 3 or weights.shape[2] != tokens or weights.shape[1] > tokens:
        wanted = f"have the shape (heads, queries, keys) with one key per token, {tokens}"
        raise _wrong("weights", wanted, weights.shape, "Index one sequence of the batch first.")
    heads, queries, keys = weights.shape
    if weights[:, ~visible[-queries:]].any():
        remedy = "Pass `visible`, or `is_causal=False` for a model that sees both ways."
        raise _wrong("weights", "be 0 at hidden keys", "a positive weight there", remedy)
    locked = _optional(pattern, "locked", (heads, queries, keys))
    fraction = _optional(pattern, "locked_fraction", (heads,))
    if fraction is None and locked is not None:
        counted = visible[-queries:] & ~np.eye(keys, dtype=bool)[-queries:]
        fraction = locked[:, counted].mean(axis=1) if counted.any() else np.full(heads, np.nan)
    order = _optional(pattern, "order_parameter", (heads, queries))
    return _Layer(weights, order, locked, fraction)


def _visibility(visible: Any, is_causal: bool, tokens: int) -> np.ndarray:
    if visible is not None:
        mask = style.to_numpy(visible).astype(bool)
        if mask.ndim != 2 or mask.shape[1] != tokens:
            wanted = f"have the shape (queries, keys) with {tokens} keys"
            raise _wrong("visible", wanted, mask.shape, "Pass the mask of one sequence.")
        return mask
    dense = Visibility(tokens, tokens, is_causal=is_causal).dense(torch.device("cpu"))
    return np.ones((tokens, tokens), bool) if dense is None else dense[0, 0].numpy()


def _mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Returns the mean of what is not NaN, and NaN where nothing is, without a warning."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _panel_title(layer: _Layer, number: int, head: int) -> str:
    parts = [f"layer {number + 1}, head {head + 1}"]
    if layer.order is None and layer.fraction is None:
        return " · ".join([*parts, "no oscillators"])
    if layer.order is not None:
        coherence = float(_mean(layer.order[head]))
        parts.append("R undefined" if math.isnan(coherence) else f"R = {coherence:.2f}")
    if layer.fraction is not None:
        fraction = float(layer.fraction[head])
        parts.append("locked –" if math.isnan(fraction) else f"locked {100 * fraction:.0f} %")
    return " · ".join(parts)


def _colormap() -> Colormap:
    # The palest blues are left out, so that a small weight is not taken for none.
    shades = colormaps["Blues"](np.linspace(0.13, 1.0, 256))
    return LinearSegmentedColormap.from_list("weights", shades)


def _draw_panel(
    axes: Axes, layer: _Layer, head: int, visible: np.ndarray, norm: PowerNorm, dots: bool
) -> None:
    weights = layer.weights[head]
    seen = visible[-weights.shape[0] :]
    axes.patch.set(facecolor=_HIDDEN, edgecolor=_HATCH, hatch="/////", linewidth=0)
    white = np.ma.masked_where(~seen, np.zeros(weights.shape))
    axes.imshow(white, cmap=ListedColormap(["white"]), aspect="auto", interpolation="nearest")
    shown = np.ma.masked_where(~seen | (weights == 0), weights)
    axes.imshow(shown, cmap=_colormap(), norm=norm, aspect="auto", interpolation="nearest")
    if dots and layer.locked is not None:
        rows, columns = np.nonzero(layer.locked[head] & seen)
        size = 0.5 * axes.bbox.width / axes.figure.dpi * 72 / weights.shape[1]
        axes.plot(columns, rows, ".", color=_LOCKED, markersize=min(size, 5), markeredgewidth=0)
    for spine in axes.spines.values():
        spine.set(linewidth=0.5, color="#888888")


def _label_ticks(axes: Axes, labels: Sequence[str], queries: int, left: bool, bottom: bool) -> None:
    axes.set(xticks=[], yticks=[])
    first = len(labels) - queries
    if len(labels) > _MOST_LABELS:
        axes.tick_params(length=2, pad=1.5, labelsize=style.SMALL_FONT)
        where = style.round_positions(len(labels))
        if bottom:
            axes.set_xticks(where - 1, map(str, where))
        if left:
            rows = where[where > first]
            axes.set_yticks(rows - 1 - first, map(str, rows))
        return
    axes.tick_params(length=0, pad=1.5)
    if bottom:
        style.label_characters(axes, labels)
    if left:
        where = range(queries)
        axes.set_yticks(where, labels[first:], fontsize=style.CELL_FONT, parse_math=False)


def _room(labels: Sequence[str]) -> _Room:
    few = len(labels) <= _MOST_LABELS
    longest = max(map(len, labels)) if few else 3
    letters = longest * 0.65 * (style.CELL_FONT if few else style.SMALL_FONT) / 72
    side = max(2.35, 0.078 * len(labels)) if few else 2.35
    keys = (letters if few else 0.12) + 0.32
    return _Room(side, 0.6 + letters, 0.68, side + 0.22, side + 0.34, 1.0, keys)


def _draw_grid(
    figure: Figure,
    layers: Sequence[_Layer],
    labels: Sequence[str],
    visible: np.ndarray,
    room: _Room,
    dots: bool,
) -> PowerNorm:
    heads = min(layers[0].weights.shape[0], _MOST_HEADS)
    largest = max(float(layer.weights[:heads].max()) for layer in layers)
    norm = PowerNorm(0.5, vmin=0.0, vmax=largest or 1.0)
    for row, layer in enumerate(layers):
        for head in range(heads):
            left, top = room.left + head * room.column, room.top + 0.2 + row * room.row
            axes = style.position(figure, left, top, room.side, room.side)
            _draw_panel(axes, layer, head, visible, norm, dots)
            bottom = row == len(layers) - 1
            _label_ticks(axes, labels, layer.weights.shape[1], head == 0, bottom)
            title = _panel_title(layer, row, head)
            axes.set_title(title, fontsize=style.SMALL_FONT, pad=3)
            if head == 0:
                axes.set_ylabel("query: the position that reads", fontsize=style.SMALL_FONT)
            if bottom:
                axes.set_xlabel("key: the position read from", fontsize=style.SMALL_FONT)
    return norm


def _draw_scale(figure: Figure, norm: PowerNorm, left: float, room: _Room) -> None:
    axes = style.position(figure, left, room.top + 0.2, 0.11, room.side)
    bar = figure.colorbar(ScalarMappable(norm, _colormap()), cax=axes)
    largest = norm.vmax or 1.0
    ticks = [t for t in (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0) if t <= 1.001 * largest]
    bar.set_ticks(ticks if len(ticks) > 3 else np.linspace(0, largest, 4).tolist())
    bar.ax.tick_params(labelsize=style.SMALL_FONT, length=2)
    bar.set_label("attention weight (square-root scale)", fontsize=style.SMALL_FONT)
    bar.outline.set(linewidth=0.5, edgecolor="#888888")


def _draw_key(figure: Figure, room: _Room, hidden: bool, zeros: str | None, dots: bool) -> None:
    dot: dict[str, Any] = {"linestyle": "", "marker": ".", "color": _LOCKED, "markeredgewidth": 0}
    hatched: dict[str, Any] = {
        "facecolor": _HIDDEN,
        "edgecolor": _HATCH,
        "hatch": "/////",
        "linewidth": 0,
    }
    entries: list[Patch | Line2D] = []
    if hidden:
        entries.append(Patch(**hatched, label="hidden from the query"))
    if zeros is not None:
        entries.append(Patch(facecolor="white", edgecolor="#888888", linewidth=0.5, label=zeros))
    if dots:
        entries.append(Line2D([], [], **dot, label="locked pair"))
    if entries:
        width, height = figure.get_size_inches()
        figure.legend(
            handles=entries,
            loc="upper left",
            bbox_to_anchor=(room.left / width, (height - 0.48) / height),
            ncols=len(entries),
            frameon=False,
            fontsize=style.SMALL_FONT,
            borderaxespad=0,
            borderpad=0,
            columnspacing=1.2,
            handlelength=1.4,
        )


def _draw_order(layers: Sequence[_Layer], labels: Sequence[str], axes: Axes) -> None:
    style.clean_axes(axes)
    tokens = len(labels)
    oscillating = [(n, layer.order) for n, layer in enumerate(layers) if layer.order is not None]
    shades = colormaps["viridis"](np.linspace(0.0, 0.85, len(oscillating)))
    for index, (number, order) in enumerate(oscillating):
        where = np.arange(tokens - order.shape[1], tokens) + 1
        axes.plot(
            where,
            _mean(order, axis=0),
            color=shades[index],
            marker=style.MARKERS[index % len(style.MARKERS)],
            markersize=3,
            markevery=max(1, tokens // 32),
            linewidth=1.2,
            label=f"layer {number + 1}",
            clip_on=False,
        )
    axes.set(ylim=(0, 1), xlim=(0.5, tokens + 0.5))
    if tokens <= _MOST_LABELS:
        style.label_characters(axes, labels, start=1)
    else:
        axes.set_xticks(style.round_positions(tokens))
    axes.set_ylabel("order parameter R\n(mean over heads)", fontsize=style.SMALL_FONT)
    axes.set_xlabel("position in the text", fontsize=style.SMALL_FONT)
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.05),
        frameon=False,
        fontsize=style.SMALL_FONT,
        borderaxespad=0,
        labelspacing=0.25,
        ncols=math.ceil(len(oscillating) / _LEGEND_ROWS),
    )


def _cut(layers: Sequence[_Layer]) -> str:
    heads = layers[0].weights.shape[0]
    cuts = [
        f"{most} of {number} {name}"
        for number, most, name in (
            (len(layers), _MOST_LAYERS, "layers"),
            (heads, _MOST_HEADS, "heads"),
        )
        if number > most
    ]
    return f" Shown are the first {' and the first '.join(cuts)}." if cuts else ""


def _zeros_meaning(layers: Sequence[_Layer], visible: np.ndarray) -> tuple[str | None, bool]:
    """Returns what a white cell means, None without any, and whether locking needs its own dots."""
    seen = visible[-layers[0].weights.shape[1] :]
    heads = slice(_MOST_HEADS)
    zeros = any((layer.weights[heads, seen] == 0).any() for layer in layers)
    marked = [layer for layer in layers if layer.locked is not None]
    same = all(((layer.weights > 0) == layer.locked)[heads, seen].all() for layer in marked)
    meaning = "weight exactly 0" + (": not locked" if marked and same else "")
    return (meaning if zeros else None), not same


def attention_weights(
    layers: Sequence[LayerPattern],
    tokens: Sequence[str],
    *,
    mechanism: str,
    legend: str,
    visible: Any = None,
    is_causal: bool = True,
) -> Figure:
    """Draws the attention weights of a model on one text, and the coherence of its oscillators.

    Rows are layers and columns are heads, at most four of each. Below stands the order parameter
    against the position in the text, one line for each of the first twelve layers.

    Args:
        layers: What each layer did, first layer first; all with the same number of heads. With
            fewer queries than keys, the queries are the last ones.
        tokens: The text the keys stand for, one string per key. Up to forty label the cells.
        mechanism: The mechanism's name, for the title.
        legend: One sentence saying what R and *locked* mean for this mechanism.
        visible: ``(queries, keys)``, True where a query may see a key; replaces `is_causal`.
        is_causal: A query sees no later position.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no layer or no token, shapes disagree, or a hidden key has weight.
    """
    if not layers or not tokens:
        got = f"{len(layers)} layers and {len(tokens)} tokens"
        raise _wrong("layers", "and `tokens` hold something", got, "Run the model on a text first.")
    seen = _visibility(visible, is_causal, len(tokens))
    everything = [_read_layer(pattern, seen, len(tokens)) for pattern in layers]
    shapes = {layer.weights.shape for layer in everything}
    if len(shapes) > 1:
        remedy = "Draw layers of different shapes in figures of their own."
        raise _wrong("layers", "all have weights of one shape", sorted(shapes), remedy)
    shown = everything[:_MOST_LAYERS]
    labels = [style.readable_character(token) for token in tokens]
    room = _room(labels)
    heads, queries, _ = shown[0].weights.shape
    grid_width = min(heads, _MOST_HEADS) * room.column
    line_width = min(max(grid_width, 3.9), 7.0) - 0.22
    beside = 0.2 + 0.8 * math.ceil(len(everything[:_MOST_LINES]) / _LEGEND_ROWS)
    width = max(room.left + max(grid_width + room.right, line_width + beside), 6.2)
    grid_bottom = room.top + 0.2 + len(shown) * room.row + room.keys - 0.3
    oscillating = any(layer.order is not None for layer in everything[:_MOST_LINES])
    lines = style.caption_lines(_caption(legend, everything), width - 0.9)
    bottom = grid_bottom + (0.15 + _ORDER_HEIGHT + room.keys if oscillating else 0.0)
    figure = style.empty_figure(width, bottom + 0.25 + style.CAPTION_LINE * len(lines))
    figure.text(
        room.left / width,
        1 - 0.16 / figure.get_size_inches()[1],
        f"Attention weights of {mechanism}, text positions 1 to {len(tokens)}",
        fontsize=style.TITLE_FONT,
        va="top",
        parse_math=False,
    )
    zeros, dots = _zeros_meaning(shown, seen)
    dots = dots and len(tokens) <= _MOST_LABELS
    norm = _draw_grid(figure, shown, labels, seen, room, dots)
    _draw_scale(figure, norm, room.left + grid_width - 0.08, room)
    _draw_key(figure, room, not seen[-queries:].all(), zeros, dots)
    if oscillating:
        drawn = everything[:_MOST_LINES]
        top = grid_bottom + 0.15
        axes = style.position(figure, room.left, top, line_width, _ORDER_HEIGHT)
        _draw_order(drawn, labels, axes)
    style.add_caption(figure, lines, left=0.3)
    return figure


def _caption(legend: str, layers: Sequence[_Layer]) -> str:
    return (
        "Each square is one head: a row is a position that reads, a column a position it reads "
        f"from, darker is more weight. {legend.strip()}{_cut(layers)}"
    )
