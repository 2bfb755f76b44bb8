import pytest
import torch

from syncattn.benchmarks import claims_selective
from syncattn.benchmarks.claims import judge, known_claims
from syncattn.nn import SelectiveSynchronization

EXPECTED = {
    "ssa-parameters": ("does not hold", "+9 parameters"),
    "ssa-order-parameter": ("holds in part", "exp(-1/6)"),
    "ssa-natural-sparsity": ("does not hold", "0.0000%"),
    "ssa-head-diversity": ("does not hold", "entropy 0.999"),
    "ssa-unified-position": ("does not hold", "no place is seen"),
    "ssa-learns": ("does not hold", "by 0.0e+00"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_claims_are_measured(name):
    found = judge(known_claims()[name], [], may_measure=True)
    verdict, figure = EXPECTED[name]
    assert found.verdict == verdict
    assert figure in found.figure


def test_overhead_is_one_coupling_strength_and_a_decay_per_head():
    found = judge(known_claims()["ssa-parameters"], [], may_measure=True)
    assert found.figure.startswith("+9 parameters at width 512 with 8 heads")


def test_where_all_pairs_lock_nothing_is_sparse(monkeypatch):
    def alike(*_):
        layer = SelectiveSynchronization(512, 8, variant="paper").eval()
        with torch.no_grad():
            layer.frequency_proj.weight.zero_()
        return layer

    monkeypatch.setattr(claims_selective, "_layer", alike)
    found = judge(known_claims()["ssa-natural-sparsity"], [], may_measure=True)
    assert found.verdict == "does not hold"
    assert found.figure.startswith("100.0000%") and "itself alone" not in found.figure
