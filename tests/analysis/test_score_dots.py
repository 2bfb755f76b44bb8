import pytest

from syncattn.analysis.plots import save_figure
from syncattn.analysis.score_dots import score_dots
from tests.analysis.canvas import faults, texts

ARMS = ("softmax", "selective", "oscillator-2", "oscillator", "kuramoto", "frustrated")


def panels(count, controls=()):
    rows = [arm if c is None else f"{arm}, {c}" for arm in ARMS for c in (None, *controls)]
    return {
        f"keywords-learned-{i}: speech-commands-v0.02-10-words (part, abcdef12): accuracy": {
            row: [0.9 + 0.001 * k + 0.01 * j for j in range(3)] for k, row in enumerate(rows)
        }
        for i in range(count)
    }


@pytest.mark.parametrize(
    ("count", "controls"), [(1, ()), (3, ()), (4, ("coupling-off-at-test", "bypass-identity"))]
)
def test_nothing_is_cut_off_or_printed_over(count, controls):
    figure = score_dots(panels(count, controls), title="One dot per seed")
    assert faults(figure) == []
    labels = [t.get_text() for axes in figure.axes for t in axes.get_yticklabels()]
    assert labels.count("softmax") == count
    assert "One dot per seed" in texts(figure)


def test_a_row_without_a_score_stays_empty():
    figure = score_dots({"table": {"softmax": [0.5], "kuramoto": []}}, title="t")
    (axes,) = figure.axes
    assert sum(len(line.get_xdata()) == 1 for line in axes.lines) == 1


def test_every_dot_lies_at_its_score():
    (axes,) = score_dots({"table": {"softmax": [0.5, 0.7]}}, title="t").axes
    assert list(axes.lines[0].get_xdata()) == [0.5, 0.7]
    assert list(axes.lines[1].get_xdata()) == pytest.approx([0.6, 0.6])


@pytest.mark.parametrize("wrong", [{}, {"table": {"softmax": []}}])
def test_nothing_to_draw_is_refused(wrong):
    with pytest.raises(ValueError, match="`panels` must hold a table with a score"):
        score_dots(wrong, title="t")


def test_names_are_no_mathematics(tmp_path):
    odd = r"my$\q$arm"
    figure = score_dots({odd: {odd: [1.0, 2.0]}}, title=odd)
    save_figure(figure, tmp_path / "dots")
    assert texts(figure).count(odd) >= 3
