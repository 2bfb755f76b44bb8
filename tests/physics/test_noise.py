"""Noise on the sphere gives the von Mises–Fisher law, its mean a ratio of Bessel functions."""

import pytest
import torch

from syncattn.simulation import (
    DrivenLohe,
    DrivenPhases,
    EulerMaruyama,
    StochasticHeun,
    integrate,
    von_mises_fisher_mean,
)

COSINE = {"cosine": lambda x: x[..., 0].mean(-1)}


def stationary_mean(solution):
    return solution.observed["cosine"][solution.times >= solution.statistics.start].mean().item()


@pytest.mark.parametrize("solver", [StochasticHeun(), EulerMaruyama()])
@pytest.mark.parametrize(("dim", "concentration"), [(2, 2.0), (3, 10.0), (8, 10.0)])
def test_mean_of_noisy_driven_vectors(dim, concentration, solver):
    # theory: KU-19
    drive = torch.zeros(8000, dim, dtype=torch.float64)
    drive[:, 0] = 1.0
    system = DrivenLohe(drive, noise_intensity=1 / concentration)
    g = torch.Generator().manual_seed(0)
    solution = integrate(
        system, solver, system.random_state(generator=g), step=0.04, duration=12.0,
        keep_trajectory=False, observe=COSINE, generator=g, save_every=10,
    )  # fmt: skip
    expected = von_mises_fisher_mean(dim, torch.tensor(concentration)).item()
    assert stationary_mean(solution) == pytest.approx(expected, abs=0.012)


def test_phases_are_vectors_in_two_dimensions():
    system = DrivenPhases(torch.ones(8000).double(), torch.zeros(8000).double(),
                          noise_intensity=0.5)  # fmt: skip
    g = torch.Generator().manual_seed(0)
    solution = integrate(
        system, StochasticHeun(), system.random_state(generator=g), step=0.05, duration=12.0,
        observe={"cosine": lambda theta: theta.cos().mean(-1)}, generator=g, save_every=10,
    )  # fmt: skip
    expected = von_mises_fisher_mean(2, torch.tensor(2.0)).item()
    assert stationary_mean(solution) == pytest.approx(expected, abs=0.01)
