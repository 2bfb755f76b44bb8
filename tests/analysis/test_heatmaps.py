from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from syncattn.analysis.heatmaps import LayerPattern, attention_weights
from tests.analysis.canvas import faults, pixels, texts

LEGEND = "R is how far the phases agree; a pair is locked when it shares a rhythm."
TITLE = re.compile(r"layer \d+, head \d+ · .*")


@dataclass
class Pattern:
    weights: Any
    order_parameter: Any = None
    locked: Any = None
    locked_fraction: Any = None


def made(heads: int, length: int, *, oscillators: bool = True, seed: int = 0) -> Pattern:
    rng = np.random.default_rng(seed)
    seen = np.tril(np.ones((length, length), bool))
    locked = (rng.random((heads, length, length)) < 0.5) & seen
    weights = rng.random((heads, length, length)) * (locked if oscillators else seen)
    total = weights.sum(-1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    if not oscillators:
        return Pattern(weights)
    return Pattern(weights, rng.random((heads, length)), locked, np.full(heads, 0.374))


def draw(layers: list[Pattern], tokens: str, **options: Any) -> Figure:
    return attention_weights(layers, list(tokens), mechanism="selective", legend=LEGEND, **options)


def titles(figure: Figure) -> list[str]:
    return [text for text in texts(figure) if TITLE.fullmatch(text)]


def test_a_dataclass_is_a_layer_pattern() -> None:
    assert isinstance(made(1, 1), LayerPattern)
    assert not isinstance(np.zeros((1, 1, 1)), LayerPattern)


@pytest.mark.parametrize(
    ("layers", "heads", "text"),
    [
        (1, 1, "a"),
        (1, 1, "ab"),
        (2, 3, "To be, or not to be:\n\tthat"),
        (1, 2, "\x00$x$ _^{}\\ é中" * 3),
        (1, 1, "x" * 40),
        (5, 5, "y" * 41),
        (2, 2, "z" * 130),
    ],
)
def test_nothing_overlaps_and_nothing_is_cut(layers: int, heads: int, text: str) -> None:
    figure = draw([made(heads, len(text), seed=layer) for layer in range(layers)], text)
    assert faults(figure) == []
    assert len(titles(figure)) == min(layers, 4) * min(heads, 4)


def test_long_names_and_many_layers_fit() -> None:
    layers = [made(1, 12, seed=layer) for layer in range(12)]
    tokens = ["antidisestablishment"] * 12
    figure = attention_weights(layers, tokens, mechanism="frustrated", legend=LEGEND * 5)
    assert faults(figure) == []


def test_the_title_tells_coherence_and_locking() -> None:
    layer = made(2, 4)
    layer.order_parameter = np.array([[0.7, 0.8, 0.9, 0.92], [np.nan, 0.2, 0.2, 0.2]])
    layer.locked_fraction = torch.tensor([0.374, 1.0], dtype=torch.bfloat16)
    assert titles(draw([layer], "abcd")) == [
        "layer 1, head 1 · R = 0.83 · locked 37 %",
        "layer 1, head 2 · R = 0.20 · locked 100 %",
    ]


def test_the_locked_fraction_counts_visible_pairs() -> None:
    layer = made(1, 3)
    layer.locked = np.array([[[True, True, True], [False, True, True], [True, False, True]]])
    layer.locked_fraction = None
    assert "locked 33 %" in titles(draw([layer], "abc"))[0]


def test_softmax_has_no_oscillators() -> None:
    figure = draw([made(2, 5, oscillators=False)], "abcde")
    expected = [f"layer 1, head {head} · no oscillators" for head in (1, 2)]
    assert titles(figure) == expected
    assert not any("order parameter" in text for text in texts(figure))


def test_undefined_coherence_is_said() -> None:
    layer = made(1, 2)
    layer.order_parameter = np.full((1, 2), np.nan)
    assert "R undefined" in titles(draw([layer], "ab"))[0]


def test_labels_are_the_characters_up_to_forty() -> None:
    shown = texts(draw([made(1, 4)], "a \nb"))
    assert {"a", "·", "⏎", "b"} <= set(shown)
    assert "⏎" not in texts(draw([made(1, 41)], "a \nb" * 10 + "c"))


def test_the_caption_carries_the_legend_and_says_what_was_cut() -> None:
    def caption(figure: Figure) -> str:
        (text,) = (text for text in texts(figure) if text.startswith("Each square"))
        return text.replace("\n", " ")

    assert LEGEND in caption(draw([made(1, 3)], "abc"))
    assert "Shown are" not in caption(draw([made(1, 3)] * 4, "abc"))
    assert "first 4 of 5 layers and the first 4 of 6 heads." in caption(
        draw([made(6, 3)] * 5, "abc")
    )


def lines(figure: Figure) -> list[list[float]]:
    (axes,) = (axes for axes in figure.axes if "order parameter" in axes.get_ylabel())
    return [np.asarray(line.get_ydata()).tolist() for line in axes.get_lines()]


def test_the_order_parameter_is_drawn_as_the_mean_over_heads() -> None:
    layer = made(2, 3)
    layer.order_parameter = torch.tensor([[torch.nan, 0.2, 0.4], [torch.nan, 0.4, 0.8]])
    (drawn,) = lines(draw([layer], "abc"))
    assert np.isnan(drawn[0])
    assert drawn[1:] == pytest.approx([0.3, 0.6])


def test_every_layer_has_a_line_though_four_are_shown() -> None:
    assert len(lines(draw([made(1, 3, seed=layer) for layer in range(6)], "abc"))) == 6


def test_rows_of_zeros_are_drawn() -> None:
    layer = Pattern(np.zeros((1, 3, 3)), np.zeros((1, 3)), np.zeros((1, 3, 3), bool))
    figure = draw([layer], "abc")
    assert faults(figure) == []
    assert "weight exactly 0: not locked" in texts(figure)


def panel_colour(
    figure: Figure, picture: np.ndarray, row: int, column: int, size: int
) -> tuple[int, ...]:
    box = figure.axes[0].bbox
    x = box.x0 + (column + 0.5) / size * box.width
    y = picture.shape[0] - (box.y1 - (row + 0.5) / size * box.height)
    patch = picture[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5].reshape(-1, 3)
    return tuple(np.median(patch, axis=0).astype(int).tolist())


def test_hidden_zero_small_and_large_look_different() -> None:
    weights = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.001, 0.0, 0.999]]])
    figure = draw([Pattern(weights)], "abc")
    picture = pixels(figure)
    large, zero, small, hidden = (
        panel_colour(figure, picture, row, column, 3)
        for row, column in ((0, 0), (1, 0), (2, 0), (0, 2))
    )
    assert zero == (255, 255, 255)
    assert max(hidden) - min(hidden) <= 2
    assert hidden[0] < 240
    assert sum(large) < 250
    assert small[0] < 235
    assert small[2] - small[0] > 10


def test_dots_mark_locked_pairs_when_weights_do_not_tell() -> None:
    same, other = made(1, 4), made(1, 4)
    assert "locked pair" not in texts(draw([same], "abcd"))
    other.locked = ~other.locked & np.tril(np.ones((4, 4), bool))
    assert "locked pair" in texts(draw([other], "abcd"))


def test_the_mask_may_be_given() -> None:
    strict = np.tril(np.ones((3, 3), bool), -1)
    weights = np.array([[[0, 0, 0], [1, 0, 0], [0.5, 0.5, 0]]], dtype=float)
    layer = Pattern(weights, locked=np.broadcast_to(strict, (1, 3, 3)))
    assert "locked 100 %" in titles(draw([layer], "abc", visible=torch.from_numpy(strict)))[0]


def test_a_model_that_sees_both_ways_has_nothing_hidden() -> None:
    layer = Pattern(np.full((1, 3, 3), 1 / 3))
    assert "hidden from the query" not in texts(draw([layer], "abc", is_causal=False))


def test_fewer_queries_than_keys_are_the_last_ones() -> None:
    layer = Pattern(np.array([[[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]]), np.array([[0.1, 0.2]]))
    figure = draw([layer], "abc")
    (axes,) = (axes for axes in figure.axes if "order parameter" in axes.get_ylabel())
    assert np.asarray(axes.get_lines()[0].get_xdata()).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("layers", "text", "options", "message"),
    [
        ([], "a", {}, "`layers`"),
        ([made(1, 1)], "", {}, "`tokens`"),
        ([made(1, 3)], "ab", {}, "one key per token, 2"),
        ([Pattern(np.ones((1, 1, 1, 1)))], "a", {}, "Index one sequence"),
        ([Pattern(np.full((1, 2, 2), 0.5))], "ab", {}, "`is_causal=False`"),
        ([Pattern(np.eye(2)[None], np.ones((2, 2)))], "ab", {}, "`order_parameter`"),
        ([made(1, 2), made(2, 2)], "ab", {}, "one shape"),
        ([made(1, 2)], "ab", {"visible": np.ones((3, 3), bool)}, "`visible`"),
    ],
)
def test_wrong_input_is_refused(
    layers: list[Pattern], text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw(layers, text, **options)
