import torch

from syncattn import kernels, reference
from syncattn._masks import Visibility
from tests.tolerance import assert_same


def test_it_is_the_sum_of_sines_under_the_weights_of_the_features():
    theta_t = 5 * torch.randn(2, 2, 4, 3, dtype=torch.float64)
    theta_u = 5 * torch.randn(2, 2, 6, 3, dtype=torch.float64)
    q, k = (torch.randn(2, 2, n, 6, dtype=torch.float64) for n in (4, 6))
    out = kernels.kuramoto_attention(
        theta_t, theta_u, q, k, scale=0.3, visibility=Visibility(4, 6, is_causal=True)
    )
    seen = torch.ones(4, 6, dtype=torch.bool).tril(2)
    weights = (0.3 * q @ k.mT).masked_fill(~seen, -torch.inf).softmax(-1)
    assert_same(out, reference.kuramoto_attention(weights, theta_t, theta_u))


def test_nothing_seen_means_no_motion():
    theta = torch.randn(1, 1, 1, 3, requires_grad=True)
    feature = torch.randn(1, 1, 1, 6)
    out = kernels.kuramoto_attention(
        theta, theta, feature, feature, scale=1.0,
        visibility=Visibility(1, 1, is_causal=True, exclude_self=True),
    )  # fmt: skip
    assert not out.any()
    (gradient,) = torch.autograd.grad(out.sum(), theta)
    assert not gradient.any()
