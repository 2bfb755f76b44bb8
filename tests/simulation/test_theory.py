import math

import pytest
import torch

from syncattn.simulation import (
    FrequencyDensity,
    Gaussian,
    Lorentzian,
    Uniform,
    astroid_is_bistable,
    critical_coupling,
    frustrated_rotation,
    locked_phase_difference,
    lorentzian_order_parameter,
    self_consistent_order_parameter,
    von_mises_fisher_mean,
)
from syncattn.simulation.theory import largest_on_circle

DENSITIES = [Lorentzian(0.5, 0.3), Gaussian(0.5), Uniform(0.5)]


class Triangular(FrequencyDensity):
    """A density that the package has no formula for."""

    def density(self, frequency):
        return (1 - ((frequency - self.center) / self.width).abs()).clamp(min=0) / self.width

    def quantile(self, probability):
        p = probability
        side = torch.where(p < 0.5, (2 * p).sqrt() - 1, 1 - (2 * (1 - p)).sqrt())
        return self.center + self.width * side


each = pytest.mark.parametrize("density", DENSITIES, ids=lambda d: d.name)


def test_critical_couplings_by_hand():
    assert critical_coupling(Lorentzian(0.5)) == pytest.approx(1.0)
    assert critical_coupling(Gaussian(1.0)) == pytest.approx(math.sqrt(8 / math.pi))
    assert critical_coupling(Uniform(1.0)) == pytest.approx(4 / math.pi)
    lagged = critical_coupling(Lorentzian(0.5), frustration=math.pi / 3, noise_intensity=0.25)
    assert lagged == pytest.approx(3.0)
    assert critical_coupling(Lorentzian(0.5), frustration=math.pi / 2) == math.inf


@each
def test_noise_raises_the_critical_coupling_as_the_integral_says(density):
    grid = torch.linspace(-200, 200, 1_000_001).double() + density.center
    values = density.density(grid) * 0.2 / (0.2**2 + (grid - density.center).square())
    integral = torch.trapezoid(values, grid).item()
    found = critical_coupling(density, noise_intensity=0.2)
    assert found == pytest.approx(2 / integral, rel=4e-3)
    assert critical_coupling(density, noise_intensity=1e-7) == pytest.approx(
        critical_coupling(density), rel=1e-5
    )


def test_another_density_is_integrated():
    # theory: KU-20
    exact = 2 / (2 * math.atan(1 / 0.3) - 0.3 * math.log(1 + 1 / 0.3**2))
    for center in (0.0, 7.0):
        found = critical_coupling(Triangular(1.0, center), noise_intensity=0.3)
        assert found == pytest.approx(exact, rel=1e-7)
    for D in (1e-6, 1e6):
        found = critical_coupling(Triangular(2.0), noise_intensity=D)
        assert found == pytest.approx(max(critical_coupling(Triangular(2.0)), 2 * D), rel=1e-5)


def test_self_consistency_of_a_lorentzian_is_the_closed_form():
    K = torch.linspace(0.0, 4.0, 41).double()
    torch.testing.assert_close(
        self_consistent_order_parameter(K, Lorentzian(0.5)), lorentzian_order_parameter(K, 0.5)
    )


@each
def test_solutions_satisfy_their_equation(density):
    # theory: KU-6
    K = critical_coupling(density) * torch.tensor([1.1, 1.7, 3.0]).double()
    R = self_consistent_order_parameter(K, density)
    theta = torch.linspace(-math.pi / 2, math.pi / 2, 200_001).double()
    for strength, order in zip(K.tolist(), R.tolist(), strict=True):
        omega = density.center + strength * order * theta.sin()
        integral = torch.trapezoid(theta.cos().square() * density.density(omega), theta)
        assert strength * integral.item() == pytest.approx(1.0, abs=2e-3)


def test_a_uniform_density_jumps_to_a_quarter_of_pi():
    K_c = critical_coupling(Uniform(1.0))
    below, above = self_consistent_order_parameter(
        K_c * torch.tensor([1 - 1e-6, 1 + 1e-6]).double(), Uniform(1.0)
    ).tolist()
    assert below == 0
    assert above == pytest.approx(math.pi / 4, abs=0.01)


@each
def test_little_noise_is_no_noise(density):
    K = critical_coupling(density) * torch.tensor([0.5, 1.5, 3.0]).double()
    noisy = self_consistent_order_parameter(K, density, noise_intensity=5e-3)
    torch.testing.assert_close(noisy, self_consistent_order_parameter(K, density), atol=0.02,
                               rtol=0)  # fmt: skip


@each
def test_next_to_no_noise_is_no_noise_and_no_work(density):
    K = critical_coupling(density) * torch.tensor([0.0, 0.5, 1.5, 3.0]).double()
    noisy = self_consistent_order_parameter(K, density, noise_intensity=1e-12)
    torch.testing.assert_close(noisy, self_consistent_order_parameter(K, density), atol=1e-6,
                               rtol=0)  # fmt: skip


def test_identical_noisy_phases_follow_the_bessel_ratio():
    # theory: KU-20
    K = torch.tensor([0.5, 1.5, 3.0]).double()
    R = self_consistent_order_parameter(K, Gaussian(1e-4), noise_intensity=0.5)
    assert R[0] == 0
    torch.testing.assert_close(R[1:], von_mises_fisher_mean(2, K[1:] * R[1:] / 0.5), rtol=1e-5,
                               atol=0)  # fmt: skip


def test_locking_and_rotation_by_hand():
    difference = locked_phase_difference(torch.tensor([0.5, -1.0, 1.1]).double(), 1.0)
    expected = torch.tensor([math.pi / 6, -math.pi / 2, math.nan]).double()
    torch.testing.assert_close(difference, expected, equal_nan=True)
    assert frustrated_rotation(1.0, 2.0, math.pi / 6) == pytest.approx(0.0)


def test_astroid_by_hand():
    delta = torch.tensor([0.0, math.pi / 4, math.pi / 2, math.pi / 4]).double()
    K = torch.tensor([1.99, 1.01, 2.01, 0.99]).double()
    assert astroid_is_bistable(K, delta, torch.tensor(1.0).double()).tolist() == [
        True, False, False, True,
    ]  # fmt: skip


def test_the_largest_sum_of_two_harmonics():
    a, b = torch.randn(2, 300, 2, generator=torch.Generator().manual_seed(0)).double()
    theta = torch.linspace(0, 2 * math.pi, 20_001).double()
    once, twice = (torch.stack(((m * theta).cos(), (m * theta).sin())) for m in (1, 2))
    expected = (a @ once + b @ twice).amax(-1)
    torch.testing.assert_close(largest_on_circle(a, b), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(largest_on_circle(a, 0 * b), a.norm(dim=-1), atol=1e-12, rtol=0)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="closed critical coupling for a Lorentzian"):
        critical_coupling(Gaussian(1.0), frustration=0.1)
    with pytest.raises(ValueError, match="`noise_intensity` is a variance"):
        critical_coupling(Gaussian(1.0), noise_intensity=-0.1)
    with pytest.raises(ValueError, match="`coupling_strength` must be"):
        locked_phase_difference(torch.ones(1), 0.0)
