import pytest
import torch

from syncattn.functional.oscillator_settling import Settle, settle
from syncattn.simulation.device_flow import detuned_flow, rotation_generator, turned
from syncattn.simulation.theory_sphere import lohe_equilibrium


def scene(dim, n=20):
    h = 2 * torch.randn(n, dim, dtype=torch.float64)
    x = torch.nn.functional.normalize(torch.randn(n, dim, dtype=torch.float64), dim=-1)
    pairs = dim * (dim - 1) // 2
    skew = rotation_generator(torch.randn(n, pairs, dtype=torch.float64), dim)
    return h, skew, x


def runge_kutta(h, skew, x, time, steps=800):
    def speed(y):
        return (skew @ y.unsqueeze(-1)).squeeze(-1) + h - (y * h).sum(-1, keepdim=True) * y

    dt = time / steps
    for _ in range(steps):
        a = speed(x)
        b = speed(x + dt / 2 * a)
        c = speed(x + dt / 2 * b)
        x = x + dt / 6 * (a + 2 * b + 2 * c + speed(x + dt * c))
    return x


def test_a_positive_frequency_turns_from_the_first_component_to_the_second():
    skew = rotation_generator(torch.tensor([0.5]), 2)
    assert skew.tolist() == [[0.0, -0.5], [0.5, 0.0]]
    big = rotation_generator(torch.randn(3, 6), 4)
    torch.testing.assert_close(big, -big.mT)


@pytest.mark.parametrize("dim", [2, 3, 4, 8])
def test_the_flow_is_that_of_a_solver(dim):
    h, skew, x = scene(dim)
    moved = turned(detuned_flow(h, skew, 1.3), x)
    torch.testing.assert_close(moved, runge_kutta(h, skew, x, 1.3), atol=1e-7, rtol=0)


@pytest.mark.parametrize("dim", [2, 5])
def test_without_detuning_it_is_the_closed_form(dim):
    h, skew, x = scene(dim)
    moved = turned(detuned_flow(h, 0 * skew, 0.7), x)
    torch.testing.assert_close(moved, settle(h, Settle(0.7), x), atol=1e-10, rtol=0)


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_after_a_very_long_time_what_locks_rests(dim):
    h, skew, x = scene(dim)
    rest, rate = lohe_equilibrium(1000 * h, skew)
    moved = turned(detuned_flow(1000 * h, skew, 1e3), x)
    assert rate.isfinite().all()
    torch.testing.assert_close(moved, rest, atol=1e-9, rtol=0)


def test_each_oscillator_may_have_its_own_time():
    h, skew, x = scene(3, n=2)
    moved = turned(detuned_flow(h, skew, torch.tensor([0.0, 2.0], dtype=torch.float64)), x)
    torch.testing.assert_close(moved[0], x[0])
    torch.testing.assert_close(moved[1], turned(detuned_flow(h, skew, 2.0), x)[1])
