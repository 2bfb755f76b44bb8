import pytest
import torch

from syncattn.benchmarks.claims import judge, known_claims
from tests.benchmarks.test_claims import laptop, verdict


@pytest.mark.parametrize("name", ["kuramoto-energy", "frustrated-delay"])
def test_identities_hold_to_rounding(name):
    torch.manual_seed(3)
    found = judge(known_claims()[name], [], may_measure=True)
    assert found.verdict == "holds"
    assert float(found.figure.rsplit("by ", 1)[1].split(",")[0]) < 1e-12
    # Measured twice it is the same figure, whatever was drawn between.
    before = torch.get_rng_state()
    assert judge(known_claims()[name], [], may_measure=True) == found
    assert torch.equal(torch.get_rng_state(), before)


def bits(arm, gaps, scale="laptop"):
    base = [2.3, 2.4, 2.35]
    made = laptop("enwik8-char", "softmax", base, metric="bits per byte", scale=scale)
    ours = [score + gap for score, gap in zip(base, gaps, strict=True)]
    return made + laptop("enwik8-char", arm, ours, metric="bits per byte", scale=scale)


@pytest.mark.parametrize(
    ("name", "arm", "gaps", "at_laptop", "at_full"),
    [
        ("frustrated-language", "frustrated", [-0.1, -0.11, -0.1], "holds in part", "holds"),
        ("frustrated-language", "frustrated", [0.1, 0.11, 0.1], "does not hold here",
         "does not hold"),
        ("frustrated-language", "frustrated", [-0.1, 0.05, -0.02], "not decided", "not decided"),
        ("kuramoto-language", "kuramoto", [0.02, 0.021, 0.02], "holds in part", "holds"),
        ("kuramoto-language", "kuramoto", [-0.1, 0.05, 0.02], "not decided", "not decided"),
        ("frustrated-meanfield", "frustrated-meanfield", [0.0005, 0.0005, 0.0006],
         "holds in part", "holds"),
        ("frustrated-meanfield", "frustrated-meanfield", [0.1, 0.11, 0.1], "does not hold here",
         "does not hold"),
        ("frustrated-meanfield", "frustrated-meanfield", [0.02, 0.08, 0.04], "not decided",
         "not decided"),
    ],
)  # fmt: skip
def test_bits_are_judged_by_their_interval(name, arm, gaps, at_laptop, at_full):
    for scale, expected in (("laptop", at_laptop), ("full", at_full)):
        assert verdict(name, bits(arm, gaps, scale)).verdict == expected


def test_bits_have_four_decimals():
    found = verdict("frustrated-meanfield", bits("frustrated-meanfield", [0.0005] * 3))
    assert found.figure.startswith("+0.0005 [+0.0005, +0.0005] bits against softmax, 3 seeds")


@pytest.mark.parametrize(
    ("kuramoto", "frustrated", "expected"),
    [
        ([0.10, 0.11, 0.12], [1.0, 1.0, 0.99], "holds in part"),
        # The base layer copies more than softmax: nothing is there to reverse.
        ([0.95, 0.96, 0.97], [1.0, 1.0, 0.99], "does not hold here"),
        ([0.10, 0.11, 0.12], [0.7, 0.71, 0.72], "does not hold here"),
        ([0.5, 0.9, 0.95], [0.9, 0.8, 0.98], "not decided"),
    ],
)
def test_copying_follows_the_sentence_of_the_claim(kuramoto, frustrated, expected):
    scores = {"softmax": [0.89, 0.9, 0.9], "kuramoto": kuramoto, "frustrated": frustrated}
    found = verdict(
        "frustrated-copying", [r for arm, s in scores.items() for r in laptop("copy", arm, s)]
    )
    assert found.verdict == expected


def test_copying_of_two_recipes_is_not_mixed():
    made = [r for arm in ("softmax", "kuramoto", "frustrated")
            for r in laptop("copy", arm, [0.4, 0.45])]  # fmt: skip
    more = laptop("copy", "frustrated", [0.99] * 5, scale="full")
    assert "frustrated 0.425" in verdict("frustrated-copying", made + more).figure
