from pathlib import Path

import pytest

from syncattn.benchmarks.claims import (
    CLAIMS,
    Claim,
    Measured,
    Unchecked,
    above,
    below,
    concluded,
    judge,
    known_claims,
    register_claim,
    rows_of,
    told,
)
from syncattn.benchmarks.scores import Interval, paired_interval, score_tables
from tests.benchmarks.benchmark_small import record

ROOT = Path(__file__).parents[2]
known_claims()


def laptop(task, arm, values, *, scale="laptop", **changes):
    return [
        record(task=task, arm=arm, seed=i, test_score=score,
               recipe={"steps": 9, "scale": scale}, **changes)
        for i, score in enumerate(values)
    ]  # fmt: skip


def verdict(name, records=()):
    return judge(CLAIMS[name], list(records), may_measure=False)


def test_every_paper_has_its_rows():
    sources = {claim.source.split(",")[0] for claim in CLAIMS.values()}
    assert sources == {
        "arXiv 2602.14445", "arXiv 2606.12059", "arXiv 2606.11585", "arXiv 2606.18694"
    }  # fmt: skip
    assert all(claim.command for claim in CLAIMS.values())


@pytest.mark.parametrize("name", [n for n, c in CLAIMS.items() if c.documented])
def test_documented_figures_stand_on_their_page(name):
    documented = CLAIMS[name].documented
    assert documented is not None
    page = (ROOT / documented[2]).read_text(encoding="utf-8")
    numbers = [word.strip(",;") for word in documented[1].split() if any(c.isdigit() for c in word)]
    found = [n for n in numbers if n.lstrip("+-") in page]
    assert len(numbers) >= 2 and found == numbers


def test_without_anything_to_judge_by_the_reason_is_told():
    found = verdict("oscillator-keywords")
    assert found.verdict == "not checked" and "laptop preset" in found.figure
    assert "days of training" in verdict("frustrated-scales").figure
    assert "in seconds" in verdict("kuramoto-energy").figure


def test_records_of_smoke_runs_judge_nothing():
    smoke = [record(task="enwik8-char", arm=arm) for arm in ("frustrated", "softmax")]
    assert verdict("frustrated-language", smoke).verdict == "not checked"


def test_rows_come_from_one_table_that_has_them_all():
    made = [*laptop("copy", "softmax", [0.1, 0.2]), *laptop("copy", "kuramoto", [0.3, 0.4, 0.5])]
    # Another recipe has more seeds of one arm, and none of the other.
    more = laptop("copy", "softmax", [0.9] * 5, scale="full")
    table, rows = rows_of(score_tables([*made, *more]), "copy", ("softmax", "kuramoto"))
    assert table.recipe["scale"] == "laptop"
    assert rows["softmax"].by_seed == {0: 0.1, 1: 0.2}
    longer = laptop("copy", "kuramoto", [0.9] * 5, scale="full")
    table, _ = rows_of(score_tables([*made, *more, *longer]), "copy", ("softmax", "kuramoto"))
    assert table.recipe["scale"] == "full"


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (laptop("copy", "softmax", [0.1]), "no record of kuramoto on copy"),
        (laptop("copy", "softmax", [0.1]) + laptop("copy", "kuramoto", [0.1], scale="full"),
         "no one recipe of softmax, kuramoto on copy"),
        ([], "no record of softmax, kuramoto on copy"),
    ],
)  # fmt: skip
def test_rows_of_several_recipes_are_never_put_together(made, reason):
    with pytest.raises(Unchecked, match=reason):
        rows_of(score_tables(made), "copy", ("softmax", "kuramoto"))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 1.1, 0.9], True), ([-1.0, -1.1, -0.9], False), ([1.0, -0.9, 0.5], None), ([1.0], None)],
)
def test_a_side_is_told_by_the_interval_alone(values, expected):
    gap = paired_interval(values)
    assert above(gap) is expected
    assert below(gap) is (None if expected is None else not expected)
    assert above(gap, margin=5.0) in {False, None}
    assert above(None) is None


@pytest.mark.parametrize(
    ("parts", "laptop_verdict", "full_verdict"),
    [
        ([True, True], "holds in part", "holds"),
        ([True, None], "holds in part", "holds in part"),
        ([None, None], "not decided", "not decided"),
        ([True, False], "does not hold here", "does not hold"),
        ([None, False], "does not hold here", "does not hold"),
    ],
)
def test_verdicts_follow_from_the_parts_and_the_scale(parts, laptop_verdict, full_verdict):
    for scale, expected in (("laptop", laptop_verdict), ("full", full_verdict)):
        (table,) = score_tables(laptop("copy", "softmax", [0.1], scale=scale))
        assert concluded(parts, table) == expected


def test_differences_are_told_with_their_seeds():
    assert told(Interval(0.5, None, None, 1), digits=3) == "+0.500, 1 seed"
    assert told(Interval(-0.01, -0.02, 0.0, 3), scale=100.0, unit=" pp") == (
        "-1.00 [-2.00, +0.00] pp, 3 seeds"
    )
    with pytest.raises(Unchecked, match="share a seed"):
        told(None)


@pytest.mark.parametrize(
    ("extent", "scale", "expected"),
    [
        ("part", "laptop", "seeds, on a part, at laptop size"),
        ("sample", "full", "seeds, on a sample, at full size"),
        ("whole", "full", "seeds, at full size"),
        ("whole", None, "seeds"),
    ],
)
def test_a_figure_tells_its_data_and_its_scale(extent, scale, expected):
    data = {"name": "enwik8", "sha256": "ab" * 32, "whole": extent == "whole", "extent": extent}
    made = [
        record(task="enwik8-char", arm=arm, seed=seed, test_score=2.3, metric="bits per byte",
               data=data, recipe={"steps": 9} | ({"scale": scale} if scale else {}))
        for arm in ("softmax", "frustrated") for seed in (0, 1)
    ]  # fmt: skip
    assert verdict("frustrated-language", made).figure.endswith(expected)


def test_a_claim_nobody_can_judge_needs_a_reason():
    with pytest.raises(ValueError, match="Add `why_not`"):
        register_claim(Claim("x", "", "", ""))
    with pytest.raises(ValueError, match="new name"):
        register_claim(CLAIMS["ssa-speed"])


def test_measuring_goes_before_everything():
    claim = Claim("y", "", "", "", measure=lambda: Measured("holds", "1"),
                  documented=("does not hold", "2", "page"))  # fmt: skip
    assert judge(claim, [], may_measure=True) == ("holds", "1")
    assert judge(claim, [], may_measure=False) == ("does not hold", "2 (page)")
