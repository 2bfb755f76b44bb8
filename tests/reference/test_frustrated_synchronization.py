import torch

from syncattn import reference
from tests.tolerance import assert_same


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def random_weights(queries, keys, mask=None):
    weights = torch.rand(1, 2, queries, keys, dtype=torch.float64)
    weights = weights if mask is None else weights * mask
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)


def test_the_coupling_function_by_hand():
    phi = torch.tensor([0.3], dtype=torch.float64)
    a = torch.tensor([[2.0], [-0.5]], dtype=torch.float64)
    alpha = torch.tensor([[0.1], [0.2]], dtype=torch.float64)
    pull = reference.frustrated_synchronization_coupling(phi, a, alpha)
    expected = 2 * torch.sin(phi + 0.1) - 0.5 * torch.sin(2 * phi + 0.2)
    assert_same(pull, expected)


def test_it_is_the_double_sum_of_the_paper():
    theta, weights = normal(1, 2, 5, 3), random_weights(5, 5)
    a, alpha = normal(2, 2, 3, 3, seed=1), normal(2, 2, 3, 3, seed=2)
    strict = torch.ones(5, 5, dtype=torch.bool).tril(-1)
    weights = weights * strict
    out = reference.frustrated_synchronization(weights, theta, theta, a, alpha)
    for h in range(2):
        for t in range(5):
            total = torch.zeros(3, dtype=torch.float64)
            for u in range(t):
                for s in range(2):
                    for m in range(1, 4):
                        angle = m * (theta[0, h, u + s] - theta[0, h, t]) + alpha[h, s, m - 1]
                        total += weights[0, h, t, u] * a[h, s, m - 1] * angle.sin()
            assert_same(out[0, h, t], total)


def test_the_simplest_kernel_is_kuramoto_attention():
    theta_t, theta_u, weights = normal(1, 2, 4, 3), normal(1, 2, 5, 3, seed=1), random_weights(4, 5)
    one, zero = torch.ones(2, 1, 1, 1).double(), torch.zeros(2, 1, 1, 1).double()
    out = reference.frustrated_synchronization(weights, theta_t, theta_u, one, zero)
    assert_same(out, reference.kuramoto_attention(weights, theta_t, theta_u))


def test_a_delay_is_a_frustration_set_by_the_transition_of_the_data():
    theta, weights = 5 * normal(1, 2, 6, 3), random_weights(6, 6)
    weights = weights * torch.ones(6, 6).tril(-1)
    amplitude = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(1, 2, 1, 1).expand(2, 2, 1, 1)
    out = reference.frustrated_synchronization(
        weights, theta, theta, amplitude, torch.zeros_like(amplitude)
    )
    transition = torch.cat([theta[:, :, 1:] - theta[:, :, :-1], theta[:, :, :1]], 2)
    phi = theta[..., None, :, :] - theta[..., :, None, :]
    expected = (weights[..., None] * (phi + transition[..., None, :, :]).sin()).sum(-2)
    assert_same(out, expected)


def test_a_frustration_of_a_quarter_turn_lets_equals_rotate():
    theta, weights = torch.zeros(1, 2, 4, 3, dtype=torch.float64), random_weights(4, 4)
    alpha = torch.full((2, 1, 1, 3), torch.pi / 2, dtype=torch.float64)
    out = reference.frustrated_synchronization(
        weights, theta, theta, 0.7 * torch.ones_like(alpha), alpha
    )
    assert_same(out, torch.full_like(out, 0.7))


def test_a_successor_beyond_reach_does_not_count():
    theta, weights = normal(1, 2, 4, 3), random_weights(4, 4)
    amplitude = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(1, 2, 1, 1).expand(2, 2, 1, 1)
    nothing = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    for reach, silent in ((nothing, True), (~nothing, False)):
        out = reference.frustrated_synchronization(
            weights, theta, theta, amplitude, torch.zeros_like(amplitude), reach=reach
        )
        assert out.any() != silent


def test_gradcheck():
    theta, weights = normal(1, 2, 4, 3).requires_grad_(), random_weights(4, 4).requires_grad_()
    a, alpha = (normal(2, 2, 2, 1, seed=n).requires_grad_() for n in (1, 2))
    reach = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()

    def function(weights, theta, a, alpha):
        return reference.frustrated_synchronization(weights, theta, theta, a, alpha, reach=reach)

    assert torch.autograd.gradcheck(function, (weights, theta, a, alpha), fast_mode=True)


def test_a_reach_of_one_key_holds_for_all():
    theta, weights = normal(1, 2, 4, 3), random_weights(4, 4)
    a, alpha = normal(2, 2, 2, 3, seed=1), normal(2, 2, 2, 3, seed=2)
    one = torch.tensor([True, False, True, True])[:, None]
    short, full = (
        reference.frustrated_synchronization(weights, theta, theta, a, alpha, reach=reach)
        for reach in (one[None, None], one.expand(1, 1, 4, 4))
    )
    assert_same(short, full)
