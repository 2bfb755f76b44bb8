import numpy as np
import pytest

from syncattn.analysis.transition import Branch, Population, transition_figure
from tests.analysis.canvas import faults, texts

K = np.linspace(0, 3, 16)
THEORY = np.sqrt(np.clip(1 - 1 / np.maximum(K, 1e-9), 0, None))


def population(locked=True, on_circle=True):
    angle = np.linspace(0, 2, 40)
    return Population(
        coupling_strength=2.0, times=np.arange(10.0), order_parameter=np.linspace(0, 0.7, 10),
        mean=0.7, points=np.stack((np.cos(angle), np.sin(angle)), -1),
        locked=angle < 1.5 if locked else None, on_circle=on_circle,
    )  # fmt: skip


def draw(**more):
    branches = {
        "started incoherent": Branch(K, THEORY, 0.02 * np.ones(16)),
        "started synchronized": Branch(K, THEORY),
    }
    given = {"theory": Branch(K, THEORY), "critical_coupling": 1.0,
             "caption": "Words below the figure that fill more than one line. " * 6}  # fmt: skip
    return transition_figure(branches, population(), **(given | more))


def test_what_it_says():
    figure = draw(title="A transition of $ signs")
    said = texts(figure)
    for words in ("critical coupling 1", "started incoherent", "started synchronized",
                  "theory, infinitely many", "the population at the right, K = 2",
                  "A transition of $ signs", "turn together (30)", "drift (10)",
                  "K = 2: mean R = 0.700 (dashed)"):  # fmt: skip
        assert words in said
    assert faults(figure) == []


def test_theory_and_simulation_are_drawn_where_they_are():
    axes = draw().axes[0]
    (line,) = [
        found for found in axes.get_lines() if found.get_label() == "theory, infinitely many"
    ]
    np.testing.assert_allclose(line.get_ydata(), THEORY)
    containers = axes.containers
    assert [c.get_label() for c in containers] == ["started incoherent", "started synchronized"]
    np.testing.assert_allclose(containers[0][0].get_ydata(), THEORY)


@pytest.mark.parametrize("critical", [None, np.inf, 9.0, 2.9])
def test_without_theory_and_with_any_threshold(critical):
    figure = draw(theory=None, critical_coupling=critical)
    assert ("critical coupling 2.9" in texts(figure)) == (critical == 2.9)
    assert faults(figure) == []


@pytest.mark.parametrize("on_circle", [True, False])
def test_oscillators_of_unknown_state(on_circle):
    figure = transition_figure({"one": Branch(K, THEORY)}, population(False, on_circle))
    assert "oscillators" in texts(figure)
    (dots,) = figure.axes[2].collections
    np.testing.assert_allclose(dots.get_offsets(), population().points)


def test_drifting_phases_stand_inside():
    together, drifting = draw().axes[2].collections
    np.testing.assert_allclose(np.hypot(*np.asarray(together.get_offsets()).T), 1.0)
    np.testing.assert_allclose(np.hypot(*np.asarray(drifting.get_offsets()).T), 0.86)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="`branches` must hold at least one"):
        transition_figure({}, population())
