import pytest

from syncattn.benchmarks.claims import judge, known_claims


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
