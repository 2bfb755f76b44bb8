import math

import pytest
import torch

from syncattn.simulation import Daido, Kuramoto, Lohe, SakaguchiKuramoto, SecondHarmonicInjection
from syncattn.simulation.systems_rates import degree, mixed, most_of

STILL = torch.zeros(4, dtype=torch.float64)


@pytest.mark.parametrize("sparse", [False, True])
def test_nobody_pulls_himself(sparse):
    J = torch.tensor([[5.0, 1.0, 0.0], [2.0, 7.0, 3.0], [0.0, 0.0, 9.0]])
    values = torch.tensor([1.0, 10.0, 100.0])
    given = J.to_sparse() if sparse else J
    assert degree(given).tolist() == [1, 5, 0]
    assert mixed(given, values).tolist() == [15, 372, 900]
    assert mixed(None, values).tolist() == [37]


def test_nine_in_ten_of_the_fastest_population():
    rate = torch.arange(11.0)
    assert most_of(rate) == 9
    assert most_of(torch.stack((rate, 2 * rate))) == 18
    assert most_of(torch.tensor([3.0])) == 3


@pytest.mark.parametrize(
    ("system", "rate"),
    [
        (Kuramoto(STILL, coupling_strength=2.0), 2.0),
        (Kuramoto(STILL, coupling_strength=-2.0), 2.0),
        (SakaguchiKuramoto(STILL, coupling_strength=2.0, frustration=math.pi / 2), 2.0),
        (Daido(STILL, coupling_strength=2.0, harmonic_amplitude=(1.0, -0.5)), 4.0),
        (SecondHarmonicInjection(STILL, coupling_strength=2.0, injection_strength=3.0), 8.0),
        (Kuramoto(STILL + 50.0, coupling_strength=2.0), 2.0),
        (Kuramoto(torch.tensor([-7.0, 0.0, 7.0]), coupling_strength=2.0), 7.0),
        (
            Kuramoto(STILL[:2], coupling_strength=2.0, coupling=torch.tensor([[0.0, -3.0]] * 2)),
            6.0,
        ),
        (Lohe(STILL[:, None] + 7.0, 2, coupling_strength=2.0), 7.0),
        (Lohe(torch.tensor([[[0.0, -7.0, 0.0], [7.0, 0.0, 0.0], [0.0] * 3]]), 3,
              coupling_strength=2.0), 7.0),
        (Lohe(STILL[:, None], 2, coupling_strength=torch.tensor([2.0, 5.0])), 5.0),
    ],
)  # fmt: skip
def test_an_accurate_step_resolves_what_pulls_and_what_turns(system, rate):
    assert system.fastest_motion() == pytest.approx(rate)
    assert system.fastest_motion() >= system.fastest_rate()
