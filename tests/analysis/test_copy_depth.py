import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syncattn.analysis.copy_depth import (
    copy_depth,
    loss_by_copy_depth,
    loss_by_distance,
    token_losses,
)


def brute_force(row):
    """Returns depth, distance and copied of every token, straight from the words."""
    found = []
    for t in range(len(row)):
        best = (0, 0, False)
        for e in range(1, t):
            n = 0
            while n < e and row[e - 1 - n] == row[t - 1 - n]:
                n += 1
            if n > 0 and n >= best[0]:
                best = (n, t - e, row[e] == row[t])
        found.append(best)
    return [list(column) for column in zip(*found, strict=True)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=14, max_size=14), min_size=1, max_size=3))
def test_it_is_the_brute_force(rows):
    found = copy_depth(np.array(rows))
    for n, row in enumerate(rows):
        assert [x[n].tolist() for x in found] == brute_force(row)


def test_a_longer_text_by_brute_force():
    text = np.random.default_rng(0).integers(0, 4, 200)
    assert [x.tolist() for x in copy_depth(text)] == brute_force(text.tolist())


def test_by_hand():
    found = copy_depth(torch.tensor([[7, 8, 9, 7, 8, 9, 7, 1]]))
    assert found.depth.tolist() == [[0, 0, 0, 0, 1, 2, 3, 4]]
    assert found.distance.tolist() == [[0, 0, 0, 0, 3, 3, 3, 3]]
    assert found.copied.tolist() == [[False] * 4 + [True] * 3 + [False]]


def test_the_most_recent_of_equal_matches_counts():
    found = copy_depth([5, 1, 5, 2, 5, 2])
    assert found.distance[5] == 2
    assert found.copied[5]


@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_texts_copy_nothing(length):
    found = copy_depth(np.full((2, length), 3))
    assert found.depth.shape == (2, length)
    assert not found.depth.any()


def test_the_loss_falls_into_its_bins():
    ids = np.array([[7, 8, 9, 7, 8, 9, 7, 1]])
    losses = np.array([[np.nan, 1, 2, 3, 4, 5, 6, 8]], dtype=float)
    bins = loss_by_copy_depth(losses, ids, edges=(1, 2, 3))
    assert [b.name for b in bins] == ["not copied", "1", "2", "3 and more"]
    # The last token does not continue its match.
    assert [b.num_tokens for b in bins] == [4, 1, 1, 1]
    assert [b.mean for b in bins] == [(1 + 2 + 3 + 8) / 4, 4, 5, 6]
    assert bins[0].error == pytest.approx(np.std([1, 2, 3, 8], ddof=1) / 2)
    assert math.isnan(bins[1].error)
    context = loss_by_copy_depth(losses, ids, edges=(1, 2, 3), copied_only=False)
    assert [b.num_tokens for b in context] == [3, 1, 1, 2]
    assert context[-1].mean == 7
    without_first = loss_by_copy_depth(losses[:, 1:], ids, edges=(1, 2, 3))
    assert without_first[1:3] == bins[1:3] or without_first[0] == bins[0]


def test_the_loss_by_distance():
    ids = np.array([[7, 8, 9, 7, 8, 9, 7, 1]])
    losses = np.arange(8.0)[None]
    bins = loss_by_distance(losses, ids, edges=(1, 3, 4))
    assert [b.num_tokens for b in bins] == [0, 3, 0]
    assert bins[1].mean == 5
    assert math.isnan(bins[0].mean)
    assert [b.num_tokens for b in loss_by_distance(losses, ids, edges=(1, 3), min_depth=3)] == [
        0,
        1,
    ]
    everything = loss_by_distance(losses, ids, edges=(1, 3), copied_only=False)
    assert [b.num_tokens for b in everything] == [0, 4]


def test_every_scored_token_is_in_one_bin():
    ids = np.random.default_rng(1).integers(0, 3, (4, 50))
    losses = np.ones((4, 49))
    assert sum(b.num_tokens for b in loss_by_copy_depth(losses, ids)) == 4 * 49


def test_token_losses_are_the_cross_entropy_of_the_next_token():
    logits, ids = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    found = token_losses(logits, ids)
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    torch.testing.assert_close(found.flatten(), expected)


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="`ids` must be integers; got float64"):
        copy_depth(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="`ids` must be of shape"):
        copy_depth(np.zeros((1, 3, 2), dtype=int))
    with pytest.raises(ValueError, match="`losses` must have one value per token"):
        loss_by_copy_depth(np.zeros((1, 4)), np.zeros((1, 3), dtype=int))
    for edges in ((), (2, 3), (1, 4, 4)):
        with pytest.raises(ValueError, match="`edges` must rise from 1"):
            loss_by_distance(np.zeros((1, 3)), np.zeros((1, 3), dtype=int), edges=edges)
