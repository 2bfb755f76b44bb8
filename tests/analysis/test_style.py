import pytest
import torch
from matplotlib.text import Text

from syncattn.analysis import style
from tests.analysis.canvas import faults


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("a", "a"),
        (" ", "·"),
        ("\n", "⏎"),
        ("\t", "⇥"),
        ("\r", "\\r"),
        ("\x00", "\\x00"),
        ("\x7f", "\\x7f"),
        ("é", "é"),
        ("\u0301", "\\u0301"),
        ("\ud800", "\\ud800"),
        ("中", "\\u4e2d"),
        ("", "∅"),
        (" the\n", "·the⏎"),
        ("abcdefghij", "abcdefg…"),
        ("12345678", "12345678"),
    ],
)
def test_a_character_can_be_read(token: str, shown: str) -> None:
    assert style.readable_character(token) == shown


def test_every_byte_has_a_glyph_and_a_shape_of_its_own() -> None:
    shown = [style.readable_character(chr(byte)) for byte in range(128)]
    assert all(text.strip() for text in shown)
    assert len(set(shown)) == 128


def test_colours_differ_and_known_mechanisms_keep_theirs() -> None:
    few = style.colours(["kuramoto", "mine"])
    many = style.colours(["mine", "softmax", "selective", "oscillator", "kuramoto", "frustrated"])
    assert few["kuramoto"] == many["kuramoto"]
    assert len(set(many.values())) == 6
    assert len(set(style.colours(map(str, range(8))).values())) == 8
    assert len(style.colours(map(str, range(11)))) == 11


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_to_numpy_takes_what_numpy_does_not(kind: torch.dtype) -> None:
    tensor = torch.tensor([0.5, 0.25], dtype=kind, requires_grad=True)
    assert style.to_numpy(tensor).tolist() == [0.5, 0.25]


def test_to_numpy_keeps_booleans() -> None:
    assert style.to_numpy(torch.tensor([True, False])).dtype == bool
    assert style.to_numpy([[1, 2]]).shape == (1, 2)


def test_round_positions_are_few_and_inside() -> None:
    for length in (*range(1, 300), 4096, 100_000):
        positions = style.round_positions(length).tolist()
        assert 1 <= len(set(positions)) == len(positions) <= 7
        assert positions[0] >= 1
        assert positions[-1] <= length


def test_a_caption_stays_inside_its_width() -> None:
    words = "Wide words MMMM and narrow ones until the sentence is long enough to be broken. " * 3
    lines = style.caption_lines(words, 4.0)
    assert " ".join(lines) == words.strip()
    figure = style.empty_figure(4.6, 2.0)
    style.add_caption(figure, lines, left=0.3)
    figure.draw_without_rendering()
    box = figure.findobj(Text)[0].get_window_extent()
    assert box.x1 <= figure.bbox.x1


def test_position_counts_from_the_upper_left() -> None:
    figure = style.empty_figure(4.0, 2.0)
    box = style.position(figure, left=1.0, top=0.5, width=2.0, height=1.0).get_position()
    assert (box.x0, box.x1) == pytest.approx((0.25, 0.75))
    assert (box.y0, box.y1) == pytest.approx((0.25, 0.75))


def test_panels_stand_in_rows_and_inside() -> None:
    figure, panels = style.panels_in_rows(
        5, "title", "caption " * 30, panel_height=1.0, row_height=1.5, columns=2
    )
    assert len(panels) == 5
    assert faults(figure) == []
    heights = sorted({round(axes.get_position().y0, 3) for axes in panels})
    assert len(heights) == 3
    shown = [axes.yaxis.get_tick_params()["labelleft"] for axes in panels]
    assert shown == [True, False, True, False, True]
