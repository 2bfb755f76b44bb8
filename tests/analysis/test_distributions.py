from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from syncattn.analysis import distributions

HALF, EVEN = [0.5, 0.5, 0.0, 0.0], [0.25] * 4
ONE, NONE = [0.0, 1.0, 0.0, 0.0], [0.0] * 4
ROWS = torch.tensor([[HALF, EVEN, ONE, NONE]])
LN2 = math.log(2)


def close(actual: torch.Tensor, expected: list[float] | float) -> None:
    wanted = torch.tensor(expected, dtype=torch.float64).reshape(actual.shape)
    torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_entropy_of_known_rows() -> None:
    close(distributions.entropy(ROWS), [LN2, 2 * LN2, 0.0, math.nan])


def test_entropy_of_an_uneven_row() -> None:
    # -(3/4) ln(3/4) - (1/4) ln(1/4) = 2 ln 2 - (3/4) ln 3
    expected = 2 * LN2 - 0.75 * math.log(3)
    close(distributions.entropy(torch.tensor([[0.75, 0.25]])), [expected])


def test_normalised_entropy_divides_by_the_visible_keys() -> None:
    close(distributions.entropy(ROWS, normalised=True), [0.5, 1.0, 0.0, math.nan])
    causal = torch.ones(3, 3, dtype=torch.bool).tril()
    even = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
    entropy = distributions.entropy(even, visible=causal, normalised=True)
    close(entropy, [math.nan, 1.0, 1.0])


def test_effective_neighbours() -> None:
    close(distributions.effective_neighbours(ROWS), [2.0, 4.0, 1.0, 0.0])


def test_largest_weight() -> None:
    close(distributions.largest_weight(ROWS), [0.5, 0.25, 1.0, 0.0])


def test_sparsity_counts_visible_pairs_only() -> None:
    close(distributions.sparsity(ROWS), [(2 + 0 + 3 + 4) / 16])
    weights = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.5, 0.5]]])
    causal = torch.ones(2, 2, dtype=torch.bool).tril()
    close(distributions.sparsity(weights, visible=causal), [1 / 3, 0.0])
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    close(distributions.sparsity(torch.zeros(2, 2), visible=nothing), math.nan)


def test_sparsity_sees_the_smallest_weight() -> None:
    weights = torch.tensor([[1.0, 5e-324]], dtype=torch.float64)
    close(distributions.sparsity(weights), 0.0)


def heads(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)[:, None, :]


def test_diversity_of_two_heads() -> None:
    close(distributions.head_diversity(heads([1, 0], [0, 1])), LN2)
    close(distributions.head_diversity(heads([0.3, 0.7], [0.3, 0.7])), 0.0)
    # Middle (3/4, 1/4): its entropy less half of ln 2.
    expected = 2 * LN2 - 0.75 * math.log(3) - LN2 / 2
    close(distributions.head_diversity(heads([1, 0], [0.5, 0.5])), expected)


def test_diversity_is_a_mean_over_pairs() -> None:
    close(distributions.head_diversity(heads([1, 0], [0, 1], [1, 0])), 2 / 3 * LN2)


def test_diversity_leaves_out_empty_rows() -> None:
    one = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
    close(distributions.head_diversity(one), LN2)
    empty = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 1.0]]])
    close(distributions.head_diversity(empty), LN2)


def test_diversity_of_one_head_is_undefined() -> None:
    close(distributions.head_diversity(heads([1, 0])), math.nan)


def test_diversity_keeps_the_batch() -> None:
    batch = torch.stack([heads([1, 0], [0, 1]), heads([1, 0], [1, 0])])
    close(distributions.head_diversity(batch), [LN2, 0.0])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
def test_rounded_rows_are_taken(kind: torch.dtype) -> None:
    scores = torch.randn(2, 64, 512, generator=torch.Generator().manual_seed(0)) * 2
    exact = scores.double().softmax(-1)
    rounded = distributions.entropy(exact.to(kind))
    torch.testing.assert_close(rounded, distributions.entropy(exact), rtol=3e-3, atol=3e-3)


def test_arrays_are_taken() -> None:
    array = ROWS.double().numpy()
    close(distributions.entropy(array), distributions.entropy(ROWS).tolist())
    seen = np.ones((4, 4), bool)
    close(distributions.sparsity(array, visible=seen), [9 / 16])


def test_describe_is_ready_for_a_record() -> None:
    text = json.dumps(distributions.describe(ROWS), allow_nan=False)
    told = json.loads(text)
    assert told["entropy"] == pytest.approx(LN2)
    assert told["normalised_entropy"] == pytest.approx(0.5)
    assert told["effective_neighbours"] == pytest.approx(7 / 4)
    assert told["largest_weight"] == pytest.approx(1.75 / 4)
    assert told["sparsity"] == pytest.approx(9 / 16)
    assert told["empty_rows"] == pytest.approx(1 / 4)
    assert told["head_diversity"] is None


def test_describe_leaves_out_queries_that_see_nothing() -> None:
    strict = torch.ones(3, 3, dtype=torch.bool).tril(-1)
    weights = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0.5, 0.5, 0]]])
    told = distributions.describe(weights, visible=strict)
    assert told["empty_rows"] == 0.0
    assert told["effective_neighbours"] == pytest.approx(1.5)
    assert told["largest_weight"] == pytest.approx(0.75)
    assert told["sparsity"] == 0.0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[0.5, 0.4]], "off by 0.1"),
        ([[1.5, -0.5]], "at least 0"),
        ([[math.nan, 1.0]], "finite"),
        ([[2.0, 0.0]], "sum to 1"),
    ],
)
def test_what_is_no_distribution_is_refused(weights: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distributions.entropy(torch.tensor(weights))


def test_weight_on_a_hidden_key_is_refused() -> None:
    with pytest.raises(ValueError, match="`visible` is False"):
        distributions.sparsity(
            torch.full((2, 2), 0.5), visible=torch.ones(2, 2, dtype=torch.bool).tril()
        )


def test_describe_wants_an_axis_of_heads() -> None:
    with pytest.raises(ValueError, match="axis of heads"):
        distributions.describe(torch.eye(2))


def test_rank_of_known_matrices() -> None:
    copies, alike = torch.eye(5), torch.full((5, 5), 0.2)
    two = torch.block_diag(torch.full((2, 2), 0.5), torch.full((2, 2), 0.5))
    nothing = torch.zeros(4, 4)
    torch.testing.assert_close(distributions.effective_rank(copies).item(), 5.0)
    torch.testing.assert_close(distributions.effective_rank(alike).item(), 1.0)
    found = distributions.effective_rank(torch.stack([two, nothing]))
    torch.testing.assert_close(found, torch.tensor([2.0, 0.0], dtype=torch.float64))


def test_divergence_is_symmetric_and_that_of_each_pair() -> None:
    torch.manual_seed(0)
    weights = torch.rand(2, 3, 6, 6).softmax(-1)
    found = distributions.head_divergence(weights)
    assert torch.equal(found, found.mT)
    assert not found.diagonal(dim1=-2, dim2=-1).any()
    for a, b in ((0, 1), (0, 2), (1, 2)):
        torch.testing.assert_close(found[:, a, b], distributions.head_diversity(weights[:, [a, b]]))


def test_heads_without_a_common_row_have_no_divergence() -> None:
    first, second = torch.zeros(2, 2), torch.zeros(2, 2)
    first[0, 0] = second[1, 1] = 1.0
    assert distributions.head_divergence(torch.stack([first, second]))[0, 1].isnan()
