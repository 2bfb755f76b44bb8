import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syncattn import reference
from tests.tolerance import assert_same


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def weigh(theta_t, theta_u, mask=None):
    one = torch.ones(1, dtype=torch.float64)
    return reference.kuramoto_attention_weights(
        theta_t, theta_u, one.expand(theta_t.shape), one.expand(theta_u.shape), scale=0.7, mask=mask
    )


def test_two_phases_by_hand():
    theta = torch.tensor([0.0, math.pi / 2], dtype=torch.float64).reshape(1, 1, 2, 1)
    weights = weigh(theta, theta)
    high = math.exp(0.7) / (math.exp(0.7) + 1)
    expected = torch.tensor([[high, 1 - high], [1 - high, high]], dtype=torch.float64)
    assert_same(weights[0, 0], expected)
    step = reference.kuramoto_attention(weights, theta, theta)[0, 0, :, 0]
    assert_same(step, torch.tensor([1 - high, high - 1], dtype=torch.float64))


def test_gates_weigh_the_coordinates():
    theta_t, theta_u = normal(1, 1, 2, 3), normal(1, 1, 4, 3, seed=1)
    g, h = normal(1, 1, 2, 3, seed=2), normal(1, 1, 4, 3, seed=3)
    weights = reference.kuramoto_attention_weights(theta_t, theta_u, g, h, scale=0.3)
    phi = theta_t[0, 0, :, None] - theta_u[0, 0, None]
    for t in range(2):
        score = [0.3 * sum(g[0, 0, t] * h[0, 0, u] * phi[t, u].cos()) for u in range(4)]
        assert_same(weights[0, 0, t], torch.stack(score).softmax(-1))


@settings(max_examples=15, deadline=None)
@given(st.integers(-5, 5), st.integers(0, 3), st.booleans())
def test_a_whole_turn_anywhere_changes_nothing(turns, which, of_keys):
    theta_t, theta_u = normal(1, 2, 4, 3), normal(1, 2, 4, 3, seed=1)
    expected = reference.kuramoto_attention(weigh(theta_t, theta_u), theta_t, theta_u)
    (theta_u if of_keys else theta_t)[:, :, which] += 2 * math.pi * turns
    turned = reference.kuramoto_attention(weigh(theta_t, theta_u), theta_t, theta_u)
    assert_same(turned, expected)


def test_the_update_is_minus_the_gradient_of_the_energy():
    theta_t, theta_u = normal(2, 2, 4, 3).requires_grad_(), normal(2, 2, 5, 3, seed=1)
    weights = weigh(theta_t.detach(), theta_u)
    energy = reference.kuramoto_attention_energy(weights, theta_t, theta_u)
    (gradient,) = torch.autograd.grad(energy.sum(), theta_t)
    step = reference.kuramoto_attention(weights, theta_t.detach(), theta_u)
    assert_same(step, -gradient)
    lower = reference.kuramoto_attention_energy(weights, theta_t.detach() + 0.01 * step, theta_u)
    assert (lower < energy).all()


def test_the_update_is_the_tangent_part_of_the_circular_mean():
    theta_t, theta_u = normal(1, 2, 4, 3), normal(1, 2, 5, 3, seed=1)
    weights = weigh(theta_t, theta_u)
    mean = torch.einsum("bhtu,bhuk->bhtk", weights.to(torch.complex128), torch.exp(1j * theta_u))
    tangent = 1j * torch.exp(1j * theta_t)
    expected = (mean * tangent.conj()).real
    assert_same(reference.kuramoto_attention(weights, theta_t, theta_u), expected)


def test_the_score_is_an_inner_product_of_gated_cosines_and_sines():
    theta_t, theta_u = normal(1, 2, 4, 3), normal(1, 2, 5, 3, seed=1)
    g, h = normal(1, 2, 4, 3, seed=2), normal(1, 2, 5, 3, seed=3)
    q = torch.cat([g * theta_t.cos(), g * theta_t.sin()], -1)
    k = torch.cat([h * theta_u.cos(), h * theta_u.sin()], -1)
    weights = reference.kuramoto_attention_weights(theta_t, theta_u, g, h, scale=0.7)
    assert_same(weights, (0.7 * q @ k.mT).softmax(-1))


def test_a_masked_row_is_zero_without_gradient():
    theta = normal(1, 1, 3, 2).requires_grad_()
    mask = torch.ones(3, 3, dtype=torch.bool).tril(-1)[None, None]
    weights = weigh(theta, theta, mask)
    assert_same(weights.sum(-1)[0, 0], torch.tensor([0, 1, 1], dtype=torch.float64))
    step = reference.kuramoto_attention(weights, theta, theta)
    (gradient,) = torch.autograd.grad(step[0, 0, 0].sum(), theta)
    assert not gradient.any()
    (gradient,) = torch.autograd.grad(
        reference.kuramoto_attention(weigh(theta, theta, mask), theta, theta).sum(), theta
    )
    assert gradient.isfinite().all()


def test_gradcheck():
    tensors = [normal(1, 2, 3, 2, seed=n).requires_grad_() for n in range(4)]

    def function(theta_t, theta_u, g, h):
        weights = reference.kuramoto_attention_weights(theta_t, theta_u, g, h, scale=0.7)
        return reference.kuramoto_attention(weights, theta_t, theta_u)

    assert torch.autograd.gradcheck(function, tensors, fast_mode=True)


def test_a_sink_by_hand():
    theta = torch.zeros(1, 1, 2, 1, dtype=torch.float64)
    one, sink = torch.ones(1, dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
    mask = torch.ones(2, 2, dtype=torch.bool).tril(-1)[None, None]
    weights = reference.kuramoto_attention_weights(
        theta, theta, one.expand(theta.shape), one.expand(theta.shape), scale=0.7, mask=mask,
        sink=sink,
    )  # fmt: skip
    seen = math.exp(0.7) / (math.exp(0.7) + math.exp(0.4))
    expected = torch.tensor([[0.0, 0.0], [seen, 0.0]], dtype=torch.float64)
    assert_same(weights[0, 0], expected)
