import pytest
import torch

from syncattn import functional
from tests.tolerance import assert_same


def test_it_is_the_product_of_place_and_frequency_modulo_a_turn():
    omega = torch.tensor([1.0, 0.3, -2.0], dtype=torch.float64)
    angle = functional.phase_drift(omega, 50, dtype=torch.float64)
    place = torch.arange(50, dtype=torch.float64)[:, None]
    assert_same(angle.cos(), (place * omega).cos())
    assert_same(angle.sin(), (place * omega).sin())
    assert angle.abs().max() <= torch.pi
    assert torch.equal(functional.phase_drift(omega, 20, start=30, dtype=torch.float64), angle[30:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_frequency_of_any_precision_is_taken_at_its_word(dtype):
    omega = torch.rand(8, generator=torch.Generator().manual_seed(1)).to(dtype)
    angle = functional.phase_drift(omega, 3, start=100_000)
    assert angle.dtype == torch.float32
    # Whole numbers of the dtype's last place, added without rounding.
    exact = (torch.arange(100_000, 100_003)[:, None].double() * omega.double()).cos()
    assert (angle.cos() - exact).abs().max() < 1e-6


def test_a_learned_frequency_has_its_gradient():
    omega = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    angle = functional.phase_drift(omega, 10, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(angle.sum(), omega)
    assert_same(gradient, torch.full((2,), 45.0, dtype=torch.float64))


def test_bad_arguments_are_refused():
    omega = torch.ones(2)
    with pytest.raises(ValueError, match="`num_positions` must be at least 0; got -1"):
        functional.phase_drift(omega, -1)
    with pytest.raises(ValueError, match="`natural_frequency` must be finite"):
        functional.phase_drift(torch.tensor([torch.nan]), 2)
