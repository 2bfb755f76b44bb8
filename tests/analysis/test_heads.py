import pytest
import torch

from syncattn.analysis.distributions import describe
from syncattn.analysis.heads import MEASURES, locked_share, measure_heads
from syncattn.nn import Synchrony


def causal(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


def picture(heads=2, length=5):
    torch.manual_seed(0)
    scores = torch.randn(heads, length, length).masked_fill(~causal(length), -torch.inf)
    locked = torch.zeros(heads, length, length, dtype=torch.bool)
    locked[0] = causal(length)
    locked[1] = torch.eye(length, dtype=torch.bool)
    locked[1, 3, 1] = True
    order = torch.stack([torch.full((length,), 0.5), torch.full((length,), 0.25)])
    order[0, 0] = torch.nan
    return Synchrony(scores.softmax(-1), order, locked)


def test_locking_is_counted_between_two_tokens():
    found = measure_heads(picture(), visible=causal(5))
    assert list(found) == list(MEASURES)
    assert found["locked_fraction"].tolist() == [1.0, 0.1]
    assert found["clusters"].tolist() == [1.0, 4.0]
    assert found["order_parameter"].tolist() == [0.5, 0.25]


def test_spread_agrees_with_the_record_of_one_head():
    one = picture(heads=2)
    found = measure_heads(one, visible=causal(5))
    for head in range(2):
        told = describe(one.weights[head : head + 1], visible=causal(5))
        assert found["effective_neighbours"][head].item() == told["effective_neighbours"]
        assert found["entropy"][head].item() == told["normalised_entropy"]
        assert found["largest_weight"][head].item() == told["largest_weight"]


def test_a_layer_without_oscillators_has_none_of_their_measures():
    found = measure_heads(Synchrony(picture().weights), visible=causal(5))
    assert {"order_parameter", "locked_fraction", "clusters"}.isdisjoint(found)
    assert found["effective_rank"].shape == (2,)


@pytest.mark.parametrize("strict", [0, -1])
def test_rows_that_see_nothing_are_passed_over(strict):
    visible = torch.ones(4, 4, dtype=torch.bool).tril(strict)
    weights = visible / visible.sum(-1, keepdim=True).clamp(min=1)
    found = measure_heads(Synchrony(weights[None].double()), visible=visible)
    expected = sum(range(1, 5 + strict)) / (4 + strict)
    assert found["effective_neighbours"].item() == pytest.approx(expected)


def test_a_share_of_locked_pairs_leaves_out_each_token_with_itself():
    one = picture()
    assert locked_share(one.locked, causal(5)) == pytest.approx(0.55)
    assert locked_share(one.locked[:, -1:], causal(5)[-1:]) == pytest.approx(0.5)
    assert locked_share(one.locked, torch.eye(5, dtype=torch.bool)) is None
