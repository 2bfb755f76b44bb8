import inspect

import pytest
import torch

from syncattn import functional, reference
from tests.tolerance import assert_same


def drawn():
    generator = torch.Generator().manual_seed(3)
    theta_t, theta_u = (
        torch.randn(2, 2, n, 3, generator=generator, dtype=torch.float64) for n in (4, 6)
    )
    weights = functional.kuramoto_attention_weights(theta_t, theta_u, is_causal=True)
    return weights, theta_t, theta_u


def test_it_is_the_double_sum_of_the_definition():
    assert_same(functional.phase_energy(*drawn()), reference.kuramoto_attention_energy(*drawn()))


def test_the_update_is_minus_its_gradient():
    weights, theta_t, theta_u = drawn()
    theta_t.requires_grad_()
    energy = functional.phase_energy(weights, theta_t, theta_u)
    (gradient,) = torch.autograd.grad(energy.sum(), theta_t)
    assert_same(functional.kuramoto_attention(theta_t, theta_u, is_causal=True), -gradient)


@pytest.mark.parametrize("step", [1e-3, 0.1, 1.0])
def test_steps_descend_until_tokens_agree_with_what_they_see(step):
    weights, theta_t, theta_u = drawn()
    energy = functional.phase_energy(weights, theta_t, theta_u)
    start = energy
    for _ in range(20):
        theta_t = theta_t + step * reference.kuramoto_attention(weights, theta_t, theta_u)
        lower = functional.phase_energy(weights, theta_t, theta_u)
        # At the bottom rounding is all that is left.
        assert (lower <= energy + 1e-14).all()
        energy = lower
    assert (energy < start - step).all()


def test_the_lowest_energy_is_minus_the_coherence_of_what_is_seen():
    weights, _, theta_u = drawn()
    mean = weights.to(torch.complex128) @ torch.exp(1j * theta_u)
    energy = functional.phase_energy(weights, mean.angle(), theta_u)
    assert_same(energy, -mean.abs().sum((-2, -1)))


def test_what_does_not_fit_is_refused():
    weights, theta_t, theta_u = drawn()
    with pytest.raises(ValueError, match="`weights` must have one column per key; got 5"):
        # Without the typing hook, which would speak first.
        inspect.unwrap(functional.phase_energy)(weights[..., :5], theta_t, theta_u)
