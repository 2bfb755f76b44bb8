import dataclasses
import math
import random

import pytest

from syncattn.benchmarks.scores import compare_scores, paired_interval, score_tables
from tests.benchmarks.benchmark_small import record


def rows(records):
    (table,) = score_tables(records)
    return {(row.arm, row.control): row for row in table.rows}


def seeds(arm, scores, **changes):
    return [record(arm=arm, seed=i, test_score=score, **changes) for i, score in enumerate(scores)]


def test_differences_are_paired_by_seed():
    softmax, ours = seeds("softmax", [0.1, 0.5, 0.9]), seeds("kuramoto", [0.2, 0.6, 1.0])
    row = rows(softmax + ours)["kuramoto", "none"]
    assert row.score.mean == pytest.approx(0.6)
    assert row.score.deviation == pytest.approx(0.4)
    assert row.to_baseline.mean == pytest.approx(0.1)
    # The spread of the seeds is large, that of the differences nothing.
    assert row.to_baseline.low == pytest.approx(0.1) and row.to_baseline.high == pytest.approx(0.1)
    assert row.to_baseline.excludes_zero
    assert rows(softmax + ours)["softmax", "none"].to_baseline is None


def test_only_shared_seeds_are_compared():
    ours = [record(arm="kuramoto", seed=7, test_score=0.9)]
    assert rows(seeds("softmax", [0.1, 0.5]) + ours)["kuramoto", "none"].to_baseline is None


def test_a_control_is_compared_with_its_arm_too():
    found = rows(
        seeds("softmax", [0.5, 0.5])
        + seeds("kuramoto", [0.8, 0.9])
        + seeds("kuramoto", [0.3, 0.3], control="frozen")
    )
    row = found["kuramoto", "frozen"]
    assert row.to_arm.mean == pytest.approx(-0.55)
    assert row.to_baseline.mean == pytest.approx(-0.2)
    assert list(found) == [("softmax", "none"), ("kuramoto", "none"), ("kuramoto", "frozen")]


def test_failed_runs_are_counted_and_a_later_run_takes_the_place_of_an_earlier():
    failed = record(seed=1, status="failed", failure="diverged", test_score=None)
    row = rows([record(test_score=0.1), record(test_score=0.3), failed])["softmax", "none"]
    assert (row.failed, row.by_seed) == (1, {0: 0.3})
    again = rows([failed, record(seed=1, test_score=0.2)])["softmax", "none"]
    assert (again.failed, again.by_seed) == (0, {1: 0.2})


def test_runs_that_did_not_learn_are_counted_apart():
    made = [
        record(seed=i, scores={"failed_to_learn": i == 2, "by_group": {"hard": 0.1 * i}})
        for i in range(3)
    ]
    row = rows(made)["softmax", "none"]
    assert (row.not_learned, row.failed) == (1, 0)
    assert row.groups["hard"] == pytest.approx(0.1)
    assert row.groups_by_seed["hard"] == pytest.approx({0: 0.0, 1: 0.1, 2: 0.2})


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "recall"},
        {"metric": "perplexity"},
        {"recipe": {"steps": 4, "scale": "smoke"}},
        {"data": {"name": "copying", "sha256": "ab" * 32, "whole": False, "extent": "part"}},
        {"data": {"name": "copying", "sha256": "cd" * 32, "whole": True, "extent": "generated"}},
    ],
)
def test_what_cannot_be_compared_never_shares_a_table(changes):
    assert len(score_tables([record(), record(**changes)])) == 2


def test_records_of_other_commands_are_passed_over():
    assert score_tables([record(recipe={})]) == []


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    # From printed tables of the distribution.
    [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (29, 2.0452), (30, 2.0423),
     (60, 2.0003), (120, 1.9799)],
)  # fmt: skip
def test_an_interval_has_the_width_of_student(freedom, quantile):
    n = freedom + 1
    values = [math.sin(12.9898 * i) for i in range(n)]
    mean = sum(values) / n
    error = (sum((v - mean) ** 2 for v in values) / (n - 1) / n) ** 0.5
    interval = paired_interval(values)
    assert interval.mean == pytest.approx(mean)
    assert (interval.high - mean) / error == pytest.approx(quantile, abs=6e-5)
    assert (mean - interval.low) / error == pytest.approx(quantile, abs=6e-5)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_intervals_of_few_seeds_hold_the_mean_as_often_as_they_say(n):
    draw = random.Random(0)
    found = [paired_interval([draw.gauss(0, 1) for _ in range(n)]) for _ in range(4000)]
    share = sum(not interval.excludes_zero for interval in found) / 4000
    # Four standard deviations of a share of 4000.
    assert share == pytest.approx(0.95, abs=0.014)


def test_one_seed_gives_no_interval():
    assert paired_interval([0.3])[1:3] == (None, None)
    assert not paired_interval([0.3]).excludes_zero


def test_changes_are_judged_by_the_spread_of_seeds():
    before = seeds("softmax", [0.50, 0.52, 0.54])
    small = [dataclasses.replace(r, test_score=r.test_score + 0.01) for r in before]
    large = [dataclasses.replace(r, test_score=r.test_score + 0.3, commit="new") for r in before]
    (within,), _ = compare_scores(before, small)
    (beyond,), _ = compare_scores(before, large)
    assert (within.beyond_spread, beyond.beyond_spread) == (False, True)
    assert within.difference.mean == pytest.approx(0.01)
    assert within.changed == () and beyond.changed == ("commit: None -> new",)
    (unknown,), _ = compare_scores(before[:1], large[:1])
    assert unknown.beyond_spread is None


@pytest.mark.parametrize(("moved", "beyond"), [(0.025, False), (0.03, True)])
def test_a_single_run_is_taken_to_spread_as_the_others_do(moved, beyond):
    before = seeds("softmax", [0.50, 0.52, 0.48])
    after = [dataclasses.replace(before[0], test_score=0.50 + moved)]
    # The deviation is 0.02, so that two runs differ by 0.028.
    for first, second in ((before, after), (after, before)):
        (change,), _ = compare_scores(first, second)
        assert change.beyond_spread is beyond


def test_rows_that_one_set_lacks_are_named():
    changes, lonely = compare_scores([record()], [record(), record(arm="kuramoto")])
    assert len(changes) == 1
    (line,) = lonely
    assert line.startswith("only in the second") and line.endswith(": kuramoto")
    frozen = record(control="frozen")
    more = [frozen, record(arm="kuramoto", control="frozen"), record(arm="kuramoto")]
    _, (line,) = compare_scores([record(), *more], [record()])
    assert line.endswith(": softmax with frozen; kuramoto, also with frozen")


def test_a_seed_that_is_the_same_in_both_has_not_changed():
    many = [record(seed=i, test_score=0.5 + 0.1 * i) for i in range(3)]
    (change,), lonely = compare_scores([*many, record(task="recall")], many[:1])
    assert change.difference.mean == 0 and change.beyond_spread is False
    assert len(lonely) == 1 and lonely[0].startswith("only in the first: recall")
    assert lonely[0].endswith(": rows: 1")


def test_rows_stand_in_the_same_order_whatever_ends_first():
    names = [("kuramoto", "frozen"), ("mine", "none"), ("kuramoto", "none"), ("softmax", "random"),
             ("softmax", "none")]  # fmt: skip
    (table,) = score_tables([record(arm=arm, control=control) for arm, control in names])
    assert [(row.arm, row.control) for row in table.rows] == [
        ("softmax", "none"), ("softmax", "random"), ("kuramoto", "none"), ("kuramoto", "frozen"),
        ("mine", "none"),
    ]  # fmt: skip
