from dataclasses import replace

import pytest

from syncattn.benchmarks import claims_oscillator
from syncattn.benchmarks.claims import judge, known_claims
from tests.benchmarks.test_claims import laptop, verdict


@pytest.mark.parametrize(
    ("name", "verdict", "figure"),
    [
        ("oscillator-no-exponential", "holds in part", "9.65 times fewer"),
        ("oscillator-operations", "holds", "828, 441, 261, 99"),
        ("oscillator-attraction", "holds", "8,000 random networks"),
    ],
)
def test_claims_are_measured(name, verdict, figure):
    found = judge(known_claims()[name], [], may_measure=True)
    assert found.verdict == verdict
    assert figure in found.figure


@pytest.mark.parametrize(
    ("relu", "softplus", "expected"),
    [(50, 80, "holds"), (50, 100, "holds in part"), (200, 200, "does not hold"),
     (200, 80, "does not hold")],
)  # fmt: skip
def test_what_saves_no_operation_does_not_hold(relu, softplus, expected, monkeypatch):
    counts = {"relu": relu, "softplus": softplus}
    monkeypatch.setattr(
        claims_oscillator, "_published",
        lambda coupling, split: 100 if split == "softmax" else counts[coupling],
    )  # fmt: skip
    found = judge(known_claims()["oscillator-no-exponential"], [], may_measure=True)
    assert found.verdict == expected


TASKS = ("keywords", "keywords-sinusoidal", "keywords-learned")


def keywords(gaps, scale="laptop"):
    return [
        r
        for task, gap in zip(TASKS, gaps, strict=True)
        for arm, scores in (("softmax", [0.8, 0.82]), ("oscillator-2", [0.8 + gap, 0.821 + gap]))
        for r in laptop(task, arm, scores, scale=scale)
    ]


@pytest.mark.parametrize(
    ("gaps", "at_laptop", "at_full"),
    [((0.02, 0.02, 0.02), "holds in part", "holds"),
     ((0.02, 0.02, -0.02), "holds in part", "holds in part"),
     ((0.02, 0.02, 0.0), "holds in part", "holds in part"),
     ((0.0, 0.02, 0.02), "not decided", "not decided"),
     ((-0.02, 0.02, 0.02), "does not hold here", "does not hold")],
)  # fmt: skip
def test_keywords_are_judged_by_all_position_settings(gaps, at_laptop, at_full):
    for scale, expected in (("laptop", at_laptop), ("full", at_full)):
        found = verdict("oscillator-keywords", keywords(gaps, scale))
        assert found.verdict == expected
        assert f"positions none: {100 * gaps[0] + 0.05:+.2f}" in found.figure


def test_a_mean_above_zero_whose_interval_holds_it_decides_nothing():
    gaps = (0.05, -0.049, 0.04, -0.04, 0.0)
    made = [
        r
        for task in TASKS
        for arm, scores in (("softmax", [0.8] * 5), ("oscillator-2", [0.8 + gap for gap in gaps]))
        for r in laptop(task, arm, scores)
    ]
    assert verdict("oscillator-keywords", made).verdict == "not decided"


def agreement(arm, hard, *, failed=(), diverged=(), scale="laptop"):
    made = []
    for seed, score in enumerate(hard):
        scores = {"by_group": {"easy": 0.9, "hard": score}, "failed_to_learn": seed in failed}
        changes = {"test_score": None, "status": "failed", "failure": "diverged"}
        (one,) = laptop("agreement-v1", arm, [0.9], scale=scale, scores=scores)
        changes = changes if seed in diverged else {}
        made.append(replace(one, seed=seed, **changes))
    return made


@pytest.mark.parametrize(
    ("hard", "options", "expected", "failures"),
    [
        ([0.97, 0.96, 0.97], {}, "holds in part", "0 of 3"),
        # One half is shown, the other open.
        ([0.97, 0.96, 0.80], {}, "holds in part", "0 of 3"),
        ([0.84, 0.85, 0.84], {}, "does not hold here", "0 of 3"),
        ([0.97, 0.96, 0.97], {"failed": (1,)}, "does not hold here", "1 of 3"),
        ([0.97, 0.96, 0.97], {"diverged": (2,)}, "does not hold here", "1 of 3"),
        ([0.97, 0.96, 0.97], {"diverged": (0, 1, 2)}, "does not hold here", "3 of 3"),
    ],
)
def test_agreement_needs_both_halves_of_the_claim(hard, options, expected, failures):
    base = agreement("softmax", [0.9, 0.9, 0.91])
    found = verdict("oscillator-agreement", base + agreement("oscillator-2", hard, **options))
    assert found.verdict == "does not hold"
    assert f"; by records {expected}: hard sentences" in found.figure
    assert f"failures {failures}, softmax 0 of 3" in found.figure


def test_agreement_holds_at_full_scale():
    made = [r for arm, hard in (("softmax", [0.9, 0.91]), ("oscillator-2", [0.97, 0.981]))
            for r in agreement(arm, hard, scale="full")]  # fmt: skip
    assert verdict("oscillator-agreement", made).verdict == "holds"


def test_what_was_measured_as_published_stands_before_smaller_records():
    made = agreement("softmax", [0.9, 0.9]) + agreement("oscillator-2", [0.97, 0.97])
    found = verdict("oscillator-agreement", made)
    assert found.verdict == "does not hold"
    first, _, second = found.figure.partition("(docs/experiments.md); by records holds in part: ")
    assert first.startswith("hard sentences 96.2")
    assert "+7.00 [+7.00, +7.00] pp" in second


def test_another_documented_figure_stands_beside_that_of_records():
    made = language([106.0, 116.6, 95.4], [104.0, 122.0, 94.0])
    found = verdict("oscillator-language", made)
    assert found.verdict == "not decided"
    assert "; in docs/experiments.md holds in part: +2.2 ± 1.0" in found.figure


def language(two, eight, **changes):
    return [
        r
        for arm, scores in (("softmax", [100.0, 110.0, 90.0]), ("oscillator-2", two),
                            ("oscillator", eight))
        for r in laptop("tinystories", arm, scores, metric="perplexity", **changes)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("eight", "expected"),
    [([104.0, 114.0, 94.0], "holds in part"), ([109.0, 120.0, 98.1], "does not hold here"),
     ([104.0, 122.0, 94.0], "not decided")],
)  # fmt: skip
def test_the_gap_is_paired_by_seed(eight, expected):
    found = verdict("oscillator-language", language([106.0, 116.6, 95.4], eight))
    assert found.verdict == expected
    assert "dimension 2 +6.0 [+6.0, +6.0] %, 3 seeds" in found.figure


def test_softmax_of_another_recipe_is_not_compared_with():
    made = language([106.0, 116.6, 95.4], [104.0, 114.4, 93.6])
    alone = laptop("tinystories", "softmax", [20.0] * 5, scale="full", metric="perplexity")
    found = verdict("oscillator-language", made + alone)
    assert "dimension 8 +4.0 [+4.0, +4.0] %, 3 seeds" in found.figure
