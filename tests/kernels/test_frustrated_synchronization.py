import pytest
import torch

from syncattn import kernels, reference
from syncattn._masks import Visibility
from syncattn.kernels.frustrated_synchronization import harmonics
from tests.tolerance import assert_same


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_harmonics_by_recurrence_are_the_cosines_and_sines_of_multiples(count):
    theta = 5 * torch.randn(3, 4, dtype=torch.float64)
    cosines, sines = harmonics(theta, count)
    assert len(cosines) == len(sines) == count
    for m, (cosine, sine) in enumerate(zip(cosines, sines, strict=True), start=1):
        assert_same(cosine, (m * theta).cos())
        assert_same(sine, (m * theta).sin())


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("delays", [1, 2])
@pytest.mark.parametrize("queries", [2, 6])
def test_folding_the_kernel_into_the_values_is_the_double_sum(queries, delays, width):
    theta_u = 5 * torch.randn(2, 2, 6, 3, dtype=torch.float64)
    theta_t = theta_u[:, :, -queries:]
    q, k = (torch.randn(2, 2, n, 6, dtype=torch.float64) for n in (queries, 6))
    a, alpha = (torch.randn(2, delays, 3, width, dtype=torch.float64) for _ in range(2))
    out = kernels.frustrated_synchronization(
        theta_t, theta_u, q, k, a, alpha, scale=0.3,
        visibility=Visibility(queries, 6, is_causal=True, exclude_self=True),
    )  # fmt: skip
    seen = torch.ones(queries, 6, dtype=torch.bool).tril(5 - queries)
    score = (0.3 * q @ k.mT).masked_fill(~seen, -torch.inf)
    weights = torch.where(seen.any(-1, keepdim=True), score.softmax(-1), 0.0)
    expected = reference.frustrated_synchronization(weights, theta_t, theta_u, a, alpha)
    assert_same(out, expected)
