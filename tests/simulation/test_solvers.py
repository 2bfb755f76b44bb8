"""Each solver shows the order it declares, by halving the step."""

import functools
import math
from dataclasses import dataclass

import pytest
import torch

from syncattn.simulation import (
    RK4,
    DrivenLohe,
    Euler,
    EulerMaruyama,
    Heun,
    Kuramoto,
    StochasticHeun,
)
from syncattn.simulation.systems import PhaseSystem
from tests.simulation.laws import SYSTEMS

DETERMINISTIC = [Euler(), Heun(), RK4(), EulerMaruyama(), StochasticHeun()]
STOCHASTIC = [EulerMaruyama(), StochasticHeun()]


def name(solver):
    return type(solver).__name__


def run(solver, system, state, step, number, path=None):
    """Integrates, summing the increments of a fine path into those of the step."""
    for index in range(number):
        increment = None
        if path is not None:
            part = len(path) // number
            increment = path[index * part : (index + 1) * part].sum(0)
        state = solver.advance(system, state, index * step, step, increment)
    return state


def slope(errors):
    """Order by least squares over successive halvings."""
    steps = torch.arange(len(errors), dtype=torch.float64)
    logs = -torch.tensor(errors, dtype=torch.float64).log2()
    steps = steps - steps.mean()
    return ((steps * logs).sum() / steps.square().sum()).item()


@functools.cache
def exact(system):
    model = SYSTEMS[system]
    start = model.random_state(generator=torch.Generator().manual_seed(0))
    return start, run(RK4(), model, start, 1 / 256, 256)


@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.parametrize("system", ["kuramoto", "shil", "lohe turning", "driven turning"])
@pytest.mark.parametrize("solver", DETERMINISTIC, ids=name)
def test_order_without_noise(solver, system, projected):
    solver = type(solver)(projected=projected)
    model = SYSTEMS[system]
    start, end = exact(system)
    errors = [(run(solver, model, start, 1 / n, n) - end).abs().max().item() for n in (8, 16, 32)]
    assert slope(errors) == pytest.approx(solver.order, abs=0.25)


def test_solvers_see_the_time():
    @dataclass(frozen=True, eq=False)
    class Driven(PhaseSystem):
        natural_frequency: torch.Tensor
        noise_intensity: float = 0.0

        def drift(self, state, time):
            return torch.full_like(state, math.cos(time))

        def residual(self, state):
            return state.abs().amax(-1)

    system = Driven(torch.zeros(1).double())
    for solver in (Heun(), RK4(), StochasticHeun()):
        errors = [
            abs(run(solver, system, torch.zeros(1).double(), 1 / n, n).item() - math.sin(1.0))
            for n in (4, 8, 16)
        ]
        assert slope(errors) == pytest.approx(solver.order, abs=0.2)


@dataclass(frozen=True, eq=False)
class Multiplied(PhaseSystem):
    """dx = -x/10 dt + x ∘ dB, whose noise commutes; x(t) = x(0) exp(-t/10 + B)."""

    natural_frequency: torch.Tensor
    noise_intensity: float = 0.5
    noise_is_additive = False

    def drift(self, state, time):
        return -0.1 * state

    def residual(self, state):
        return state.abs().amax(-1)

    def diffusion(self, state, increment):
        return math.sqrt(2 * self.noise_intensity) * state * increment

    def ito_correction(self, state):
        return self.noise_intensity * state


def strong_errors(solver, system, start, exact, counts):
    fine = 256
    path = torch.randn(
        fine, *start.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64
    ) / math.sqrt(fine)
    truth = exact(path) if exact else run(StochasticHeun(), system, start, 1 / fine, fine, path)
    return [(run(solver, system, start, 1 / n, n, path) - truth).abs().mean().item()
            for n in counts]  # fmt: skip


@pytest.mark.parametrize("solver", STOCHASTIC, ids=name)
def test_strong_order_with_additive_noise(solver):
    system = Kuramoto(torch.zeros(4).double(), coupling_strength=2.0, noise_intensity=0.2)
    start = system.random_state(500, generator=torch.Generator().manual_seed(0))
    errors = strong_errors(solver, system, start, None, (8, 16, 32))
    assert slope(errors) == pytest.approx(solver.strong_order_additive, abs=0.15)


@pytest.mark.parametrize("solver", STOCHASTIC, ids=name)
def test_strong_order_with_commuting_noise(solver):
    system = Multiplied(torch.zeros(1).double())
    start = torch.ones(2000, 1).double()
    errors = strong_errors(
        solver, system, start, lambda path: (-0.1 + path.sum(0)).exp(), (8, 16, 32)
    )
    assert slope(errors) == pytest.approx(solver.strong_order_commuting, abs=0.15)


@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.parametrize("solver", STOCHASTIC, ids=name)
def test_strong_order_with_general_noise(solver, projected):
    solver = type(solver)(projected=projected)
    drive = torch.tensor([[1.0, 0.0]]).double()
    system = DrivenLohe(drive, noise_intensity=0.2)
    start = system.random_state(1000, generator=torch.Generator().manual_seed(0))
    errors = strong_errors(solver, system, start, None, (8, 16, 32))
    assert slope(errors) == pytest.approx(solver.strong_order, abs=0.15)


def test_renormalised_euler_turns_by_the_arctangent():
    # theory: KU-21
    angle = torch.linspace(0.1, 3.1, 20).double()
    x = torch.stack((angle.cos(), angle.sin(), torch.zeros(20).double()), -1)
    system = DrivenLohe(torch.tensor([1.7, 0.0, 0.0]).double().expand(20, 3))
    for step in (0.1, 0.5, 1.0):
        moved = Euler().advance(system, x, 0.0, step)
        turned = torch.atan2(moved[:, 1], moved[:, 0])
        torch.testing.assert_close(turned, angle - torch.atan(step * 1.7 * angle.sin()))


def test_a_step_per_oscillator():
    system = SYSTEMS["driven"]
    x = system.random_state(generator=torch.Generator().manual_seed(0))
    steps = torch.tensor([0.1, 0.3]).double()[:, None, None]
    for solver in DETERMINISTIC:
        moved = solver.advance(system, x, 0.0, steps)
        for index, step in enumerate((0.1, 0.3)):
            torch.testing.assert_close(moved[index], solver.advance(system, x, 0.0, step)[index])
