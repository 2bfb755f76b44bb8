import pytest

from syncattn.benchmarks.robustness_effects import EFFECTS, effects_for
from syncattn.simulation.devices import Device


@pytest.mark.parametrize("name", EFFECTS)
def test_every_effect_makes_a_device_that_differs_at_every_strength(name):
    effect = EFFECTS[name]
    devices = [effect.device(value, 2.0) for value in effect.values]
    assert all(isinstance(device, Device) and device.changes() for device in devices)
    assert len({str(device.changes()) for device in devices}) == len(effect.values)
    assert list(effect.values) == sorted(effect.values)


def test_relative_strengths_follow_the_drive():
    weak, strong = (EFFECTS["detuning"].device(0.1, drive) for drive in (1.0, 10.0))
    assert strong.natural_frequency_spread == 10 * weak.natural_frequency_spread


def test_harmonics_exist_on_the_circle_alone():
    assert effects_for(2) == EFFECTS
    assert set(EFFECTS) - set(effects_for(8)) == {"second-harmonic", "injection"}
