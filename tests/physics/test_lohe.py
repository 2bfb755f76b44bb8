"""Driven unit vectors do what the theory of the attention layer says."""

import itertools

import pytest
import torch

from syncattn.simulation import (
    RK4,
    DrivenLohe,
    Lohe,
    driven_flow,
    half_angle,
    integrate,
    lohe_equilibrium,
    odd_dimension_order_parameter,
    plane_rotation,
    random_rotation,
    synchronization_transition,
)
from syncattn.simulation.systems import tangent


def driven(dim, number=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    drive = torch.randn(number, dim, generator=g, dtype=torch.float64)
    system = DrivenLohe(drive)
    return system, system.random_state(generator=g)


def test_energy_falls_by_the_squared_force():
    # theory: KU-15
    system, x = driven(5)
    solution = integrate(system, RK4(), x, step=0.01, duration=1.0)
    slope = (solution.energy[2:] - solution.energy[:-2]) / 0.02
    force = tangent(solution.trajectory, system.drive).square().sum((-2, -1))
    torch.testing.assert_close(slope, -force[1:-1], rtol=2e-3, atol=0)
    assert (solution.energy.diff() < 0).all()


@pytest.mark.parametrize("dim", [2, 3, 8, 32])
def test_exact_flow_and_half_angle(dim):
    # theory: KU-17
    system, x = driven(dim)
    solution = integrate(system, RK4(), x, step=0.0125, duration=1.0, save_every=20)
    strength = torch.linalg.vector_norm(system.drive, dim=-1)

    def angle(state):
        return torch.acos((state * system.drive).sum(-1) / strength)

    for time, state in zip(solution.times.tolist(), solution.trajectory, strict=True):
        assert (state - driven_flow(x, system.drive, time)).abs().max() < 1e-6
        assert (angle(state) - half_angle(angle(x), strength, time)).abs().max() < 1e-6


@pytest.mark.parametrize("dim", [2, 3, 4, 5, 8])
def test_equilibrium_of_turning_oscillators(dim):
    # theory: KU-16
    g = torch.Generator().manual_seed(dim)
    omega = random_rotation(12, dim, width=1.0, generator=g)
    size = torch.linspace(0.1, 1.5, 12).double()[:, None]
    drive = size * torch.randn(12, dim, generator=g).double()
    expected, multiplier = lohe_equilibrium(drive, omega)
    held = ~multiplier.isnan()
    assert held.all() if dim % 2 else 0 < held.sum() < 12
    # Slow decays near the threshold would need long runs.
    quick = held & (multiplier > 0.3)
    assert quick.sum() >= 3
    system = DrivenLohe(drive, omega)
    solution = integrate(system, RK4(), system.random_state(generator=g), step=0.2,
                         duration=60.0, save_every=100)  # fmt: skip
    torch.testing.assert_close(solution.final_state[quick], expected[quick], atol=1e-5, rtol=0)
    speed = torch.linalg.vector_norm(system.drift(solution.final_state, 0.0), dim=-1)
    assert (speed[~held] > 1e-2).all()


def test_on_the_circle_it_is_injection_locking():
    omega = plane_rotation(torch.tensor([[0.5], [0.99], [1.01]]).double(), 2)
    drive = torch.tensor([1.0, 0.0]).double().expand(3, 2)
    x, multiplier = lohe_equilibrium(drive, omega)
    assert multiplier.isnan().tolist() == [False, False, True]
    offset = torch.asin(torch.tensor([0.5, 0.99]).double())
    torch.testing.assert_close(torch.atan2(x[:2, 1], x[:2, 0]), offset)


def test_identical_vectors_agree():
    # theory: KU-14
    system = Lohe(torch.zeros(30, 2).double(), 5, coupling_strength=2.0)
    start = system.random_state(generator=torch.Generator().manual_seed(0))
    solution = integrate(system, RK4(), start, step=0.2, duration=30.0, stop=1e-8)
    assert solution.success
    assert solution.order_parameter[-1].item() == pytest.approx(1.0)
    assert (solution.energy.diff() < 1e-12).all()


def cubic_population(number):
    """Turns about random axes, with every axis carried to all 48 images under the cube's group.

    A plain sample of axes prefers some direction, and the mean field would find it.
    """
    axis = 0.5 * torch.randn(number, 3, generator=torch.Generator().manual_seed(0)).double()
    images = [
        axis[:, order] * torch.tensor(signs).double()
        for order in itertools.permutations(range(3))
        for signs in itertools.product((-1.0, 1.0), repeat=3)
    ]
    x, y, z = torch.cat(images).unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).view(-1, 3, 3)


def test_odd_dimension_jumps_to_one_half():
    # theory: KU-22
    omega = cubic_population(16)
    couplings = torch.tensor([0.4, 1.0]).double()
    expected = odd_dimension_order_parameter(couplings, omega)
    low = odd_dimension_order_parameter(torch.tensor([0.01]).double(), omega)
    assert low.item() == pytest.approx(0.5, abs=0.01)
    found = synchronization_transition(
        lambda K: Lohe(omega, 3, coupling_strength=K), couplings, start="synchronized",
        duration=50.0, step=0.5, generator=torch.Generator().manual_seed(0),
    ).order_parameter  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0)
