from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from syncattn.analysis.plots import learning_curves, save_figure
from tests.analysis.canvas import faults, texts

Points = list[dict[str, Any]]


def points(bits: list[float | None], seed: int | None = None) -> Points:
    named = {} if seed is None else {"seed": seed}
    return [{"tokens": 1000 * i, "valid_bits_per_byte": bit} | named for i, bit in enumerate(bits)]


def decay(last: float, seed: int = 0) -> Points:
    return points([last + (8 - last) * math.exp(-step / 2) for step in range(12)], seed)


def line(axes: Axes, marker: str) -> tuple[list[float], list[float]]:
    (found,) = (found for found in axes.get_lines() if found.get_marker() == marker)
    return np.asarray(found.get_xdata()).tolist(), np.asarray(found.get_ydata()).tolist()


def caption(figure: Figure) -> str:
    (text,) = (text for text in texts(figure) if text.startswith("Cost of the text"))
    return text.replace("\n", " ")


def test_one_mechanism_one_seed() -> None:
    figure = learning_curves({"softmax": points([8.0, 3.0, 2.25])})
    assert line(figure.axes[0], "o") == ([0, 1000, 2000], [8.0, 3.0, 2.25])
    assert "softmax  2.250" in texts(figure)
    assert "seed" not in caption(figure)
    assert faults(figure) == []


def test_axes_name_quantity_and_unit() -> None:
    axes = learning_curves({"softmax": points([8.0, 2.0])}).axes[0]
    assert axes.get_xlabel() == "training tokens seen"
    assert axes.get_ylabel() == "validation bits per byte"


def test_seeds_become_mean_and_sample_deviation() -> None:
    runs = points([4.0, 2.0], 0) + points([4.0, 3.0], 1) + points([4.0, 4.0], 2)
    figure = learning_curves({"kuramoto": runs})
    assert line(figure.axes[0], "o")[1] == [4.0, 3.0]
    assert "kuramoto  3.000 ± 1.000" in texts(figure)
    (band,) = figure.axes[0].collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((2.0, 4.0))
    assert "3 seeds" in caption(figure)


def test_the_mean_stops_where_a_seed_stops() -> None:
    runs = points([4.0, 2.0, 1.5], 0) + points([4.0, 3.0, None], 1)
    figure = learning_curves({"softmax": runs})
    assert line(figure.axes[0], "o") == ([0, 1000], [4.0, 2.5])
    assert line(figure.axes[0], "x") == ([1000], [3.0])
    assert "diverged" in caption(figure)


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_a_value_that_is_not_finite_is_marked(bad: float | None) -> None:
    figure = learning_curves({"softmax": points([4.0, 3.0, bad])})
    assert line(figure.axes[0], "x") == ([1000], [3.0])


def test_seeds_without_a_common_point_are_still_drawn() -> None:
    late = [{"tokens": 500, "valid_bits_per_byte": 3.0, "seed": 1}]
    figure = learning_curves({"softmax": points([4.0, 2.0], 0) + late})
    assert "softmax  (no shared point)" in texts(figure)


def test_points_without_the_value_are_passed_over() -> None:
    runs = [*points([4.0, 2.0]), {"tokens": 3000, "train_bits_per_byte": 1.0}]
    assert line(learning_curves({"softmax": runs}).axes[0], "o")[0] == [0, 1000]


def test_the_guess_is_drawn_or_told() -> None:
    drawn = learning_curves({"softmax": points([7.9, 2.0])})
    assert "uniform guess, 8 bits" in texts(drawn)
    told = learning_curves({"softmax": points([3.0, 2.0])})
    assert "uniform guess, 8 bits" not in texts(told)
    assert "costs 8 bits" in caption(told)
    without = learning_curves({"softmax": points([7.9, 2.0])}, chance=None)
    assert "guess" not in " ".join(texts(without))


def test_close_endings_are_spread_and_enlarged() -> None:
    names = ("softmax", "selective", "oscillator", "kuramoto", "frustrated", "mine")
    curves = {name: decay(2 + 0.01 * i) + decay(2.02, 1) for i, name in enumerate(names)}
    figure = learning_curves(curves)
    assert faults(figure) == []
    assert "the second half, enlarged" in texts(figure)


def test_one_curve_is_not_enlarged() -> None:
    assert "the second half, enlarged" not in texts(learning_curves({"softmax": decay(2.0)}))


def test_a_high_curve_is_not_covered() -> None:
    curves = {"softmax": points([8.0] * 6), "selective": points([8.0, 7.9, 7.9, 7.9, 7.9, 7.9])}
    assert "the second half, enlarged" not in texts(learning_curves(curves))


def test_twenty_long_names_fit() -> None:
    curves = {f"a mechanism with $a$ long name {i}": decay(2 + i / 50) for i in range(20)}
    assert faults(learning_curves(curves)) == []


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one mechanism"):
        learning_curves({})
    with pytest.raises(ValueError, match="'selective'"):
        learning_curves({"softmax": points([2.0]), "selective": points([math.nan])})


@pytest.mark.parametrize("vector", ["svg", "pdf"])
def test_a_figure_is_saved_twice(tmp_path: Path, vector: Any) -> None:
    figure = learning_curves({"softmax": decay(2.0), "kuramoto": decay(2.1)})
    paths = save_figure(figure, tmp_path / "new" / "curves.v1", vector=vector)
    assert [path.name for path in paths] == ["curves.v1.png", f"curves.v1.{vector}"]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(
        path.name for path in paths
    )
    picture = matplotlib.image.imread(paths[0])
    expected = np.round(figure.get_size_inches() * 150).astype(int)
    assert np.abs(np.array(picture.shape[1::-1]) - expected).max() <= 1
    assert picture[..., :3].std() > 0.05
    assert paths[1].read_bytes()[:5] in (b"<?xml", b"%PDF-")


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    figures = [learning_curves({"softmax": decay(2.0)}) for _ in range(2)]
    saved = [save_figure(figure, tmp_path / str(i)) for i, figure in enumerate(figures)]
    for one, other in zip(*saved, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_failed_save_leaves_the_old_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = learning_curves({"softmax": decay(2.0)})
    old, _ = save_figure(figure, tmp_path / "curves")
    before = old.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, tmp_path / "curves")
    assert old.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_no_global_state_is_touched() -> None:
    learning_curves({"softmax": decay(2.0)})
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
