import math

import pytest
import torch

from syncattn.simulation import Kuramoto
from syncattn.simulation.systems_checks import (
    is_skew,
    require_batch,
    require_noise,
    require_parameter,
    require_state,
)


def test_parameters():
    require_parameter(1.0, "width")
    require_parameter(torch.zeros(2, 3), "width", minimum=0.0)
    with pytest.raises(ValueError, match="`width` must be at least 0; got -1"):
        require_parameter(-torch.ones(2), "width", minimum=0.0)
    with pytest.raises(ValueError, match="`width` must be finite"):
        require_parameter(torch.tensor([math.inf]), "width")
    with pytest.raises(TypeError, match="`width` must be a number"):
        require_parameter("much", "width")
    with pytest.raises(TypeError, match="`width` must be float64"):
        require_parameter(torch.ones(2, dtype=torch.int64), "width")


@pytest.mark.parametrize("noise", [-0.5, math.nan, math.inf])
def test_negative_noise_says_what_noise_is(noise):
    with pytest.raises(ValueError, match="`noise_intensity` is a variance per unit time"):
        require_noise(noise)
    with pytest.raises(ValueError, match="Pass 0 for no noise"):
        Kuramoto(torch.zeros(3), coupling_strength=1.0, noise_intensity=noise)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e6])
def test_skewness_is_judged_by_the_size_of_the_matrix(size):
    generator = torch.Generator().manual_seed(0)
    A, turn = torch.randn(2, 16, 16, generator=generator)
    turn = torch.linalg.qr(turn).Q
    rounded = size * turn @ (A - A.mT) @ turn.mT
    assert not torch.equal(rounded, -rounded.mT)
    assert is_skew(rounded)
    assert not is_skew(rounded + 1e-4 * size * torch.eye(16))
    assert not is_skew(torch.stack((1e9 * rounded, rounded + 1e-4 * size * torch.eye(16))))
    assert is_skew(torch.zeros(2, 3, 3))


def test_states():
    require_state(torch.zeros(2), torch.ones(3))
    with pytest.raises(TypeError, match=r"torch.float32 on cpu; got torch.float64"):
        require_state(torch.zeros(2).double(), torch.ones(3))
    require_batch(torch.zeros(4, 2, 3), (2, 3))
    with pytest.raises(ValueError, match=r"\(2, 3\) in all; got shape \(3,\)"):
        require_batch(torch.zeros(3), (2, 3))
