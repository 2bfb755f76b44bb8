import pytest
import torch

from syncattn.benchmarks.simulate import SimulateConfig
from syncattn.benchmarks.simulate_population import choose
from syncattn.simulation import (
    Daido,
    Kuramoto,
    Lohe,
    SakaguchiKuramoto,
    SecondHarmonicInjection,
)

K = torch.tensor([1.0, 2.0]).double()
KINDS = {"kuramoto": Kuramoto, "sakaguchi": SakaguchiKuramoto, "daido": Daido,
         "shil": SecondHarmonicInjection, "lohe": Lohe}  # fmt: skip


def chosen(system="kuramoto", **more):
    return choose(SimulateConfig(system=system, num_oscillators=20, **more))


@pytest.mark.parametrize("name", KINDS)
def test_every_system(name):
    family = chosen(name, noise_intensity=0.1)
    system = family.system(K)
    assert type(system) is KINDS[name]
    assert system.noise_intensity == 0.1
    assert system.random_state().shape[:2] == (2, 20)
    assert family.explanation.endswith(".")


def test_theory_belongs_to_the_system():
    torch.testing.assert_close(chosen().theory(K), torch.tensor([0.0, 0.5]).double().sqrt())
    assert chosen(density="uniform").critical_coupling == pytest.approx(2 / torch.pi)
    assert chosen(noise_intensity=0.5).critical_coupling == pytest.approx(2.0)
    lagged = chosen("sakaguchi", frustration=torch.pi / 3)
    assert lagged.critical_coupling == pytest.approx(2.0)
    assert lagged.theory(2 * K)[1].item() == pytest.approx(0.5**0.5)
    assert chosen("sakaguchi", frustration=0.3, density="gaussian").theory is None
    assert chosen("sakaguchi", frustration=2.0).theory is None
    assert chosen("daido", harmonic_amplitude=(2.0, 1.0)).critical_coupling == pytest.approx(0.5)
    assert chosen("daido", frustration=0.1).critical_coupling is None
    assert chosen("shil").theory is None
    assert chosen("lohe").theory(K)[0] > 0.4
    assert chosen("lohe", dimension=4).theory is None
    assert chosen("lohe", dimension=2).critical_coupling == pytest.approx(1.0)


def test_the_second_harmonic_is_observed():
    (measure,) = chosen("shil").observe.values()
    assert measure(torch.tensor([0.0, torch.pi])).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frustration": 0.3}, "`frustration` must be left out for kuramoto"),
        ({"system": "shil", "dimension": 3}, "belongs to lohe"),
        ({"system": "lohe", "density": "uniform"}, "`density` must be gaussian for lohe"),
        ({"system": "lohe", "dimension": 1}, "`dimension` must be at least 2"),
        ({"frequency_width": 0.0}, "`frequency_width` must be"),
        ({"system": "lohe", "dimension": 2, "frequency_width": -1.0}, "`frequency_width` must be"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        chosen(**fields)
