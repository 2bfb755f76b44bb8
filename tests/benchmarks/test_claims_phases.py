import pytest

from syncattn.benchmarks.claims import judge, known_claims


@pytest.mark.parametrize("name", ["kuramoto-energy", "frustrated-delay"])
def test_identities_hold_to_rounding(name):
    found = judge(known_claims()[name], [], may_measure=True)
    assert found.verdict == "holds"
    assert float(found.figure.rsplit("by ", 1)[1].split(",")[0]) < 1e-12
