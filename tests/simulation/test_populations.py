import math

import pytest
import torch

from syncattn.simulation import DENSITIES, Gaussian, Lorentzian, Uniform, random_rotation

ALL = [Lorentzian(0.5, 1.0), Gaussian(0.5, -2.0), Uniform(0.5, 0.25)]
each = pytest.mark.parametrize("density", ALL, ids=lambda d: d.name)


@each
def test_the_quantile_inverts_the_integral_of_the_density(density):
    share = torch.linspace(0.05, 0.95, 7).double()
    start = density.quantile(torch.tensor(0.05).double())
    for p, end in zip(share[1:], density.quantile(share[1:]), strict=True):
        grid = torch.linspace(start.item(), end.item(), 20_001).double()
        mass = torch.trapezoid(density.density(grid), grid)
        assert mass.item() == pytest.approx(p.item() - 0.05, abs=1e-6)


@each
def test_quantiles_are_symmetric_and_repeat(density):
    omega = density.quantiles(101)
    assert omega.dtype == torch.float64
    torch.testing.assert_close(omega - density.center, density.center - omega.flip(0))
    assert (omega.diff() > 0).all()
    assert omega[50].item() == pytest.approx(density.center)


@each
def test_draws_follow_the_quantiles(density):
    drawn = density.sample(20_000, generator=torch.Generator().manual_seed(0))
    assert drawn.isfinite().all()
    share = (drawn < density.quantile(torch.tensor(0.75).double())).double().mean()
    assert share.item() == pytest.approx(0.75, abs=0.01)
    again = density.sample(20_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)


def test_peaks_and_names():
    assert Lorentzian(0.5).peak == pytest.approx(2 / math.pi)
    assert Gaussian(0.5).peak == pytest.approx(2 / math.sqrt(2 * math.pi))
    assert Uniform(0.5).peak == pytest.approx(1.0)
    assert {name: kind(1.0).name for name, kind in DENSITIES.items()} == {
        name: name for name in ("lorentzian", "gaussian", "uniform")
    }


def test_random_rotations_are_skew():
    omega = random_rotation(500, 4, width=0.3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(omega, -omega.mT)
    assert omega[:, 0, 1:].std().item() == pytest.approx(0.3, rel=0.1)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`width` must be finite and strictly between 0"):
        Gaussian(0.0)
    with pytest.raises(ValueError, match="`number` must be at least 1"):
        Uniform(1.0).quantiles(0)
    with pytest.raises(ValueError, match="`dim` must be at least 2"):
        random_rotation(3, 1, width=1.0)
