"""Draws a figure as a reader would see it, and tells what is wrong with it."""

import itertools

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def _beyond_the_axis(figure: Figure) -> set[Text]:
    """Returns the labels of ticks outside the view, which exist but are never drawn."""
    found: set[Text] = set()
    insets = [inset for axes in figure.axes for inset in axes.child_axes]
    for axes in (*figure.axes, *insets):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-9 * (high - low)
            for tick in axis.get_major_ticks():
                if not low - slack <= tick.get_loc() <= high + slack:
                    found |= {tick.label1, tick.label2}
    return found


def faults(figure: Figure) -> list[str]:
    """Returns what is cut off by the figure's edge, or printed over another text."""
    renderer, whole = FigureCanvasAgg(figure).get_renderer(), figure.bbox
    figure.draw_without_rendering()
    shown = set(figure.findobj(Text)) - _beyond_the_axis(figure)
    boxes = {
        # An annotation's own extent would include its arrow.
        text: Text.get_window_extent(text, renderer)
        for text in sorted(shown, key=id)
        if text.get_visible() and text.get_text().strip()
    }
    found = [
        f"cut off: {text.get_text()!r}"
        for text, box in boxes.items()
        if box.x0 < -1 or box.y0 < -1 or box.x1 > whole.x1 + 1 or box.y1 > whole.y1 + 1
    ]
    for (one, first), (other, second) in itertools.combinations(boxes.items(), 2):
        # Two pixels of shared white space around letters are not yet an overlap.
        wide = min(first.x1, second.x1) - max(first.x0, second.x0) > 2
        tall = min(first.y1, second.y1) - max(first.y0, second.y0) > 2
        if wide and tall:
            found.append(f"overlap: {one.get_text()!r} and {other.get_text()!r}")
    return found


def pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
