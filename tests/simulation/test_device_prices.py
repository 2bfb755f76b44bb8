import json

import pytest

from syncattn.simulation.costs import SPLITS, Workload, operation_counts
from syncattn.simulation.device_prices import Price, break_even, cost_table, energy

KEYWORDS = {"length": 49, "num_heads": 2, "oscillator_dim": 2}
AGREEMENT = Workload(9, 1, 2, settling_time=5.0)
ALL_PRICES = {
    "multiply_add": Price(4.6e-12, "J", "made up for the test"),
    "coupling_write": Price(1e-12, "J", "made up for the test"),
    "dac_conversion": Price(2e-12, "J", "made up for the test"),
    "adc_conversion": Price(3e-12, "J", "made up for the test"),
    "oscillator": Price(1e-6, "W", "made up for the test"),
    "coupling_rate": Price(1e9, "1/s", "made up for the test"),
}


def test_energy_needs_every_price():
    report = operation_counts(AGREEMENT, SPLITS[2])
    nothing = energy(report, {})
    assert nothing.total is None
    assert set(nothing.unpriced) == set(ALL_PRICES)
    some = energy(report, {k: v for k, v in ALL_PRICES.items() if k != "coupling_rate"})
    assert some.total is None
    assert some.unpriced == ("coupling_rate",)
    whole = energy(report, ALL_PRICES)
    adds, oscillators = report.published_total, 18
    expected = adds * 4.6e-12 + 81 * 3e-12 + 9 * 3e-12 + oscillators * 1e-6 * 5 / 1e9
    assert whole.total == pytest.approx(expected)
    assert whole.measured is False
    assert json.loads(json.dumps(whole.as_dict()))["measured"] is False


def test_break_even_is_where_the_energies_meet():
    workload = Workload(**KEYWORDS, coupling="relu", settling_time=5.0)
    found = break_even(workload, SPLITS[3], ALL_PRICES)
    power = found.energy_per_oscillator * 1e9 / 5
    at = ALL_PRICES | {"oscillator": Price(power, "W", "the break-even")}
    physical = energy(operation_counts(workload, SPLITS[3]), at).total
    assert physical == pytest.approx(energy(operation_counts(workload, "softmax"), at).total)


def test_break_even_with_softplus_and_with_missing_prices():
    softplus = Workload(**KEYWORDS)
    assert break_even(softplus, SPLITS[3], ALL_PRICES).energy_per_oscillator < 0
    only = {"multiply_add": ALL_PRICES["multiply_add"]}
    assert break_even(softplus, SPLITS[3], only, published_only=True) == (0.0, ())
    missing = break_even(softplus, SPLITS[3], only)
    assert missing.energy_per_oscillator is None
    assert "coupling_write" in missing.unpriced


def test_the_table_says_what_it_is():
    workload = Workload(**KEYWORDS, coupling="relu")
    bare = cost_table(workload)
    assert "nothing was measured" in bare
    assert "48,216" in bare
    assert "no total" in bare
    assert "without a price" in bare
    priced = cost_table(workload, ALL_PRICES)
    assert "made up for the test" in priced
    assert "unpriced" not in priced
    found = break_even(workload, SPLITS[3], ALL_PRICES).energy_per_oscillator
    assert found > 0
    assert f"{found:.3g} J" in priced
    assert "dearer than softmax" in cost_table(Workload(**KEYWORDS), ALL_PRICES)
    assert "than softmax" not in bare


def test_a_price_has_a_size_a_unit_and_a_source():
    for arguments, named in (
        ((-1.0, "J", "x"), "`value`"),
        ((1.0, "kWh", "x"), "`unit`"),
        ((1.0, "J", "  "), "`source`"),
    ):
        with pytest.raises(ValueError, match=named):
            Price(*arguments)


@pytest.mark.parametrize(
    "prices",
    [
        {"watt": Price(1.0, "W", "x")},
        {"multiply_add": Price(1.0, "W", "x")},
        {"coupling_rate": Price(0.0, "1/s", "x")},
    ],
)
def test_prices_that_do_not_fit_are_refused(prices):
    with pytest.raises(ValueError, match="`prices`"):
        energy(operation_counts(AGREEMENT, "digital"), prices)


def test_what_has_no_oscillators_has_no_break_even():
    with pytest.raises(ValueError, match="`split`"):
        break_even(AGREEMENT, "digital", {})
