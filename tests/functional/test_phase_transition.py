import pytest
import torch

from syncattn import functional
from tests.tolerance import assert_same


def test_it_is_the_wrapped_difference_of_neighbours():
    phase = torch.tensor([0.0, 3.0, -3.0, 0.5], dtype=torch.float64).reshape(1, 1, 4, 1)
    transition, exists = functional.phase_transition(phase)
    expected = torch.tensor([3.0, 2 * torch.pi - 6.0, 3.5 - 2 * torch.pi + 2 * torch.pi, 0.0])
    expected[2] = 3.5 - 2 * torch.pi
    assert_same(transition.flatten(), expected.double(), 1e-6)
    assert exists.tolist() == [[True, True, True, False]]


def test_a_longer_delay_reaches_further():
    phase = torch.arange(5.0).reshape(1, 1, 5, 1) / 4
    transition, exists = functional.phase_transition(phase, delay=3)
    torch.testing.assert_close(transition.flatten(), torch.tensor([0.75, 0.75, 0.0, 0.0, 0.0]))
    assert exists.sum() == 2


def test_padding_and_boundaries_end_a_transition():
    phase = torch.randn(2, 1, 6, 3)
    real = torch.ones(2, 6, dtype=torch.bool)
    real[1, 2] = False
    transition, exists = functional.phase_transition(phase, key_mask=real)
    assert exists.tolist() == [[True] * 5 + [False], [True, False, False, True, True, False]]
    assert not transition[1, :, 1].any()
    _, exists = functional.phase_transition(phase[:1], cu_seqlens=torch.tensor([0, 2, 6]))
    assert exists.tolist() == [[True, False, True, True, True, False]]


def test_no_delay_is_no_transition():
    with pytest.raises(ValueError, match="`delay` must be at least 1; got 0"):
        functional.phase_transition(torch.zeros(1, 1, 2, 1), delay=0)
