import pytest

from syncattn.simulation.devices import Device

BAD = [
    ({"coupling_mismatch": -0.1}, "`coupling_mismatch`"),
    ({"thermal_noise": float("nan")}, "`thermal_noise`"),
    ({"read_noise": -1.0}, "`read_noise`"),
    ({"coupling_bits": 0}, "`coupling_bits`"),
    ({"converter_bits": 99}, "`converter_bits`"),
    ({"num_readout_samples": 0}, "`num_readout_samples`"),
    ({"settling_time": -1.0}, "`settling_time`"),
    ({"coupling_range": "column"}, "`coupling_range`"),
    ({"coupling_range": 0.0}, "`coupling_range`"),
    ({"thermal_readout": "mode"}, "`thermal_readout`"),
    ({"readout": "voltage"}, "`readout`"),
    ({"start": "anchor"}, "`start`"),
    ({"draw": "wafer"}, "`draw`"),
    ({"phase_lag": float("inf")}, "`phase_lag`"),
    ({"second_harmonic": 0.1, "start": "previous"}, "`start`"),
]


@pytest.mark.parametrize(("change", "named"), BAD)
def test_bad_values_are_refused(change, named):
    with pytest.raises(ValueError, match=named) as error:
        Device(**change)
    assert "got" in str(error.value)


def test_everything_is_off_by_default_and_changes_are_told():
    assert Device().changes() == {}
    assert not Device().has_harmonics

    def heating(couplings, _):
        return couplings

    device = Device(read_noise=0.1, on_couplings=heating, injection_strength=1.0)
    assert device.changes() == {
        "read_noise": 0.1, "on_couplings": "heating", "injection_strength": 1.0
    }  # fmt: skip
    assert device.has_harmonics
