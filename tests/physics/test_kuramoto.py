"""Populations of phases do what the theory of synchronization says."""

import math

import pytest
import torch

from syncattn.simulation import (
    RK4,
    Daido,
    DrivenPhases,
    Gaussian,
    Kuramoto,
    Lorentzian,
    SakaguchiKuramoto,
    Uniform,
    astroid_is_bistable,
    critical_coupling,
    frustrated_rotation,
    integrate,
    locked_phase_difference,
    lorentzian_order_parameter,
    self_consistent_order_parameter,
    synchronization_transition,
)


def test_two_oscillators_lock_exactly_where_theory_says():
    # theory: KU-8
    K = 1.5
    detuning = K * torch.tensor([0.0, 0.3, 0.9, 0.99, 1.01, 1.1, 2.0, -0.9, -1.01]).double()
    system = Kuramoto(torch.stack((detuning / 2, -detuning / 2), -1), coupling_strength=K)
    solution = integrate(system, RK4(), torch.zeros(9, 2).double(), step=0.2, duration=100.0,
                         save_every=50)  # fmt: skip
    locked = detuning.abs() <= K
    assert torch.equal(solution.statistics.locked_fraction == 1.0, locked)
    difference = solution.final_state[:, 0] - solution.final_state[:, 1]
    expected = locked_phase_difference(detuning, K)
    assert torch.equal(expected.isnan(), ~locked)
    torch.testing.assert_close(difference[locked], expected[locked], atol=1e-6, rtol=0)
    # Beyond the threshold the difference turns at the mean speed of a sliding pendulum.
    rotation = solution.statistics.rotation_number
    beat = (rotation[:, 0] - rotation[:, 1])[~locked].abs()
    slid = (detuning[~locked].square() - K**2).sqrt()
    # The window holds a few turns only, so the mean is known to a turn over its length.
    assert ((beat - slid).abs() < 2 * math.pi / 50).all()


def lorentzian(number, couplings, duration, width=0.5):
    omega = Lorentzian(width).quantiles(number)
    return synchronization_transition(
        lambda K: Kuramoto(omega, coupling_strength=K), couplings, start="synchronized",
        duration=duration, step=0.2, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip


def test_lorentzian_population():
    # theory: KU-5, KU-7
    couplings = torch.tensor([0.5, 0.8, 1.3, 1.5, 2.0, 3.0]).double()
    found = lorentzian(2000, couplings, 60.0).order_parameter
    assert (found[:2] < 0.06).all()
    expected = lorentzian_order_parameter(couplings, 0.5)
    torch.testing.assert_close(found[2:], expected[2:], rtol=0.02, atol=0)
    # R² = 1 - K_c / K is a line in 1/K that meets 0 at the critical coupling.
    inverse, squared = 1 / couplings[2:], found[2:].square()
    x, y = inverse - inverse.mean(), squared - squared.mean()
    gradient = (x * y).sum() / x.square().sum()
    crossing = inverse.mean() - squared.mean() / gradient
    assert 1 / crossing.item() == pytest.approx(critical_coupling(Lorentzian(0.5)), rel=0.02)


@pytest.mark.slow
def test_a_large_lorentzian_population():
    couplings = torch.tensor([1.2, 1.5, 2.0, 3.0]).double()
    found = lorentzian(20_000, couplings, 200.0).order_parameter
    torch.testing.assert_close(
        found, lorentzian_order_parameter(couplings, 0.5), rtol=0.004, atol=0
    )


@pytest.mark.parametrize("density", [Gaussian(0.5), Uniform(0.5)], ids=lambda d: d.name)
def test_other_densities(density):
    # theory: KU-6
    K_c = critical_coupling(density)
    couplings = K_c * torch.tensor([0.7, 1.2, 2.0]).double()
    omega = density.quantiles(1000)
    found = synchronization_transition(
        lambda K: Kuramoto(omega, coupling_strength=K), couplings, start="synchronized",
        duration=60.0, step=0.25, generator=torch.Generator().manual_seed(0),
    ).order_parameter  # fmt: skip
    expected = self_consistent_order_parameter(couplings, density)
    assert found[0] < 0.1
    torch.testing.assert_close(found[1:], expected[1:], rtol=0.02, atol=0)


@pytest.mark.parametrize("density", [Lorentzian(0.3), Gaussian(0.5)], ids=lambda d: d.name)
def test_noise_shifts_the_transition(density):
    # theory: KU-20
    K_c = critical_coupling(density, noise_intensity=0.3)
    couplings = K_c * torch.tensor([0.6, 1.4, 2.5]).double()
    omega = density.quantiles(4000)
    found = synchronization_transition(
        lambda K: Kuramoto(omega, coupling_strength=K, noise_intensity=0.3), couplings,
        start="synchronized", duration=40.0, step=0.1,
        generator=torch.Generator().manual_seed(0),
    ).order_parameter  # fmt: skip
    expected = self_consistent_order_parameter(couplings, density, noise_intensity=0.3)
    assert expected[0] == 0
    assert found[0] < 0.06
    torch.testing.assert_close(found[1:], expected[1:], rtol=0.02, atol=0)


def test_identical_frustrated_oscillators_rotate():
    # theory: KU-9
    lags = torch.tensor([-1.2, -0.4, 0.0, 0.3, 1.0]).double()
    system = SakaguchiKuramoto(torch.full((8,), 0.7).double(), coupling_strength=2.0,
                               frustration=lags)  # fmt: skip
    start = 0.5 * system.random_state(generator=torch.Generator().manual_seed(0))
    solution = integrate(system, RK4(), start, step=0.1, duration=60.0, stop=1e-9)
    assert solution.success
    torch.testing.assert_close(solution.order_parameter[-1], torch.ones(5).double())
    expected = [frustrated_rotation(0.7, 2.0, lag) for lag in lags.tolist()]
    turned = solution.statistics.rotation_number.mean(-1)
    torch.testing.assert_close(turned, torch.tensor(expected).double())


def test_frustration_raises_the_lorentzian_threshold():
    couplings = torch.tensor([1.6, 2.5]).double()
    omega = Lorentzian(0.5).quantiles(2000)
    found = synchronization_transition(
        lambda K: SakaguchiKuramoto(omega, coupling_strength=K, frustration=0.6), couplings,
        start="synchronized", duration=60.0, step=0.2, generator=torch.Generator().manual_seed(0),
    ).order_parameter  # fmt: skip
    expected = lorentzian_order_parameter(couplings, 0.5, frustration=0.6)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)


def test_a_second_harmonic_alone_makes_two_clusters():
    # theory: KU-10
    system = Daido(torch.zeros(40).double(), coupling_strength=1.0, harmonic_amplitude=(0.0, 1.0))
    start = system.random_state(generator=torch.Generator().manual_seed(0))
    end = integrate(system, RK4(), start, step=0.2, duration=30.0).final_state
    assert (2 * end).cos().mean().hypot((2 * end).sin().mean()).item() == pytest.approx(1.0)
    assert system.order_parameter(end).item() < 0.9


def test_the_second_harmonic_makes_two_attractors_inside_the_astroid():
    # theory: KU-12
    g = torch.Generator().manual_seed(0)
    cases, starts, K2 = 400, 24, 1.0
    strength = 3 * torch.rand(cases, 1, generator=g).double()
    direction = 2 * math.pi * torch.rand(cases, 1, generator=g).double()
    bistable = astroid_is_bistable(strength, direction, torch.tensor(K2).double()).squeeze(-1)
    inside = astroid_is_bistable(strength, direction, torch.tensor(1.05 * K2).double())
    outside = astroid_is_bistable(strength, direction, torch.tensor(0.95 * K2).double())
    clear = (inside == outside).squeeze(-1)
    assert clear.sum() > 300
    assert bistable[(strength < K2).squeeze(-1)].all()
    assert not bistable[(strength > 2 * K2).squeeze(-1)].any()
    system = DrivenPhases(strength.expand(cases, starts), direction.expand(cases, starts),
                          injection_strength=K2)  # fmt: skip
    grid = torch.linspace(0, 2 * math.pi, starts + 1).double()[:-1].expand(cases, starts)
    end = integrate(system, RK4(), grid.clone(), step=0.3, duration=90.0,
                    keep_trajectory=False).final_state  # fmt: skip
    apart = torch.polar(torch.ones_like(end), end)
    found = (apart - apart[:, :1]).abs().amax(-1) > 1e-2
    assert torch.equal(found[clear], bistable[clear])
