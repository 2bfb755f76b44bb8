import math

import pytest
import torch
from torch.nn.functional import softplus

from syncattn import reference
from tests.tolerance import assert_same


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def integrate(x, h, time, steps=2000):
    """Returns the flow of dx/dt = (I - x xᵀ) h by the classical Runge–Kutta method."""

    def speed(x):
        return h - (x * h).sum(-1, keepdim=True) * x

    dt = time / steps
    for _ in range(steps):
        a = speed(x)
        b = speed(x + dt / 2 * a)
        c = speed(x + dt / 2 * b)
        x = x + dt / 6 * (a + 2 * b + 2 * c + speed(x + dt * c))
    return x


@pytest.mark.parametrize("m", [2, 3, 8])
def test_the_flow_follows_the_half_angle_law_to_the_equilibrium(m):
    h, start = normal(5, m), unit(normal(5, m, seed=1))
    assert_same(integrate(start, h, 1.0, 400), reference.settled(h, start, 1.0), 1e-8)
    far = reference.settled(h, start, 60.0 / h.norm(dim=-1).min().item())
    assert_same(far, reference.equilibrium(h))


def test_the_energy_falls_at_the_rate_of_the_squared_sine():
    h, x = normal(4, 3), unit(normal(4, 3, seed=1))
    dt = 1e-5
    energy = [-(h * reference.settled(h, x, t)).sum(-1) for t in (0.0, 2 * dt)]
    now = reference.settled(h, x, dt)
    K = h.norm(dim=-1)
    sine_squared = 1 - ((now * h).sum(-1) / K).square()
    assert_same((energy[1] - energy[0]) / (2 * dt), -K.square() * sine_squared, 1e-6)


def test_the_gradient_of_the_equilibrium_is_the_projection_over_the_rate():
    h = normal(3).requires_grad_()
    probe = normal(3, seed=1)
    (gradient,) = torch.autograd.grad(reference.equilibrium(h) @ probe, h)
    x, K = (h / h.norm()).detach(), h.norm().item()
    assert_same(gradient, (probe - (x @ probe) * x) / K)


def test_gains_of_a_row_of_couplings_change_nothing():
    h = normal(2, 3, 5, 4)
    gain = 10.0 ** normal(2, 3, 5, 1, seed=1)
    assert_same(reference.equilibrium(gain * h), reference.equilibrium(h))


def test_the_drive_is_the_coupled_sum_of_the_anchors():
    q, k, r = normal(1, 2, 3, 4), normal(1, 2, 5, 4, seed=1), unit(normal(1, 2, 5, 2, seed=2))
    h, total = reference.drive(q, k, r, scale=0.5)
    for i in range(3):
        W = [softplus(0.5 * q[0, 0, i] @ k[0, 0, j]) for j in range(5)]
        assert_same(h[0, 0, i], sum(w * r[0, 0, j] for j, w in enumerate(W)))
        assert_same(total[0, 0, i], sum(W))


# theory: OA-11
def test_readout_by_hand():
    # One oscillator along the first axis; anchors at 0, 60 and 180 degrees.
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)[None, None]
    angle = torch.tensor([0.0, math.pi / 3, math.pi], dtype=torch.float64)
    anchor = torch.stack([angle.cos(), angle.sin()], -1)[None, None]
    weights = reference.oscillator_attention_weights(x, anchor)
    assert_same(weights[0, 0, 0], torch.tensor([2, 1.5, 0], dtype=torch.float64) / 3.5)
    squared = reference.oscillator_attention_weights(x, anchor, readout_power=2)
    assert_same(squared[0, 0, 0], torch.tensor([4, 2.25, 0], dtype=torch.float64) / 6.25)


def whole(q, k, v, r, **options):
    return reference.oscillator_attention(q, k, v, r, scale=0.5, **options)


def test_the_gain_of_the_readout_by_hand():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)[:, None].expand(1, 2, 1, 2)
    angle = torch.tensor([0.0, math.pi / 3, math.pi], dtype=torch.float64)
    anchor = torch.stack([angle.cos(), angle.sin()], -1).expand(1, 2, 3, 2)
    gain = torch.tensor([2.0, 0.5], dtype=torch.float64)
    weights = reference.oscillator_attention_weights(x[:, :1].expand(1, 2, 1, 2), anchor,
                                                     readout_gain=gain)  # fmt: skip
    assert_same(weights[0, 0, 0], torch.tensor([3, 2, 0], dtype=torch.float64) / 5)
    assert_same(weights[0, 1, 0], torch.tensor([1.5, 1.25, 0.5], dtype=torch.float64) / 3.25)
    flat = reference.oscillator_attention_weights(x, anchor, readout_gain=0.0)
    assert_same(flat, torch.full_like(flat, 1 / 3))


@pytest.mark.parametrize("m", [2, 3, 8])
@pytest.mark.parametrize("power", [1, 4])
def test_turning_all_anchors_changes_nothing(m, power):
    q, k, v = normal(2, 2, 4, 4), normal(2, 2, 6, 4, seed=1), normal(2, 2, 6, 3, seed=2)
    r = unit(normal(1, 2, 6, m, seed=3))
    Q, _ = torch.linalg.qr(normal(m, m, seed=4))
    turned = whole(q, k, v, r @ Q, readout_power=power)
    assert_same(turned, whole(q, k, v, r, readout_power=power))


# theory: OA-13
@pytest.mark.parametrize(("m", "power", "rank"), [(2, 1, 3), (4, 1, 5), (2, 2, 5), (2, 4, 9)])
def test_the_readout_has_the_rank_of_its_polynomial(m, power, rank):
    x, r = unit(normal(1, 1, 24, m)), unit(normal(1, 1, 24, m, seed=1))
    scores = (1 + x @ r.mT)[0, 0] ** power
    assert torch.linalg.matrix_rank(scores, rtol=1e-10) == rank
    assert rank == math.comb(m + power - 1, power) + math.comb(m + power - 2, power - 1)
    weights = reference.oscillator_attention_weights(x, r, readout_power=power)[0, 0]
    assert torch.linalg.matrix_rank(weights, rtol=1e-10) == rank


# theory: OA-13
def test_no_weight_exceeds_the_bound_of_the_mean_anchor():
    x, r = unit(normal(1, 1, 50, 3)), unit(normal(1, 1, 20, 3, seed=1))
    weights = reference.oscillator_attention_weights(x, r)
    bound = 2 / (20 * (1 + (x * r.mean(2, keepdim=True)).sum(-1)))
    assert (weights.amax(-1) <= bound + 1e-15).all()
    balanced = torch.cat([r, -r], 2)
    assert reference.oscillator_attention_weights(x, balanced).max() <= 2 / 40 + 1e-15


# theory: OA-13
@pytest.mark.parametrize("m", [2, 8])
def test_a_moved_oscillator_moves_its_weights_no_further_than_the_bound(m):
    x, r = unit(normal(1, 1, 200, m)), unit(normal(1, 1, 20, m, seed=1))
    moved = unit(x + 0.3 * normal(1, 1, 200, m, seed=2))
    before, after = (reference.oscillator_attention_weights(s, r) for s in (x, moved))
    apart = (before - after).abs().sum(-1)
    bound = 2 * (x - moved).norm(dim=-1) / (1 + (x * r.mean(2, keepdim=True)).sum(-1))
    assert (apart <= bound).all()


# theory: OA-13
def test_affine_weights_of_a_circle_of_anchors_are_nearly_uniform():
    # The deficit of entropy is at most 1 - ln 2, reached by anchors spread evenly.
    angle = torch.arange(128, dtype=torch.float64) * 2 * math.pi / 128
    anchor = torch.stack([angle.cos(), angle.sin()], -1)[None, None]
    x = unit(normal(1, 1, 50, 2))
    weights = reference.oscillator_attention_weights(x, anchor)
    deficit = math.log(128) + (weights * weights.clamp(min=1e-300).log()).sum(-1)
    assert_same(deficit, torch.full_like(deficit, 1 - math.log(2)), 1e-4)


def test_no_drive_reads_out_uniformly_with_finite_gradients():
    h = torch.zeros(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    r = unit(normal(1, 1, 5, 3))
    weights = reference.oscillator_attention_weights(reference.equilibrium(h), r)
    assert_same(weights, torch.full_like(weights, 0.2))
    (gradient,) = torch.autograd.grad((weights * normal(5)).sum(), h)
    assert gradient.isfinite().all()


# theory: OA-3
def test_two_dimensions_are_kuramoto_phases():
    q, k, v = normal(2, 2, 4, 4), normal(2, 2, 6, 4, seed=1), normal(2, 2, 6, 3, seed=2)
    phi = 3 * normal(1, 2, 6, seed=3)
    mask = torch.ones(4, 6, dtype=torch.bool).tril(2)
    out = whole(q, k, v, torch.stack([phi.cos(), phi.sin()], -1), mask=mask[None, None])
    # The same with angles alone: injection locking to the mean phase of the references.
    W = torch.log1p(torch.exp(0.5 * torch.einsum("bhid,bhjd->bhij", q, k))) * mask
    psi = torch.atan2((W * phi.sin()[..., None, :]).sum(-1), (W * phi.cos()[..., None, :]).sum(-1))
    a = (1 + torch.cos(psi[..., None] - phi[..., None, :])) * mask
    assert_same(out, torch.einsum("bhij,bhjd->bhid", a / a.sum(-1, keepdim=True), v))


def test_free_anchors_never_weigh_negatively():
    x, r = unit(normal(1, 1, 9, 2)), 3 * unit(normal(1, 1, 7, 2, seed=1))
    weights = reference.oscillator_attention_weights(x, r)
    assert (weights >= 0).all()
    assert (weights == 0).any()
    assert_same(weights.sum(-1), torch.ones(1, 1, 9, dtype=torch.float64))


def test_a_masked_row_is_zero_without_gradient():
    tensors = [normal(1, 1, 3, 2, seed=n).requires_grad_() for n in range(4)]
    mask = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1]], dtype=torch.bool)[None, None]
    out = whole(*tensors, mask=mask)
    assert not out[0, 0, 1].any()
    for gradient in torch.autograd.grad(out[0, 0, 1].sum(), tensors):
        assert not gradient.any()


@pytest.mark.parametrize("power", [1, 2])
def test_gradcheck(power):
    tensors = [normal(1, 2, 3, 2, seed=n).requires_grad_() for n in range(3)]
    tensors.append((0.8 * unit(normal(1, 2, 3, 3, seed=5))).requires_grad_())

    def function(*tensors):
        return whole(*tensors, readout_power=power)

    assert torch.autograd.gradcheck(function, tensors, fast_mode=True)
