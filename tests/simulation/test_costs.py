import pytest

from syncattn.simulation.costs import SPLITS, Workload, operation_counts

KEYWORDS = {"length": 49, "num_heads": 2, "oscillator_dim": 2}
AGREEMENT = {"length": 9, "num_heads": 1, "oscillator_dim": 2}
STORIES = {"length": 128, "num_heads": 4, "oscillator_dim": 8, "is_causal": True}
PUBLISHED = [
    (KEYWORDS, (48_216, 24_402, 14_602, 4_998)),
    (AGREEMENT, (828, 441, 261, 99)),
    (STORIES, (331_264, 563_456, 298_240, 34_048)),
]


@pytest.mark.parametrize(("shape", "expected"), PUBLISHED)
def test_the_published_tables(shape, expected):
    workload = Workload(**shape, coupling="relu")
    assert tuple(operation_counts(workload, split).published_total for split in SPLITS) == expected


def test_with_softplus_the_last_split_saves_nothing():
    for shape, _ in PUBLISHED:
        workload = Workload(**shape, coupling="softplus")
        softmax, digital, _, last = (
            operation_counts(workload, split).published_total for split in SPLITS
        )
        assert last == softmax
        assert digital > softmax


def test_what_the_paper_does_not_charge_stands_apart():
    workload = Workload(**KEYWORDS, coupling="relu", head_dim=16, hidden_size=32)
    last = operation_counts(workload, SPLITS[3])
    numbers = {item.name: item.number for item in last.items if not item.published}
    pairs = 2 * 49**2
    assert numbers["write couplings"] == numbers["convert couplings"] == pairs
    assert numbers["read out"] == pairs
    assert numbers["scores of the pairs"] == numbers["values"] == 16 * pairs
    assert numbers["free oscillators"] == numbers["anchor oscillators"] == 98
    state = {item.name: item.number for item in operation_counts(workload, SPLITS[2]).items}
    assert state["read out"] == 98
    assert last.published_total == 4_998
    assert {item.unit for item in operation_counts(workload, "digital").items} == {"multiply_add"}
    assert last.as_dict()["measured"] is False


def test_layers_and_samples_multiply():
    one = operation_counts(Workload(**STORIES), SPLITS[2])
    many = operation_counts(Workload(**STORIES, num_layers=3, num_readout_samples=4), SPLITS[2])
    for single, item in zip(one.items, many.items, strict=True):
        assert item.number == single.number * 3 * (4 if item.name == "read out" else 1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"length": 0}, "`length`"),
        ({"oscillator_dim": 1}, "`oscillator_dim`"),
        ({"coupling": "tanh"}, "`coupling`"),
        ({"settling_time": -1.0}, "`settling_time`"),
    ],
)
def test_bad_workloads_are_refused(change, named):
    with pytest.raises(ValueError, match=named):
        Workload(**(KEYWORDS | change))


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="`split`"):
        operation_counts(Workload(**KEYWORDS), "quantum")
