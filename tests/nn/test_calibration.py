import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from syncattn.nn.calibration import (
    frequency_std,
    locked_fraction,
    squared_cutoff,
    squared_cutoffs,
)


@given(st.floats(-6, 15), st.floats(-3, 3), st.floats(0, 1))
def test_the_cutoff_solves_its_equation(exponent, decay_exponent, r):
    strength, decay = 10.0**exponent, 10.0**decay_exponent
    c = strength * r
    if c < 1e-9:
        return
    # rho = K R exp(-a rho^2), in logarithms.
    u = squared_cutoff(strength, decay, r)
    assert abs(math.log(u) / 2 + decay * u - math.log(c)) < 1e-12 * max(1, abs(math.log(c)))


def test_cutoffs_at_known_points():
    # W(e) = 1 and W(1) is the omega constant.
    assert squared_cutoff(math.e**0.5, 0.5) == pytest.approx(1, rel=1e-15)
    assert squared_cutoff(1.0, 0.5) == pytest.approx(0.5671432904097838, rel=1e-15)
    assert squared_cutoff(1.0, 1.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("raw_strength", "raw_decay", "r", "radius"),
    [
        (1.0, 1.0, 0.8465, 0.6444),
        (1.0, 1.0, 1.0, 0.6956),
        (10.0, 1.0, 0.8465, 1.2156),
        (100.0, -5.0, 0.8465, 15.81),
    ],
)
def test_cutoff_radius_of_the_published_initial_values(raw_strength, raw_decay, r, radius):
    def softplus(x):
        return math.log1p(math.exp(x)) if x < 30 else x

    found = math.sqrt(squared_cutoff(softplus(raw_strength), softplus(raw_decay), r))
    assert found == pytest.approx(radius, rel=2e-4)


@pytest.mark.parametrize("dim", [1, 2, 8, 16])
def test_locked_fraction_is_that_of_a_simulation(dim):
    generator = torch.Generator().manual_seed(dim)
    std, cutoff = 0.4, 0.32 * dim
    omega = std * torch.randn(2, 40_000, dim, generator=generator)
    share = ((omega[0] - omega[1]).square().sum(-1) < cutoff).float().mean().item()
    assert 0.2 < share < 0.8
    assert abs(locked_fraction(cutoff, std, dim) - share) < 0.01


@given(st.floats(0.001, 0.999), st.floats(1e-4, 1e2), st.integers(1, 64))
def test_the_spread_inverts_the_fraction(target, cutoff, dim):
    assert abs(locked_fraction(cutoff, frequency_std(target, cutoff, dim), dim) - target) < 1e-9


def test_the_closed_form_matches_published_measurements():
    # Default initial values of the published layer, d_head = 1, 2, 4: locked 0.570, 0.267, 0.0394.
    strength = decay = math.log1p(math.e)
    cutoff = squared_cutoff(strength, decay, math.exp(-1 / 6))
    for dim, share in ((1, 0.5697), (2, 0.2672), (4, 0.0394)):
        assert abs(locked_fraction(cutoff, 3**-0.5, dim) - share) < 2e-3


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_an_impossible_target_is_refused(target):
    with pytest.raises(ValueError, match="`target_locked_fraction` must be finite and strictly"):
        frequency_std(target, 1.0, 4)


def test_cutoffs_of_tensors_are_those_of_numbers_with_gradients():
    strength = torch.tensor([0.1, 1.3, 30.0], dtype=torch.float64, requires_grad=True)
    decay = torch.tensor([2.0, 1.3, 0.01], dtype=torch.float64, requires_grad=True)
    r = torch.tensor([1.0, 0.85, 0.3], dtype=torch.float64, requires_grad=True)
    numbers = zip(strength.tolist(), decay.tolist(), r.tolist(), strict=True)
    expected = torch.tensor([squared_cutoff(*n) for n in numbers], dtype=torch.float64)
    torch.testing.assert_close(squared_cutoffs(strength, decay, r), expected)
    assert torch.autograd.gradcheck(squared_cutoffs, (strength, decay, r))
    zero = torch.zeros(1, requires_grad=True)
    found = squared_cutoffs(torch.ones(1), torch.ones(1), zero)
    found.backward()
    assert found == 0 and zero.grad.isfinite()
