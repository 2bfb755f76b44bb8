import torch

from syncattn.analysis.observation import Observation
from syncattn.analysis.report_curves import colour_numbers, learning_chart, order_chart
from syncattn.nn import Synchrony

CURVES = {
    "softmax": [{"tokens": 10 * n, "bits": 4 - n + s, "seed": s} for n in (1, 2) for s in (0, 1)],
    "mine": [{"tokens": 10, "bits": 3.0}, {"tokens": 20, "bits": None}],
    "empty": [],
}


def test_seeds_make_a_band_and_the_numbers_stand_in_a_table():
    found = learning_chart(CURVES, "bits")
    assert found.legend[0][0] == "softmax: 2.500 ± 0.707"
    assert found.legend[1][0] == "mine: 3.000, one seed diverged"
    assert "band" in found.picture
    assert found.table.lines == [["10", "3.500 ± 0.707", "3.000"], ["20", "2.500 ± 0.707", "–"]]
    assert "standard deviation" in found.caption


def test_every_seed_that_diverged_is_counted():
    curves = {"mine": [{"tokens": 10 * n, "bits": 3.0 if n == 1 or s == 2 else None, "seed": s}
                       for n in (1, 2) for s in (0, 1, 2)]}  # fmt: skip
    found = learning_chart(curves, "bits")
    assert found.legend[0][0].endswith(", 2 seeds diverged")


def test_one_seed_is_said_and_nothing_is_no_chart():
    assert "One seed each" in learning_chart({"mine": CURVES["mine"]}, "bits").caption
    assert learning_chart({"empty": []}, "bits") is None
    assert learning_chart({}, "bits") is None


def observation(order):
    weights = torch.eye(4).expand(2, 4, 4)
    return Observation("x", b"abcd", [Synchrony(weights, o) for o in order], torch.eye(4).bool())


def test_order_by_depth_spans_the_heads():
    first, second = torch.full((2, 4), 0.25), torch.full((2, 4), 0.5)
    second[1] = 1.0
    first[0, 0] = torch.nan
    found = order_chart({"mine": observation([first, second]), "softmax": observation([None])})
    assert found.legend == [("mine", colour_numbers(["mine", "softmax"])["mine"])]
    assert found.table.lines == [
        ["mine", "1", "0.250", "0.250", "0.250"],
        ["mine", "2", "0.750", "0.500", "1.000"],
    ]
    assert order_chart({"softmax": observation([None])}) is None


def test_a_mechanism_keeps_its_colour():
    one, all_of_them = colour_numbers(["kuramoto"]), colour_numbers(["a", "b", "kuramoto"])
    assert one["kuramoto"] == all_of_them["kuramoto"] == 3
