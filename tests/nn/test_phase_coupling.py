import pytest
import torch

from syncattn.nn import FrustratedSynchronization, KuramotoAttention
from syncattn.nn.phase_coupling import PhaseCoupling

GATES = ["query-key", "query", "static", "signed"]


@pytest.mark.parametrize("layer", [KuramotoAttention, FrustratedSynchronization])
@pytest.mark.parametrize("gate", GATES)
def test_every_gate_starts_open_and_learns(layer, gate):
    module, phase = layer(8, 2, gate=gate), torch.randn(2, 5, 8)
    query, key = module.gates(phase)
    assert 0.7 < query.mean() < 1.5
    assert 0.7 < key.mean() < 1.5
    module(phase, is_causal=True).square().sum().backward()
    for name, parameter in module.named_parameters():
        if "gate" in name:
            assert parameter.grad.isfinite().all()
            assert parameter.grad.any()


def test_static_gates_are_positive_and_signed_ones_are_free():
    phase = torch.randn(1, 3, 8)
    for gate, sign in (("static", 1.0), ("signed", -1.0)):
        module = PhaseCoupling(8, 2, gate=gate)
        with torch.no_grad():
            module.raw_gate.fill_(-1.0)
        query, _ = module.gates(phase)
        assert (query.sign() == sign).all()


def test_the_picture_tells_the_coherence_that_a_token_sees():
    module = KuramotoAttention(8, 2)
    aligned = module.synchrony(torch.full((1, 4, 8), 0.7), is_causal=True)
    torch.testing.assert_close(aligned.order_parameter[..., 1:], torch.ones(1, 2, 3))
    assert aligned.order_parameter[..., 0].isnan().all()
    assert torch.equal(aligned.locked[0, 0], torch.ones(4, 4, dtype=torch.bool).tril(-1))


def test_the_base_class_does_not_couple():
    with pytest.raises(NotImplementedError):
        PhaseCoupling(8, 2)(torch.randn(1, 3, 8))
