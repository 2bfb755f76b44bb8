"""A score knows whether order alone says who sees whom."""

import pytest
import torch

from syncattn._masks import Visibility
from syncattn.kernels.score import Score


@pytest.mark.parametrize(
    ("visibility", "ordered"),
    [
        (Visibility(3, 3, is_causal=True), True),
        (Visibility(3, 3, is_causal=True, exclude_self=True), True),
        (Visibility(3, 3), False),
        (Visibility(3, 3, is_causal=True, key_mask=torch.ones(1, 3, dtype=torch.bool)), False),
    ],
)
def test_ordered_means_causality_and_nothing_else(visibility, ordered):
    phase = torch.zeros(1, 1, 3, 2)
    score = Score(phase, phase, phase, phase, None, 1.0, None, visibility)
    assert score.ordered is ordered
