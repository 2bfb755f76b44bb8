import numpy as np
import pytest
import torch

from syncattn.analysis.distributions import head_divergence
from syncattn.analysis.head_figures import (
    checkpoint_curves,
    divergence_map,
    head_map,
    lock_graph,
)
from tests.analysis.canvas import faults, pixels, texts


@pytest.mark.parametrize(("layers", "heads", "panels"), [(1, 1, 1), (3, 4, 4), (12, 12, 2)])
def test_a_map_shows_every_number(layers, heads, panels):
    rng = np.random.default_rng(0)
    measures = {f"harmonic {m}": rng.random((layers, heads)) for m in range(panels)}
    figure = head_map(measures, limits={"harmonic 0": (0.0, 1.0)}, caption="Coherence. " * 9)
    assert faults(figure) == []
    assert len(figure.axes) == panels
    written = texts(figure)
    for values in measures.values():
        assert f"{values[0, 0]:.2f}" in written


def test_what_is_undefined_is_a_dash():
    figure = head_map({"locked": [[np.nan, 0.5], [0.25, np.nan]]}, first_layer=0)
    assert texts(figure).count("–") == 2
    assert faults(figure) == []
    assert faults(head_map({"one value": np.full((2, 2), 3.0)})) == []


@pytest.mark.parametrize("measures", [{}, {"a": [1.0, 2.0]}, {"a": np.zeros((0, 2))}])
def test_a_map_of_no_matrix_is_refused(measures):
    with pytest.raises(ValueError, match="`measures` must hold matrices"):
        head_map(measures)


def test_divergence_is_drawn_by_layer():
    torch.manual_seed(0)
    found = head_divergence(torch.rand(3, 4, 6, 6).softmax(-1))
    figure = divergence_map(found)
    assert faults(figure) == []
    assert len(figure.axes) == 3
    assert f"{found[1, 0, 2]:.2f}" in texts(figure)
    with pytest.raises(ValueError, match="heads, heads"):
        divergence_map(torch.zeros(3, 4, 5))


TOKENS = [*list("the phase\nlocks\x00é"), "\x85"]


def test_a_graph_counts_clusters_links_and_who_is_alone():
    locked = np.eye(len(TOKENS), dtype=bool)
    locked[3, 0] = locked[3, 1] = locked[9, 8] = True
    figure = lock_graph(locked, TOKENS, cutoff=0.731)
    assert faults(figure) == []
    written = " ".join(" ".join(texts(figure)).split())
    assert "3 links make 2 clusters, the largest of 3 tokens" in written
    assert f"{len(TOKENS) - 5} of {len(TOKENS)} tokens" in written
    assert "detuning of 0.73" in written


def test_direction_does_not_matter_and_links_show():
    one = np.zeros((8, 8), dtype=bool)
    one[6, 1] = True
    first, second = (pixels(lock_graph(x, list("abcdefgh"))) for x in (one, one.T))
    none = pixels(lock_graph(np.zeros((8, 8), dtype=bool), list("abcdefgh")))
    np.testing.assert_array_equal(first, second)
    assert first.shape != none.shape or (first != none).any()


@pytest.mark.parametrize(("locked", "tokens"), [(np.eye(3, dtype=bool), "ab"), (np.eye(0), "")])
def test_a_graph_must_fit_its_tokens(locked, tokens):
    with pytest.raises(ValueError, match="`locked` must have one row"):
        lock_graph(locked, list(tokens))


def test_checkpoints_are_lines_by_layer():
    steps = [0, 10, 40]
    order = np.array([[0.1, 0.2], [0.5, np.nan], [0.9, 0.4]])
    figure = checkpoint_curves({"R": order, "locked": order / 2}, steps, caption="On one text.")
    assert faults(figure) == []
    lines = figure.axes[0].lines
    np.testing.assert_array_equal(lines[0].get_ydata(), order[:, 0])
    np.testing.assert_array_equal(lines[0].get_xdata(), steps)
    with pytest.raises(ValueError, match="2 checkpoints"):
        checkpoint_curves({"R": order}, [1, 2])
