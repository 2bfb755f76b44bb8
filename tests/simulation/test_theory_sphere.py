import math

import pytest
import torch

from syncattn.simulation import (
    driven_flow,
    half_angle,
    lohe_equilibrium,
    odd_dimension_order_parameter,
    plane_rotation,
    random_rotation,
    von_mises_fisher_mean,
)
from syncattn.simulation.systems import unit_vectors


def scene(dim, number=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, h = (torch.randn(number, dim, generator=g, dtype=torch.float64) for _ in range(2))
    return unit_vectors(x), h


@pytest.mark.parametrize("dim", [2, 3, 8, 32])
def test_flow_is_a_flow(dim):
    x, h = scene(dim)
    torch.testing.assert_close(driven_flow(x, h, 0.0), x)
    later = driven_flow(driven_flow(x, h, 0.4), h, 0.6)
    torch.testing.assert_close(later, driven_flow(x, h, 1.0))
    norm = torch.linalg.vector_norm(driven_flow(x, h, 3.0), dim=-1)
    assert (norm - 1).abs().max() < 1e-14
    torch.testing.assert_close(driven_flow(x, h, 1e4), unit_vectors(h))


def test_flow_at_its_special_points():
    _, h = scene(3)
    e = unit_vectors(h)
    torch.testing.assert_close(driven_flow(e, h, 2.0), e)
    torch.testing.assert_close(driven_flow(-e, h, 2.0), -e, atol=1e-12, rtol=0)
    assert torch.equal(driven_flow(e, torch.zeros_like(h), 5.0), e)


def test_flow_keeps_its_length_near_the_antipode():
    # theory: KU-17
    h = torch.tensor([1.0, 0.0, 0.0]).expand(41, 3)
    angle = torch.logspace(-8, 0, 41)
    x = torch.stack((-angle.cos(), angle.sin(), 0 * angle), -1)
    for time in (1.0, 10.0, 30.0, 1e3):
        moved = driven_flow(x, h, time)
        torch.testing.assert_close(moved.norm(dim=-1), torch.ones(41))
        left = 2 * torch.atan(math.exp(-time) / (angle.double() / 2).tan())
        torch.testing.assert_close(moved[:, 0].double(), left.cos(), atol=1e-6, rtol=0)
    torch.testing.assert_close(driven_flow(-h, h, 30.0), -h)


def test_half_angle_by_hand():
    angle = half_angle(torch.tensor([math.pi / 2, 0.0, math.pi]), torch.tensor(2.0), 0.5)
    expected = torch.tensor([2 * math.atan(math.exp(-1)), 0.0, math.pi])
    torch.testing.assert_close(angle, expected)
    # Rounded to float32, π lies above π.
    antipode = half_angle(torch.tensor(math.pi), torch.tensor(1.0), 22.0)
    assert antipode.item() == pytest.approx(math.pi)


@pytest.mark.parametrize("dim", [2, 3, 4, 5, 8])
def test_equilibria_are_unit_vectors_at_rest(dim):
    omega = random_rotation(50, dim, width=1.0, generator=torch.Generator().manual_seed(dim))
    _, h = scene(dim, 50)
    x, multiplier = lohe_equilibrium(h, omega)
    held = ~multiplier.isnan()
    assert torch.equal(x.isnan().any(-1), ~held)
    x, h, omega = x[held], h[held], omega[held]
    velocity = (omega @ x[..., None]).squeeze(-1) + h - (x * h).sum(-1, keepdim=True) * x
    assert velocity.abs().max() < 1e-12
    assert (torch.linalg.vector_norm(x, dim=-1) - 1).abs().max() < 1e-12
    torch.testing.assert_close((x * h).sum(-1), multiplier[held])


def test_existence_by_hand():
    # theory: KU-16
    omega = plane_rotation(torch.tensor([[1.0, 2.0]]).double(), 4).expand(3, 4, 4)
    h = torch.tensor([[1.01, 0, 0, 0], [0.99, 0, 0, 0], [0.9, 0, 1.0, 0]]).double()
    assert lohe_equilibrium(h, omega)[1].isnan().tolist() == [False, True, False]
    x, multiplier = lohe_equilibrium(h[:1], torch.zeros(1, 4, 4).double())
    torch.testing.assert_close(x, unit_vectors(h[:1]))
    assert multiplier.item() == pytest.approx(1.01)


def test_an_odd_dimension_is_held_in_single_precision_too():
    # theory: KU-16
    omega = random_rotation(500, 3, width=1.0, generator=torch.Generator().manual_seed(0))
    h = 1e-6 * torch.tensor([1.0, 0.0, 0.0]).double().expand(500, 3)
    x, multiplier = lohe_equilibrium(h.float(), omega.float())
    assert not multiplier.isnan().any()
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(500), atol=1e-3, rtol=0)


def test_von_mises_fisher_mean_against_closed_forms():
    # theory: KU-19
    kappa = torch.tensor([1e-6, 0.1, 2.0, 10.0, 300.0]).double()
    on_circle = torch.special.i1e(kappa) / torch.special.i0e(kappa)
    torch.testing.assert_close(von_mises_fisher_mean(2, kappa), on_circle, rtol=1e-13, atol=0)
    langevin = 1 / kappa.tanh() - 1 / kappa
    torch.testing.assert_close(von_mises_fisher_mean(3, kappa)[1:], langevin[1:], rtol=1e-12,
                               atol=0)  # fmt: skip
    large = von_mises_fisher_mean(3, torch.tensor([1e5, 1e8]).double())
    torch.testing.assert_close(large, 1 - 1 / torch.tensor([1e5, 1e8]).double(), rtol=1e-12, atol=0)
    assert von_mises_fisher_mean(8, torch.zeros(1)).item() == 0


@pytest.mark.parametrize("dim", [4, 5, 8, 32])
def test_von_mises_fisher_mean_against_its_integral(dim):
    t = torch.linspace(0, math.pi, 20_001).double()
    for kappa in (0.5, 10.0, 80.0):
        weight = (kappa * (t.cos() - 1)).exp() * t.sin() ** (dim - 2)
        mean = torch.trapezoid(weight * t.cos(), t) / torch.trapezoid(weight, t)
        found = von_mises_fisher_mean(dim, torch.tensor(kappa).double())
        assert found.item() == pytest.approx(mean.item(), rel=1e-7)


def test_odd_dimension_satisfies_its_equation():
    omega = random_rotation(200, 3, width=0.5, generator=torch.Generator().manual_seed(0))
    K = torch.tensor([0.1, 0.7, 2.0]).double()
    R = odd_dimension_order_parameter(K, omega)
    for strength, order in zip(K.tolist(), R.tolist(), strict=True):
        alone = odd_dimension_order_parameter(torch.tensor([strength]).double(), omega)
        among = odd_dimension_order_parameter(torch.tensor([strength, 1e5]).double(), omega)
        assert alone.item() == among[0].item() == order
        drive = torch.tensor([strength * order, 0, 0]).double().expand(200, 3)
        x, _ = lohe_equilibrium(drive, omega)
        assert x[:, 0].mean().item() == pytest.approx(order, rel=1e-3)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="skew matrices"):
        lohe_equilibrium(torch.ones(2, 3), torch.ones(2, 3, 3))
    with pytest.raises(ValueError, match="skew matrices"):
        lohe_equilibrium(1e-9 * torch.ones(2, 3), 1e-9 * torch.ones(2, 3, 3))
    with pytest.raises(ValueError, match="odd dimension"):
        odd_dimension_order_parameter(torch.ones(1), torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match="`time` must be"):
        driven_flow(torch.ones(1, 2), torch.ones(1, 2), -1.0)
    with pytest.raises(ValueError, match="`dim` must be at least 2"):
        von_mises_fisher_mean(1, torch.ones(1))


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_the_mean_cosine_of_a_repelling_drive_has_the_other_sign(dim):
    concentration = torch.tensor([0.0, 0.3, 5.0, 200.0, 5_000.0], dtype=torch.float64)
    mean = von_mises_fisher_mean(dim, concentration)
    torch.testing.assert_close(von_mises_fisher_mean(dim, -concentration), -mean, rtol=0, atol=0)
    assert (mean[1:].diff() > 0).all() and mean[-1] < 1
