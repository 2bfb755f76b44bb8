"""How the pictures look: palette, type sizes, captions, and characters one can read."""

from __future__ import annotations

import itertools
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

__all__ = [
    "CAPTION_LINE",
    "CELL_FONT",
    "LABEL_FONT",
    "MARKERS",
    "SMALL_FONT",
    "TITLE_FONT",
    "add_caption",
    "caption_lines",
    "clean_axes",
    "colours",
    "empty_figure",
    "label_characters",
    "panels_in_rows",
    "position",
    "readable_character",
    "round_positions",
    "to_numpy",
]

CELL_FONT = 5.5
SMALL_FONT = 7.0
LABEL_FONT = 8.0
TITLE_FONT = 9.5
CAPTION_LINE = 0.15
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

# Okabe and Ito's palette, told apart under the three common colour-vision deficiencies. Its yellow
# is left out because a yellow line cannot be read on white.
_PALETTE = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
_KNOWN = {
    "softmax": "#000000",
    "selective": "#D55E00",
    "oscillator": "#0072B2",
    "kuramoto": "#009E73",
    "frustrated": "#CC79A7",
}
_SYMBOLS = {" ": "·", "\n": "⏎", "\t": "⇥", "\u00a0": "⍽"}
_LONGEST_LABEL = 8


def colours(names: Iterable[str]) -> dict[str, str]:
    """Returns one colour per name; a known mechanism has the same colour in every figure.

    Args:
        names: What is drawn, in the order of drawing. Beyond eight names colours repeat.

    Returns:
        Hexadecimal colours by name.
    """
    names = list(names)
    chosen = {name: _KNOWN[name] for name in names if name in _KNOWN}
    free = [colour for colour in _PALETTE if colour not in chosen.values()] or list(_PALETTE)
    supply = itertools.cycle(free)
    return {name: chosen[name] if name in chosen else next(supply) for name in names}


def to_numpy(values: Any) -> np.ndarray:
    """Returns the values as a NumPy array, from any dtype or device PyTorch knows.

    Args:
        values: A tensor, an array, or anything `numpy.asarray` takes.

    Returns:
        An array; floating tensors become float64 (NumPy has no bfloat16), the rest keep their type.
    """
    if isinstance(values, torch.Tensor):
        detached = values.detach().cpu()
        return (detached.double() if detached.is_floating_point() else detached).numpy()
    return np.asarray(values)


@cache
def _font() -> Any:
    return get_font(findfont(FontProperties(family="DejaVu Sans")))


def _readable(character: str) -> str:
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    control = unicodedata.category(character)[0] in "CZM"
    if control or not _font().get_char_index(ord(character)):
        # A surrogate or a missing glyph would print as an empty box, or not at all.
        return ascii(character)[1:-1]
    return character


def readable_character(token: str) -> str:
    r"""Returns a token as one can read it: ``·`` for a space, ``⏎`` for a line end, else escaped.

    Args:
        token: A character or a longer token.

    Returns:
        The token with white space made visible, control characters and characters the font lacks
        escaped as in Python (``\x00``), and cut after eight characters.
    """
    shown = "".join(_readable(character) for character in token) or "∅"
    return shown if len(shown) <= _LONGEST_LABEL else shown[: _LONGEST_LABEL - 1] + "…"


def round_positions(length: int) -> np.ndarray:
    """Returns about five round positions of a text, counted from 1.

    Args:
        length: Number of positions.

    Returns:
        Rising positions, the first at least 1, the last at most `length`.
    """
    steps = [step for step in (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500) if length / step <= 6.5]
    step = steps[0] if steps else 1000 * -(-length // 6000)
    return np.arange(step, length + 1, step)


def label_characters(axes: Axes, labels: Sequence[str], start: int = 0) -> None:
    """Writes characters under the horizontal axis, longer labels upright.

    Args:
        axes: The axes.
        labels: One label per unit of the axis.
        start: Where the first label stands.
    """
    where = range(start, start + len(labels))
    axes.set_xticks(where, labels, fontsize=CELL_FONT, parse_math=False)
    for label in axes.get_xticklabels():
        if len(label.get_text()) > 1:
            label.set_rotation(90)


def empty_figure(width: float, height: float) -> Figure:
    """Returns an empty white figure of the given size in inches, unknown to pyplot.

    Args:
        width: Width in inches.
        height: Height in inches.

    Returns:
        The figure.
    """
    return Figure(figsize=(width, height), facecolor="white")


def position(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Adds axes measured in inches from the figure's upper left corner.

    Args:
        figure: The figure to add to.
        left: Distance of the axes' left edge from the figure's left edge.
        top: Distance of the axes' upper edge from the figure's upper edge.
        width: Width of the axes.
        height: Height of the axes.

    Returns:
        The new axes.
    """
    whole_width, whole_height = figure.get_size_inches()
    bottom = whole_height - top - height
    return figure.add_axes((
        left / whole_width,
        bottom / whole_height,
        width / whole_width,
        height / whole_height,
    ))


def clean_axes(axes: Axes) -> None:
    """Removes the frame's upper and right side and sets the type size of the ticks.

    Args:
        axes: The axes to clean.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL_FONT, width=0.6, length=2.5)


def caption_lines(text: str, width: float) -> list[str]:
    """Returns a caption broken into lines that fit a width.

    Args:
        text: The caption.
        width: Room for the text in inches.

    Returns:
        Its lines.
    """
    # The mean advance of DejaVu Sans in English prose is 0.52 em; 0.54 leaves a margin.
    characters = int(width * 72 / (0.54 * LABEL_FONT))
    return textwrap.wrap(text, max(characters, 20))


def add_caption(figure: Figure, lines: list[str], left: float) -> None:
    """Writes the caption at the foot of the figure.

    Args:
        figure: The figure.
        lines: The caption's lines, see `caption_lines`.
        left: Distance from the left edge in inches.
    """
    width, height = figure.get_size_inches()
    figure.text(
        left / width,
        0.12 / height,
        "\n".join(lines),
        fontsize=LABEL_FONT,
        color="#333333",
        va="bottom",
        ha="left",
        linespacing=1.3,
        parse_math=False,
    )


def panels_in_rows(
    number: int,
    title: str,
    caption: str,
    *,
    panel_width: float = 1.75,
    panel_height: float,
    row_height: float,
    columns: int = 4,
    right: float = 0.1,
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with a title, a caption and panels in rows.

    Args:
        number: How many panels.
        title: The figure's title.
        caption: Below the panels.
        panel_width: Width of a panel in inches.
        panel_height: Height of a panel.
        row_height: Height of a row, with what stands below and above a panel.
        columns: Most panels in a row.
        right: Room at the right, for a legend.

    Returns:
        The figure and its panels; only the first of a row has labels on its ticks.
    """
    left, top, gap = 0.65, 0.42, 0.35
    columns = min(number, columns)
    rows = -(-number // columns)
    total = max(left + columns * (panel_width + gap) + right, 4.4)
    text = caption_lines(caption, total - 0.6) if caption else []
    height = top + 0.25 + rows * row_height + CAPTION_LINE * len(text) + 0.15
    figure = empty_figure(total, height)
    figure.text(
        0.3 / total, 1 - 0.12 / height, title, fontsize=TITLE_FONT, va="top", ha="left",
        fontweight="bold", parse_math=False,
    )  # fmt: skip
    add_caption(figure, text, left=0.3)
    panels: list[Axes] = []
    for n in range(number):
        row, column = divmod(n, columns)
        across, down = left + column * (panel_width + gap), top + 0.2 + row * row_height
        panels.append(position(figure, across, down, panel_width, panel_height))
        if column:
            panels[-1].tick_params(labelleft=False)
    return figure, panels
