import math

import pytest
import torch

from syncattn.simulation import RK4, DrivenPhases, integrate


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_star_is_the_sum_over_its_anchors():
    W, anchor, theta = normal(3, 5, 4).exp(), normal(3, 4, seed=1), normal(3, 5, seed=2)
    expected = (W * (anchor[:, None, :] - theta[..., None]).sin()).sum(-1)
    system = DrivenPhases.from_anchors(W, anchor)
    torch.testing.assert_close(system.drift(theta, 0.0), expected)


def test_it_settles_at_the_closed_form():
    strength = torch.tensor([1.0, 2.0, 0.5]).double()
    system = DrivenPhases(strength, normal(3), torch.tensor([0.5, -1.0, 0.6]).double(),
                          frustration=0.3)  # fmt: skip
    attractor = system.attractor()
    assert attractor.isnan().tolist() == [False, False, True]
    solution = integrate(system, RK4(), system.random_state(), step=0.1, duration=60.0)
    gap = torch.remainder(solution.final_state - attractor + math.pi, 2 * math.pi) - math.pi
    assert gap[:2].abs().max() < 1e-9
    assert system.residual(solution.final_state).item() > 0


def test_the_unstable_rest_is_no_rest():
    system = DrivenPhases(torch.ones(1).double(), torch.zeros(1).double())
    assert system.residual(torch.tensor([math.pi]).double()).item() == 1.0
    assert system.residual(torch.tensor([0.0]).double()).item() == 0.0
    assert system.residual(torch.tensor([0.1]).double()).item() == pytest.approx(math.sin(0.1))


def test_without_any_drive_everything_rests():
    system = DrivenPhases(torch.zeros(2).double(), torch.zeros(2).double())
    assert system.residual(torch.tensor([1.0, 2.0]).double()).item() == 0.0


def test_fastest_rate():
    system = DrivenPhases(torch.tensor([1.0, 3.0]), torch.zeros(2), injection_strength=0.5)
    assert system.fastest_rate() == 4.0
    across = DrivenPhases(torch.tensor([10.0]).double(), torch.zeros(1).double(),
                          injection_strength=10.0, injection_phase=math.pi / 2)  # fmt: skip
    theta = torch.linspace(0, 2 * math.pi, 20_001, dtype=torch.float64)
    slope = 10 * theta.cos() + 20 * (2 * (math.pi / 2 - theta)).cos()
    assert across.fastest_rate() == pytest.approx(slope.max().item(), rel=1e-6)


def test_wrong_parameters_are_refused():
    with pytest.raises(ValueError, match="`drive_strength` must be at least 0; got -1"):
        DrivenPhases(-torch.ones(2), torch.zeros(2))
    with pytest.raises(ValueError, match="must have one shape"):
        DrivenPhases(torch.ones(2), torch.zeros(3))
    with pytest.raises(ValueError, match="`injection_strength` must be 0 for the attractor"):
        DrivenPhases(torch.ones(2), torch.zeros(2), injection_strength=1.0).attractor()
