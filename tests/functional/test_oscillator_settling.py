import itertools
import math
import sys

import pytest
import torch

from syncattn import reference
from syncattn.functional.oscillator_settling import (
    ODE,
    Equilibrium,
    Euler,
    Settle,
    initial_oscillators,
    settle,
    settling_mode,
)
from tests.tolerance import assert_same

DIMS = pytest.mark.parametrize("m", [2, 3, 8, 32])


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def angle(x, h):
    """Returns the angle between x and the drive, exact at both ends."""
    e = unit(h)
    return 2 * torch.atan2((x - e).norm(dim=-1), (x + e).norm(dim=-1))


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("equilibrium", Equilibrium()),
        ("settle(5)", Settle(5.0)),
        (" settle ( 1e-2 ) ", Settle(0.01)),
        ("euler(20, 0.5)", Euler(20, 0.5)),
        ("ode(3)", ODE(3.0)),
        ("ode(3, 1e-4, 1e-5)", ODE(3.0, 1e-4, 1e-5)),
    ],
)
def test_a_mode_is_its_text(text, mode):
    assert settling_mode(text) == mode
    assert settling_mode(mode) is mode
    assert settling_mode(str(mode)) == mode


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rest", ""),
        ("settle", ""),
        ("settle(1, 2)", ""),
        ("settle(soon)", ""),
        ("settle(-1)", "`time` must be finite and between 0"),
        ("settle(inf)", "`time` must be finite"),
        ("euler(2)", ""),
        ("euler(2.5, 1)", ""),
        ("euler(0, 1)", "`num_steps` must be at least 1"),
        ("euler(2, 0)", "`step` must be finite and strictly between 0"),
        ("ode(1, 0)", "`rtol` must be finite and strictly between 0"),
        ("equilibrium(1)", ""),
        ("settle(1", ""),
    ],
)
def test_what_is_no_mode_is_refused(text, reason):
    with pytest.raises(ValueError, match=r"`mode` must be 'equilibrium', 'settle.*got") as error:
        settling_mode(text)
    assert reason in str(error.value)


@DIMS
def test_the_finite_time_flow_is_that_of_an_independent_solver(m):
    pytest.importorskip("torchdiffeq")
    h, start = normal(20, m), unit(normal(20, m, seed=1))
    for time in (0.1, 1.0, 4.0):
        solved = settle(h, ODE(time, 1e-10, 1e-12), start)
        assert_same(settle(h, Settle(time), start), solved, 1e-8)


@DIMS
# theory: OA-7
def test_the_flow_is_that_of_the_definition_and_stays_on_the_sphere(m):
    h, start = normal(300, m) * torch.logspace(-8, 4, 300).double()[:, None], normal(300, m, seed=1)
    start = unit(start)
    for time in (0.0, 1e-3, 1.0, 30.0, 1e4):
        x = settle(h, Settle(time), start)
        assert_same(x, reference.settled(h, start, time), 1e-11)
        assert_same(x.norm(dim=-1), torch.ones(300).double(), 5e-15)


@DIMS
# theory: OA-6
def test_the_half_angle_shrinks_exponentially_at_the_rate_of_the_drive(m):
    h, start = normal(50, m), unit(normal(50, m, seed=1))
    for time in (0.3, 2.0):
        after = (angle(settle(h, Settle(time), start), h) / 2).tan()
        before = (angle(start, h) / 2).tan()
        assert_same(after, before * torch.exp(-h.norm(dim=-1) * time), 1e-12)


@DIMS
def test_a_time_after_a_time_is_their_sum(m):
    h, start = normal(50, m), unit(normal(50, m, seed=1))
    half = settle(h, Settle(0.7), start)
    assert_same(settle(h, Settle(0.5), half), settle(h, Settle(1.2), start))
    assert_same(settle(h, Settle(0.0), start), start)
    assert_same(settle(h, Settle(1e9), start), settle(h))


# theory: OA-3
def test_the_energy_falls_at_the_rate_of_the_squared_sine():
    h, start = normal(30, 4), unit(normal(30, 4, seed=1))
    dt = 1e-5
    now, later, sooner = (settle(h, Settle(t), start) for t in (0.5, 0.5 + dt, 0.5 - dt))
    fall = (-(h * later).sum(-1) + (h * sooner).sum(-1)) / (2 * dt)
    tangential = h - (now * h).sum(-1, keepdim=True) * now
    assert_same(fall, -tangential.square().sum(-1), 1e-6)


# theory: OA-8
@pytest.mark.parametrize("rate", [0.05, 0.9, 1.0, 1.6, 2.0])
def test_an_euler_step_turns_by_the_arctangent(rate):
    h, start = normal(40, 3), unit(normal(40, 3, seed=1))
    h = unit(h)
    theta = angle(start, h)
    expected = (theta - torch.atan(rate * theta.sin())).abs()
    assert_same(angle(settle(h, Euler(1, rate), start), h), expected, 1e-12)
    if rate == 1:
        near = unit(h + 1e-2 * normal(40, 3, seed=2))
        theta = angle(near, h)
        assert_same(angle(settle(h, Euler(1, 1.0), near), h), theta**3 / 2, 1e-8)


def test_euler_converges_up_to_a_rate_of_two_and_never_beyond():
    h = unit(normal(40, 3))
    start = unit(normal(40, 3, seed=1))
    for rate in (0.1, 1.0, 1.9):
        assert angle(settle(h, Euler(400, rate), start), h).max() < 1e-6
    # Beyond 2, the iteration itself, which the mode refuses, ends in a swing of period two.
    for rate, swing in ((2.05, 0.127), (3.0, 0.466), (10.0, 0.709)):
        x = start
        for _ in range(2000):
            x = unit(x + rate * (h - (x * h).sum(-1, keepdim=True) * x))
        assert_same(angle(x, h), torch.full((40,), swing).double(), 1e-3)
        with pytest.raises(ValueError, match=rf"at most 2, or.*got {rate:g} times 1\. Use a step"):
            settle(h, Euler(5, rate), start)


def test_euler_with_small_steps_is_the_flow():
    h, start = normal(20, 5), unit(normal(20, 5, seed=1))
    gaps = [
        (settle(h, Euler(n, 1.0 / n), start) - settle(h, Settle(1.0), start)).abs().max()
        for n in (50, 100, 200)
    ]
    assert gaps[0] < 0.1
    for coarse, fine in itertools.pairwise(gaps):
        assert 1.7 < coarse / fine < 2.3


# theory: OA-10
def test_three_gradients_of_the_equilibrium_agree():
    h, start, probe = 3 * unit(normal(12, 4)), unit(normal(12, 4, seed=1)), normal(12, 4, seed=2)
    h.requires_grad_()
    K, e = h.detach().norm(dim=-1, keepdim=True), unit(h.detach())
    implicit = (probe - (probe * e).sum(-1, keepdim=True) * e) / K

    def gradient(mode):
        (found,) = torch.autograd.grad((settle(h, mode, start) * probe).sum(), h)
        return found

    assert_same(gradient(Equilibrium()), implicit)
    assert_same(gradient(Euler(400, 0.2)), implicit)
    gaps = [(gradient(Settle(t)) - implicit).norm() / implicit.norm() for t in (1.0, 3.0, 12.0)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[0] < 0.7
    assert gaps[2] < 1e-10


@pytest.mark.parametrize("mode", ["settle(0.1)", "settle(2)", "euler(6, 0.3)"])
def test_gradcheck(mode):
    h, start = normal(5, 3).requires_grad_(), unit(normal(5, 3, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda h, x: settle(h, mode, unit(x)), (h, start))


def test_the_gradient_of_the_flow_is_smooth_at_no_drive():
    start, probe = unit(normal(4, 3)), normal(4, 3, seed=1)
    h = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad((settle(h, "settle(2)", start) * probe).sum(), h)
    # For a small drive the state moves by t times its tangential part.
    assert_same(found, 2 * (probe - (probe * start).sum(-1, keepdim=True) * start))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("time", [0.0, 1.0, 1e6])
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-3, 1.0, 1e6])
def test_gradients_are_finite_everywhere(dtype, time, size):
    e = torch.tensor([1.0, 2, 2], dtype=dtype) / 3
    aside = torch.tensor([0.0, 1, 0], dtype=dtype)
    start = torch.stack([-e, e, aside, unit(-e + 1e-4 * aside)]).requires_grad_()
    h = (size * e).expand(4, 3).contiguous().requires_grad_()
    x = settle(h, Settle(time), start)
    assert x.isfinite().all()
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(4, dtype=dtype), rtol=1e-5, atol=1e-5)
    for gradient in torch.autograd.grad((x * aside).sum(), (h, start)):
        assert gradient.isfinite().all()


def test_the_antipode_stays():
    h = normal(5, 3)
    for time in (0.5, 1e5):
        # Rounding turns the antipode by some 1e-16, which e^t undoes.
        x = settle(h.float(), Settle(time), -unit(h).float())
        assert x.isfinite().all()
    axis = torch.tensor([[2.0, 0.0]])
    assert torch.equal(settle(axis, Settle(1e5), torch.tensor([[-1.0, 0.0]])), -axis / 2)


def test_the_start_is_uniform_on_the_sphere_and_hangs_on_place_and_seed():
    start = initial_oscillators(torch.arange(4000), 3, 4)
    assert start.shape == (3, 4000, 4)
    assert_same(start.norm(dim=-1), torch.ones(3, 4000).double())
    # Mean 0, covariance I / m, neighbours in place and head unrelated: five standard deviations.
    assert start.mean((0, 1)).abs().max() < 5 * 0.5 / 12000**0.5
    covariance = start.flatten(0, 1).mT @ start.flatten(0, 1) / 12000
    assert (covariance - torch.eye(4) / 4).abs().max() < 5 * 0.4 / 12000**0.5
    for a, b in ((start[:, 1:], start[:, :-1]), (start[1:], start[:-1])):
        assert (a * b).sum(-1).mean().abs() < 5 * 0.5 / 8000**0.5
    places = torch.tensor([[5, 7], [0, 5]])
    some = initial_oscillators(places, 3, 4)
    assert some.shape == (2, 3, 2, 4)
    assert torch.equal(some[0, :, 0], start[:, 5])
    assert torch.equal(some[1, :, 1], start[:, 5])
    other = initial_oscillators(torch.arange(4000), 3, 4, seed=1)
    assert (other * start).sum(-1).mean().abs() < 5 * 0.5 / 12000**0.5


@pytest.mark.parametrize("m", [2, 8])
def test_starts_near_the_antipode_are_as_frequent_as_the_cap_is_large(m):
    start = initial_oscillators(torch.arange(20_000), 1, m)[0]
    share = (angle(start, torch.eye(m).double()[:1].expand(20_000, m)) > math.pi * 3 / 4).double()
    # P(angle < α) of a uniform start, by the midpoint rule.
    s = (torch.arange(10_000).double() + 0.5) / 10_000 * math.pi / 4
    cap = math.gamma(m / 2) / (math.pi**0.5 * math.gamma((m - 1) / 2))
    cap *= s.sin().pow(m - 2).mean().item() * math.pi / 4
    assert abs(share.mean().item() - cap) < 5 * (cap / 20_000) ** 0.5


def test_a_mode_that_starts_somewhere_needs_a_start():
    with pytest.raises(ValueError, match=r"`initial` must be given with the mode 'settle\(1.0\)'"):
        settle(normal(2, 3), "settle(1)")


def test_without_torchdiffeq_the_mode_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(ImportError, match=r"pip install 'syncattn\[ode\]'.*'settle\(1\)'"):
        settle(normal(2, 3), "ode(1)", unit(normal(2, 3)))
    # No other mode asks for it.
    assert all(
        settle(normal(2, 3), mode, unit(normal(2, 3))).isfinite().all()
        for mode in ("equilibrium", "settle(1)", "euler(2, 0.1)")
    )
