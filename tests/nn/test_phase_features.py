"""What a linear map reads of phases."""

import math

import pytest
import torch

from syncattn.nn import PhaseFeatures
from syncattn.nn.phase_features import cosine_sine
from syncattn.training.setup import parameter_groups


def test_sines_have_an_offset_of_their_own_that_is_learned_and_not_shrunk():
    module, theta = PhaseFeatures(3), torch.randn(2, 3)
    assert torch.equal(module(theta), theta.sin())
    with torch.no_grad():
        module.offset.copy_(torch.tensor([0.0, math.pi / 2, math.pi]))
    expected = torch.stack([theta[:, 0].sin(), theta[:, 1].cos(), -theta[:, 2].sin()], -1)
    torch.testing.assert_close(module(theta), expected)
    module(theta).square().sum().backward()
    assert module.offset.grad.any()
    assert [g["weight_decay"] for g in parameter_groups(module, 0.1) if g["params"]] == [0.0]


def test_offsets_start_at_0_again():
    module = PhaseFeatures(3)
    with torch.no_grad():
        module.offset.fill_(torch.nan)
    module.reset_parameters()
    assert torch.equal(module.offset, torch.zeros(3))
    PhaseFeatures(3, "cosine-sine").reset_parameters()


def test_all_cosines_come_before_all_sines():
    theta = torch.tensor([[0.0, math.pi / 2], [math.pi, -math.pi / 2]], dtype=torch.float64)
    expected = torch.tensor([[1.0, 0, 0, 1], [-1, 0, 0, -1]], dtype=torch.float64)
    torch.testing.assert_close(cosine_sine(theta), expected)


def test_pairs_have_nothing_to_learn():
    module, theta = PhaseFeatures(3, "cosine-sine"), torch.randn(2, 3)
    assert module.size == 6
    assert not list(module.parameters())
    assert torch.equal(module(theta), cosine_sine(theta))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="`features` must be one of"):
        PhaseFeatures(3, "tangent")
