import math

import torch

from syncattn.simulation.device_harmonics import (
    bistable,
    harmonic_flow,
    local_rate,
    locks,
    velocity,
)


def polar(strength, phase):
    strength, phase = torch.as_tensor(strength).double(), torch.as_tensor(phase).double()
    return torch.stack([strength * phase.cos(), strength * phase.sin()], -1)


def test_the_astroid_counts_the_stable_phases():
    torch.manual_seed(0)
    n = 400
    h = polar(torch.rand(n) * 3, torch.rand(n) * 6)
    second = polar(torch.rand(n) + 0.1, torch.rand(n) * 6)
    grid = torch.linspace(0, 2 * math.pi, 20_001).double()[:-1]
    velocity = (
        h[:, 1:] * grid.cos() - h[:, :1] * grid.sin()
        + second[:, 1:] * (2 * grid).cos() - second[:, :1] * (2 * grid).sin()
    )  # fmt: skip
    falls = ((velocity > 0) & (velocity.roll(-1, -1) <= 0)).sum(-1)
    assert torch.equal(bistable(h, second), falls == 2)


def test_an_oscillator_locks_where_its_velocity_changes_sign():
    torch.manual_seed(1)
    n = 400
    h, second = polar(torch.rand(n) * 3, torch.rand(n) * 6), polar(torch.rand(n), torch.rand(n) * 6)
    omega = (2 * torch.randn(n)).double()
    grid = torch.linspace(0, 2 * math.pi, 10_001).double().expand(n, -1)
    drives = (x[:, None].expand(*grid.shape, 2) for x in (h, second))
    speed = velocity(grid, *drives, omega[:, None])
    assert torch.equal(locks(h, second, omega), (speed > 0).any(-1) & (speed < 0).any(-1))
    frequency = torch.tensor([0.999, -1.001]).double()
    assert locks(polar([1.0, 1.0], [0.3, 0.3]), 0 * h[:2], frequency).tolist() == [True, False]


def test_without_a_second_harmonic_it_is_the_half_angle_law():
    x, h = polar(torch.ones(3), [0.5, 2.0, -3.0]), polar(1.5, [0.0, 0.0, 0.0])
    moved = harmonic_flow(h, torch.zeros_like(h), x, time=1.0)
    angle = torch.atan2(moved[:, 1], moved[:, 0])
    expected = 2 * torch.atan(torch.tan(torch.tensor([0.25, 1.0, -1.5]).double()) * math.exp(-1.5))
    torch.testing.assert_close(angle, expected, atol=1e-6, rtol=0)


def test_strong_injection_leaves_two_places():
    n = 200
    start = polar(torch.ones(n), torch.linspace(-3, 3, n))
    h, second = polar(torch.full((n,), 0.1), torch.zeros(n)), polar(torch.ones(n), torch.zeros(n))
    end = harmonic_flow(h, second, start)
    assert bistable(h, second).all()
    assert (end[:, 0] > 0.99).any()
    assert (end[:, 0] < -0.99).any()
    rate = local_rate(end, h, second)
    torch.testing.assert_close(rate, 2 + 0.1 * end[:, 0], atol=1e-6, rtol=0)


def test_a_detuned_phase_lags_by_the_arcsine():
    h = polar([2.0], [0.3])
    end = harmonic_flow(h, 0 * h, polar([1.0], [0.0]), frequency=torch.tensor([1.0]))
    angle = float(torch.atan2(end[0, 1], end[0, 0]))
    assert abs(angle - 0.3 - math.asin(0.5)) < 1e-6
