"""One figure per function: takes arrays, returns the figure, touches no global state."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from syncattn.analysis import style
from syncattn.analysis.curves import Curve, CurveSummary, summarize_curve
from syncattn.analysis.heatmaps import LayerPattern, attention_weights

__all__ = ["LayerPattern", "attention_weights", "learning_curves", "save_figure"]


def _draw_curve(axes: Axes, summary: CurveSummary, colour: str, marker: str) -> None:
    several = len(summary.seeds) > 1
    for seed in summary.seeds:
        if several:
            axes.plot(seed.tokens, seed.values, color=colour, linewidth=0.5, alpha=0.35, zorder=2)
        if seed.stopped and seed.tokens.size:
            axes.plot(seed.tokens[-1:], seed.values[-1:], "x", color=colour, markersize=7, zorder=5)
    if summary.deviation is not None:
        low, high = summary.mean - summary.deviation, summary.mean + summary.deviation
        axes.fill_between(summary.tokens, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        summary.tokens,
        summary.mean,
        color=colour,
        marker=marker,
        markersize=3.5,
        linewidth=1.4,
        zorder=3,
    )


def _draw_curves(
    axes: Axes, summaries: Mapping[str, CurveSummary], colour: Mapping[str, str]
) -> None:
    for index, (name, summary) in enumerate(summaries.items()):
        _draw_curve(axes, summary, colour[name], style.MARKERS[index % len(style.MARKERS)])


def _enlarge(axes: Axes, summaries: Mapping[str, CurveSummary], colour: Mapping[str, str]) -> None:
    """Repeats the last half of lines that end close together in the empty upper right."""
    ends = [_end_point(summary) for summary in summaries.values()]
    spread = max(y for _, y in ends) - min(y for _, y in ends)
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    lines = [curve for s in summaries.values() for curve in (*s.seeds, Curve(*s[:2], False))]
    points = [(x - left, y - low) for c in lines for x, y in zip(c.tokens, c.values, strict=True)]
    corner = 0.4 * (right - left), 0.3 * (high - low)
    taken = any(x > corner[0] and y > corner[1] for x, y in points)
    middle = max(x for x, _ in ends) / 2
    late = [y for c in lines for x, y in zip(c.tokens, c.values, strict=True) if x >= middle]
    if len(ends) < 2 or spread > 0.15 * (high - low) or taken or len(late) < 2 * len(ends):
        return
    inset = axes.inset_axes((0.46, 0.36, 0.52, 0.48))
    _draw_curves(inset, summaries, colour)
    room = 0.06 * (max(late) - min(late)) or 0.01
    inset.set(xlim=(middle, right), ylim=(min(late) - room, max(late) + room))
    style.clean_axes(inset)
    inset.xaxis.set_major_formatter(EngFormatter(sep="\N{THIN SPACE}"))
    inset.xaxis.set_major_locator(MaxNLocator(4))
    inset.yaxis.set_major_locator(MaxNLocator(5))
    inset.grid(axis="y", linewidth=0.4, color="#dddddd")
    inset.set_title("the second half, enlarged", fontsize=style.SMALL_FONT, loc="left", pad=3)


def _end_point(summary: CurveSummary) -> tuple[float, float]:
    if summary.tokens.size:
        return float(summary.tokens[-1]), float(summary.mean[-1])
    last = next(seed for seed in summary.seeds if seed.tokens.size)
    return float(last.tokens[-1]), float(last.values[-1])


def _end_label(name: str, summary: CurveSummary) -> str:
    if not summary.tokens.size:
        return f"{name}  (no shared point)"
    final = f"{name}  {summary.mean[-1]:.3f}"
    return final if summary.deviation is None else f"{final} ± {summary.deviation[-1]:.3f}"


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Returns heights near the wanted ones, at least `gap` apart and inside [0, 1] if they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    floor = 0.0
    for i in order:
        placed[i] = max(placed[i], floor)
        floor = placed[i] + gap
    ceiling = 1.0
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def _label_ends(
    axes: Axes, summaries: Mapping[str, CurveSummary], colour: Mapping[str, str], height: float
) -> None:
    low, high = axes.get_ylim()
    ends = {name: _end_point(summary) for name, summary in summaries.items()}
    wanted = [(y - low) / (high - low) for _, y in ends.values()]
    placed = _spread(wanted, gap=1.35 * style.LABEL_FONT / 72 / height)
    for (name, end), label_height in zip(ends.items(), placed, strict=True):
        axes.annotate(
            _end_label(name, summaries[name]),
            xy=end,
            xytext=(1.04, label_height),
            textcoords="axes fraction",
            color=colour[name],
            fontsize=style.LABEL_FONT,
            va="center",
            annotation_clip=False,
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour[name],
                "linewidth": 0.6,
                "alpha": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def _curves_caption(
    summaries: Mapping[str, CurveSummary], chance: float | None, drawn: bool
) -> str:
    text = (
        "Cost of the text not trained on, in bits per byte (lower is better), against the number "
        "of training tokens seen; the figure beside each name is the last value."
    )
    counts = sorted({len(summary.seeds) for summary in summaries.values()})
    if counts[-1] > 1:
        seeds = str(counts[-1]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        text += (
            f" Thick lines are means over {seeds} seeds where every seed has a value; bands and ± "
            "are one sample standard deviation; thin lines are the seeds."
        )
    if any(seed.stopped for summary in summaries.values() for seed in summary.seeds):
        text += " × marks the last finite value of a run that diverged."
    if chance is not None and not drawn:
        text += f" Guessing every byte uniformly costs {chance:g} bits, above the axis."
    return text


def _curves_axes(axes: Axes, title: str, value: str) -> None:
    style.clean_axes(axes)
    axes.xaxis.set_major_formatter(EngFormatter(sep="\N{THIN SPACE}"))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    axes.set_axisbelow(True)
    axes.set_xlabel("training tokens seen", fontsize=style.LABEL_FONT)
    label = value.replace("_", " ").replace("valid ", "validation ", 1)
    axes.set_ylabel(label, fontsize=style.LABEL_FONT)
    axes.set_title(title, fontsize=style.TITLE_FONT, loc="left", pad=8, parse_math=False)


def learning_curves(
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    chance: float | None = 8.0,
    value: str = "valid_bits_per_byte",
    title: str = "Learning curves by mechanism",
) -> Figure:
    """Draws validation bits per byte against training tokens, one line per mechanism.

    Several seeds become a mean with a band of one sample standard deviation, drawn where every
    seed has a value, over thin lines of the single seeds. A value that is None or not finite ends
    a run with a cross.

    Args:
        curves: Points by mechanism. A point has `tokens` (training tokens seen), the value, and
            `seed` where there are several; points without the value are passed over.
        chance: The cost of guessing in bits per byte, 8 for uniform bytes; drawn when it fits the
            range of the curves, told in the caption otherwise. None leaves it out.
        value: The key of the value to draw.
        title: The figure's title.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no mechanism, or one has no point to draw.
    """
    if not curves:
        raise ValueError("`curves` must hold at least one mechanism; got none. Pass its points.")
    summaries = {name: summarize_curve(name, points, value) for name, points in curves.items()}
    colour = style.colours(summaries)
    longest = max(len(_end_label(name, summary)) for name, summary in summaries.items())
    width, height = 4.6, max(2.8, 0.17 * len(summaries))
    margin = 0.35 + longest * 0.6 * style.LABEL_FONT / 72
    total_width = 0.65 + width + margin
    highest = max(
        bit for s in summaries.values() for seed in s.seeds for bit in seed.values.tolist()
    )
    drawn = chance is not None and chance <= 1.15 * highest
    lines = style.caption_lines(_curves_caption(summaries, chance, drawn), total_width - 0.9)
    figure = style.empty_figure(total_width, 0.45 + height + 0.65 + style.CAPTION_LINE * len(lines))
    axes = style.position(figure, 0.65, 0.4, width, height)
    _curves_axes(axes, title, value)
    _draw_curves(axes, summaries, colour)
    if chance is not None and drawn:
        axes.axhline(chance, color="#666666", linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            f"uniform guess, {chance:g} bits",
            xy=(1.0, chance),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            fontsize=style.SMALL_FONT,
            color="#555555",
        )
    _label_ends(axes, summaries, colour, height)
    _enlarge(axes, summaries, colour)
    style.add_caption(figure, lines, left=0.3)
    return figure


def _write(figure: Figure, path: Path, kind: str, dpi: int) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    date = {} if kind == "png" else {"Date" if kind == "svg" else "CreationDate": None}
    try:
        # A fixed salt and no date: the same figure is the same file.
        with rc_context({"svg.hashsalt": "syncattn"}):
            figure.savefig(temporary, format=kind, dpi=dpi, metadata=date)
        # A temporary file is private to its owner; a picture is as readable as any new file.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def save_figure(
    figure: Figure,
    path_without_suffix: str | os.PathLike[str],
    *,
    vector: Literal["svg", "pdf"] = "svg",
    dpi: int = 150,
) -> list[Path]:
    """Writes a figure as PNG and as a vector file; each appears whole or not at all.

    Args:
        figure: The figure.
        path_without_suffix: Where to write; ``.png`` and the vector suffix are appended. Folders
            that are missing are made.
        vector: The vector format.
        dpi: Resolution of the PNG in dots per inch.

    Returns:
        The two paths, PNG first.
    """
    base = Path(path_without_suffix)
    base.parent.mkdir(parents=True, exist_ok=True)
    paths = [base.with_name(f"{base.name}.{kind}") for kind in ("png", vector)]
    for path, kind in zip(paths, ("png", vector), strict=True):
        _write(figure, path, kind, dpi)
    return paths
