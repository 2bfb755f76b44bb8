import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syncattn import reference
from syncattn.reference.selective_synchronization import strongest
from tests.tolerance import assert_same


def couplings(strength, decay):
    named = {"coupling_strength": strength, "coupling_decay": decay}
    return {name: torch.tensor([x], dtype=torch.float64) for name, x in named.items()}


def line(*omega):
    return torch.tensor(omega, dtype=torch.float64).reshape(1, 1, -1, 1)


def synchronize(omega, r=1.0, strength=1.0, decay=0.5, form=reference.synchronization, **options):
    order = torch.full(omega.shape[:3], r, dtype=torch.float64)
    return form(omega, omega, order, **couplings(strength, decay), **options)


def gaussian(*shape, std=0.4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return std * torch.randn(shape, generator=generator, dtype=torch.float64)


def test_three_oscillators_by_hand():
    # K = 1, a = 1/2, R = 1: S^2 = exp(-u) - u for u = 0, 0.25, 1 and 0.25 again.
    s = synchronize(line(0.0, 0.5, 1.0))[0, 0]
    near = math.sqrt(math.exp(-0.25) - 0.25)
    # u = 1 is beyond W(1) = 0.567.
    expected = [[1.0, near, 0.0], [near, 1.0, near], [0.0, near, 1.0]]
    assert_same(s, torch.tensor(expected, dtype=torch.float64))
    weights = reference.synchronization_weights(s)
    assert_same(weights[0], torch.tensor([1, near, 0], dtype=torch.float64) / (1 + near))


def test_it_is_the_coupling_times_the_cosine_of_the_locked_phase_difference():
    omega = gaussian(1, 1, 30, 2)
    u = (omega[..., :, None, :] - omega[..., None, :, :]).square().sum(-1)
    J = torch.exp(-1.1 * u)
    threshold = 1.3 * 0.8 * J
    ratio = u.sqrt() / threshold
    expected = torch.where(ratio <= 1, J * ratio.clamp(max=1).asin().cos(), 0.0)
    s = synchronize(omega, 0.8, 1.3, 1.1)
    assert 0.2 < (s > 0).double().mean() < 0.9
    assert_same(s, expected, 1e-7)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 20), st.floats(0.01, 20), st.floats(0.05, 1))
def test_pairs_lock_exactly_within_the_cutoff_radius(strength, decay, r):
    def excess(u):
        return math.log(u) + 2 * decay * u - 2 * math.log(strength * r)

    # Bisection for the root of the locking condition, without Lambert's function.
    low, high = 0.0, (strength * r) ** 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    radius = math.sqrt(low)
    s = synchronize(line(0.0, radius * (1 - 1e-9)), r, strength, decay)[0, 0]
    assert s[0, 1] > 0
    assert synchronize(line(0.0, radius * (1 + 1e-9)), r, strength, decay)[0, 0, 0, 1] == 0
    assert radius <= strength * r


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 99))
def test_the_scale_of_the_frequencies_is_a_gauge(scale, seed):
    omega = gaussian(1, 1, 8, 3, seed=seed)
    s = synchronize(omega, 0.9, 1.3, 1.1)
    assert_same(synchronize(scale * omega, 0.9, 1.3 * scale, 1.1 / scale**2), s, 1e-7)


def test_adding_one_frequency_to_everybody_changes_nothing():
    omega = gaussian(1, 1, 8, 3)
    assert_same(synchronize(omega + 0.5), synchronize(omega), 1e-7)


def test_it_is_symmetric_and_strongest_with_oneself():
    s = synchronize(gaussian(1, 1, 40, 2), 0.8, 1.3, 1.1)[0, 0]
    assert torch.equal(s, s.mT)
    assert torch.equal(s.diagonal(), torch.ones(40, dtype=torch.float64))
    assert (s <= 1).all()
    assert (s - torch.eye(40)).max() < 1


def test_the_weights_are_a_reversible_chain():
    s = synchronize(gaussian(1, 1, 30, 2, std=0.6), 0.8, 1.3, 1.1)[0, 0]
    weights = reference.synchronization_weights(s)
    assert_same(weights.sum(-1), torch.ones(30, dtype=torch.float64))
    stationary = s.sum(-1) / s.sum()
    flow = stationary[:, None] * weights
    assert_same(flow, flow.mT)
    values = torch.linalg.eigvals(weights)
    assert values.imag.abs().max() < 1e-12
    # Eigenvalue 1 once per connected component of the lock graph.
    reach = (s > 0).double()
    for _ in range(6):
        reach = (reach @ reach > 0).double()
    components = len({tuple(row.tolist()) for row in reach})
    assert ((values.real - 1).abs() < 1e-9).sum() == components


def test_the_published_form_is_the_square_root_form_up_to_its_epsilons():
    omega = gaussian(2, 1, 50, 4, std=0.3)
    ours = synchronize(omega, 0.8, 1.3, 1.1)
    published = synchronize(omega, 0.8, 1.3, 1.1, form=reference.paper_synchronization)
    assert torch.equal(ours > 1e-3, published > 1e-3)
    assert 0.2 < (ours > 0).double().mean() < 0.9
    # At the edge an epsilon of 1e-8 weighs as its square root.
    assert (ours - published).abs().max() < 1e-3
    inside = ours > 0.1
    assert (ours - published)[inside].abs().max() < 1e-6


@pytest.mark.parametrize("form", [reference.synchronization, reference.paper_synchronization])
def test_gradients_are_finite_at_zero_detuning_on_the_edge_and_at_any_size(form):
    edge = math.sqrt(0.5)  # with a = 1 and K^2 = e / 2 the pair is exactly on the boundary
    for other in (0.0, edge, edge * (1 - 1e-16), edge * (1 + 1e-16), 1e-15, 1e-200, 1e3):
        omega = line(0.0, other).requires_grad_()
        s = synchronize(omega, 1.0, math.sqrt(math.e / 2), 1.0, form=form)
        (gradient,) = torch.autograd.grad(s.sum(), omega)
        assert not gradient.isnan().any()


@pytest.mark.parametrize("form", [reference.synchronization, reference.paper_synchronization])
def test_gradcheck(form):
    omega = gaussian(1, 2, 4, 2, std=0.3).requires_grad_()
    r = torch.full((1, 2, 4), 0.8, dtype=torch.float64, requires_grad=True)
    strength = torch.tensor([1.3, 0.9], dtype=torch.float64, requires_grad=True)
    decay = torch.tensor([1.1, 0.6], dtype=torch.float64, requires_grad=True)

    def function(omega, r, strength, decay):
        return form(omega, omega, r, coupling_strength=strength, coupling_decay=decay)

    assert torch.autograd.gradcheck(function, (omega, r, strength, decay), fast_mode=True)


def test_the_slope_is_the_one_derived_by_hand():
    u, a, c = 0.2, 1.1, 1.3
    omega = line(0.0, math.sqrt(u)).requires_grad_()
    s = synchronize(omega, 1.0, c, a)[0, 0, 0, 1]
    (gradient,) = torch.autograd.grad(s, omega)
    slope = -(2 * a * math.exp(-2 * a * u) + 1 / c**2) / (2 * s.item())
    assert abs(gradient[0, 0, 1, 0].item() - slope * 2 * math.sqrt(u)) < 1e-12


def test_the_edge_floor_bounds_the_gradient_and_leaves_the_value():
    edge = math.sqrt(0.5) * (1 - 1e-13)
    sharp, floored = (
        synchronize(line(0.0, edge), 1.0, math.sqrt(math.e / 2), 1.0, edge_floor=floor)
        for floor in (0.0, 1e-3)
    )
    assert_same(floored, sharp)
    assert 0 < sharp[0, 0, 0, 1] < 1e-5
    omega = line(0.0, edge).requires_grad_()
    s = synchronize(omega, 1.0, math.sqrt(math.e / 2), 1.0, edge_floor=1e-3)
    (gradient,) = torch.autograd.grad(s[0, 0, 0, 1], omega)
    assert 1e2 < gradient.abs().max() < 1e4


@pytest.mark.parametrize("smoothing", [0.1, 0.01])
def test_smoothing_keeps_the_support_and_stays_near(smoothing):
    omega = gaussian(1, 1, 40, 2)
    sharp = synchronize(omega, 0.8, 1.3, 1.1)
    smooth = synchronize(omega, 0.8, 1.3, 1.1, smoothing=smoothing)
    assert torch.equal(smooth > 0, sharp > 0)
    assert (smooth - sharp).abs().max() <= smoothing
    assert_same(smooth.diagonal(dim1=-2, dim2=-1), torch.ones(1, 1, 40, dtype=torch.float64))


def test_top_k_keeps_the_strongest_and_the_earlier_of_equals():
    rows = torch.tensor([[0.1, 0.5, 0.5, 0.2], [0.0, 0.0, 0.3, 0.0]])
    expected = torch.tensor([[0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.3, 0.0]])
    assert torch.equal(strongest(rows, 2), expected)
    first = torch.tensor([[0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.3, 0.0]])
    assert torch.equal(strongest(rows, 1), first)
    assert torch.equal(strongest(rows, 9), rows)


def test_no_coherence_locks_only_equals():
    s = synchronize(line(0.0, 0.0, 1e-6), 0.0)[0, 0]
    expected = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.float64)
    assert torch.equal(s, expected)


def test_a_masked_row_is_zero_without_gradient():
    omega = line(0.0, 0.1, 0.2).requires_grad_()
    mask = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 1]], dtype=torch.bool)[None, None]
    weights = reference.synchronization_weights(synchronize(omega, mask=mask))
    assert_same(weights.sum(-1)[0, 0], torch.tensor([1, 0, 1], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(weights[0, 0, 1].sum(), omega)
    assert not gradient.any()


def test_order_parameter_by_hand_and_as_a_prefix():
    phase = line(0.0, math.pi / 2, math.pi)
    everybody = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    third = torch.full((1, 1, 3), 1 / 3, dtype=torch.float64)
    assert_same(reference.row_order_parameter(phase, everybody), third)
    prefix = reference.row_order_parameter(phase, everybody.tril())
    assert_same(prefix[0, 0], torch.tensor([1, math.sqrt(0.5), 1 / 3], dtype=torch.float64))
    nobody = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    assert_same(reference.row_order_parameter(phase, nobody), torch.ones_like(third))


def test_order_parameter_is_averaged_over_channels_after_the_modulus():
    phase = torch.tensor([[0.0, 0.0], [0.0, math.pi]], dtype=torch.float64)[None, None]
    r = reference.row_order_parameter(phase, torch.ones(1, 1, 2, 2, dtype=torch.bool))
    assert_same(r, torch.full((1, 1, 2), 0.5, dtype=torch.float64))


def test_unbiased_order_parameter_has_no_mean_among_independent_phases():
    generator = torch.Generator().manual_seed(0)
    phase = 2 * math.pi * torch.rand(20000, 1, 4, 1, generator=generator, dtype=torch.float64)
    mask = torch.ones(1, 1, 1, 4, dtype=torch.bool)
    biased = reference.row_order_parameter(phase, mask).square().mean()
    assert abs(biased - 1 / 4) < 0.01
    z = torch.exp(1j * phase[:, 0, :, 0]).mean(-1).abs().square()
    assert abs(((4 * z - 1) / 3).mean()) < 0.01
    unbiased = reference.row_order_parameter(phase, mask, unbiased=True)
    assert_same(unbiased[:, 0, 0].square(), ((4 * z - 1) / 3).clamp(min=0))
    locked = reference.row_order_parameter(torch.zeros_like(phase[:1]), mask, unbiased=True)
    assert_same(locked, torch.ones(1, 1, 1, dtype=torch.float64))


def test_the_output_is_the_weighted_mean():
    omega, value = gaussian(1, 1, 6, 2), gaussian(1, 1, 6, 3, seed=1)
    out = reference.selective_synchronization(
        omega, omega, value, torch.ones(1, 1, 6, dtype=torch.float64), **couplings(1.0, 0.5)
    )
    s = synchronize(omega)
    assert_same(out, s @ value / s.sum(-1, keepdim=True))
