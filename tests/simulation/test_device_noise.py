import math

import pytest
import torch

from syncattn.simulation.device_noise import (
    noisy_reading,
    quantised_cosine,
    quantised_couplings,
    quantised_state,
    uniform_directions,
    von_mises_fisher,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# I1/I0 on the circle, coth k - 1/k on the sphere, and two values of the general ratio.
MEANS = [
    (2, 2.0, 0.697775),
    (3, 10.0, 1 / math.tanh(10) - 0.1),
    (8, 10.0, 0.697511),
    (8, 1e4, 1 - 7 / 2e4),
    (5, 0.0, 0.0),
]


@pytest.mark.parametrize(("dim", "kappa", "mean"), MEANS)
def test_von_mises_fisher_has_the_mean_of_theory(dim, kappa, mean):
    n = 20_000
    e = torch.zeros(n, dim)
    e[:, -1] = 1
    x = von_mises_fisher(e, torch.full((n,), kappa), generator=generator())
    cosine = x[:, -1].double()
    error = 5 * float(cosine.std()) / math.sqrt(n) + 1e-7
    assert float(cosine.mean()) == pytest.approx(mean, abs=error)
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(n))
    assert float(x[:, 0].mean().abs()) < 5 * float(x[:, 0].std()) / math.sqrt(n)


def test_von_mises_fisher_has_the_density_on_the_circle():
    n, kappa = 40_000, 1.5
    e = torch.tensor([1.0, 0.0]).expand(n, 2)
    x = von_mises_fisher(e, torch.full((n,), kappa), generator=generator()).double()
    angle = torch.atan2(x[:, 1], x[:, 0])
    grid = torch.linspace(-math.pi, math.pi, 20_001).double()
    density = torch.exp(kappa * grid.cos())
    cumulative = density.cumsum(0) / density.sum()
    empirical = torch.searchsorted(angle.sort().values, grid).double() / n
    assert float((empirical - cumulative).abs().max()) < 1.6 / math.sqrt(n)


def test_von_mises_fisher_without_a_direction_is_uniform():
    x = von_mises_fisher(torch.zeros(20_000, 3), torch.zeros(20_000), generator=generator())
    torch.testing.assert_close(x.mean(0), torch.zeros(3), atol=0.03, rtol=0)
    torch.testing.assert_close((x.mT @ x) / 20_000, torch.eye(3) / 3, atol=0.02, rtol=0)


def test_enormous_concentrations_stay_on_the_sphere():
    e = uniform_directions((100, 4), generator=generator())
    x = von_mises_fisher(e, torch.full((100,), 1e30), generator=generator())
    torch.testing.assert_close(x, e)


def test_read_noise_keeps_the_length():
    x = 0.7 * uniform_directions((1000, 8), generator=generator())
    read = noisy_reading(x, 0.1, generator=generator(1))
    torch.testing.assert_close(read.norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(read, x)


def test_a_quantised_phase_is_one_of_few():
    x = uniform_directions((500, 2), generator=generator())
    read = quantised_state(x, 3)
    phase = torch.atan2(read[:, 1], read[:, 0]) / (2 * math.pi / 8)
    torch.testing.assert_close(phase, phase.round(), atol=1e-4, rtol=0)
    cosine = (read * x).sum(-1)
    assert float(cosine.min()) >= math.cos(math.pi / 8) - 1e-6


def test_components_and_cosines_have_few_values():
    x = uniform_directions((500, 5), generator=generator())
    assert len(quantised_state(x, 2).unique()) <= 4
    assert quantised_cosine(torch.tensor([-3.0, -1.0, 1.0, 9.0]), 4).tolist() == [-1, -1, 1, 1]
    assert float((quantised_cosine(x, 8) - x).abs().max()) <= 1 / 255 + 1e-6


def test_couplings_have_few_levels_and_absent_links_stay_absent():
    W = torch.rand(2, 3, 4, 5, generator=generator())
    W[..., 0] = 0
    for scale in ("row", "layer", 1.0):
        read = quantised_couplings(W, 3, scale)
        assert (read[..., 0] == 0).all()
        axes = {"row": (-1,), "layer": (-3, -2, -1)}.get(scale)
        top = 1.0 if axes is None else W.amax(axes, keepdim=True)
        level = read / top * 7
        torch.testing.assert_close(level, level.round(), atol=1e-4, rtol=0)
    assert float(quantised_couplings(W, 3, 0.5).max()) == 0.5
    assert not quantised_couplings(torch.zeros(1, 1, 1, 3), 3, "row").any()


@pytest.mark.parametrize("scale", ["row", "layer", 1.0])
def test_a_sequence_is_programmed_whatever_its_neighbours_are(scale):
    W = torch.rand(1, 3, 4, 5, generator=generator())
    among = quantised_couplings(torch.cat((W, 100 * W)), 3, scale)
    assert torch.equal(among[:1], quantised_couplings(W, 3, scale))


@pytest.mark.parametrize("concentration", [1e30, 1e200, math.inf])
def test_a_huge_concentration_draws_the_direction_itself(concentration):
    direction = torch.tensor([[0.6, 0.8, 0.0]], dtype=torch.float64)
    draw = von_mises_fisher(
        direction,
        torch.tensor([concentration], dtype=torch.float64),
        generator=torch.Generator().manual_seed(0),
    )
    torch.testing.assert_close(draw, direction)


@pytest.mark.parametrize("concentration", [-1.0, math.nan])
def test_a_concentration_that_is_none_is_refused(concentration):
    with pytest.raises(ValueError, match="`concentration` must be numbers of at least 0"):
        von_mises_fisher(
            torch.ones(1, 3), torch.tensor([concentration]), generator=torch.Generator()
        )
