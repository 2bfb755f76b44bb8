import inspect

import pytest
import torch

from syncattn.nn import FrustratedSynchronization, KuramotoAttention
from syncattn.nn.phase_coupling import PhaseCoupling

GATES = ["query-key", "query", "static", "signed"]
GATE_INPUTS = ["head", "token"]


@pytest.mark.parametrize("layer", [KuramotoAttention, FrustratedSynchronization])
@pytest.mark.parametrize("gate_input", GATE_INPUTS)
@pytest.mark.parametrize("gate", GATES)
def test_every_gate_starts_open_and_learns(layer, gate, gate_input):
    module, phase = layer(8, 2, gate=gate, gate_input=gate_input), torch.randn(2, 5, 8)
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
    with pytest.raises(NotImplementedError):
        PhaseCoupling(8, 2).step(torch.randn(1, 3, 8))


@pytest.mark.parametrize("layer", [KuramotoAttention, FrustratedSynchronization])
def test_a_sink_takes_weight_and_a_learned_one_learns(layer):
    phase = torch.randn(2, 5, 8)
    for sink in ("fixed", "learned"):
        module = layer(8, 2, sink=sink)
        weights = module.synchrony(phase, is_causal=True).weights
        assert (weights.sum(-1) < 1).all()
        assert (module.sink_logit is not None) == (sink == "learned")
    before = module.synchrony(phase, is_causal=True).weights
    with torch.no_grad():
        module.sink_logit.add_(1.0)
    assert (module.synchrony(phase, is_causal=True).weights <= before).all()
    module(phase, is_causal=True).square().sum().backward()
    assert module.sink_logit.grad.all()
    module.reset_parameters()
    assert not module.sink_logit.any()


def test_a_layer_in_half_precision_keeps_its_drift():
    module = KuramotoAttention(8, 2, drift_base=100.0).bfloat16()
    drift = module.natural_frequency(torch.zeros(1, 2, 3, 4))
    assert drift.dtype == torch.float32
    assert torch.equal(drift, 100.0 ** (-torch.arange(4) / 4))


def test_a_gate_reads_its_own_head_or_the_whole_token():
    phase = torch.randn(1, 4, 8)
    moved = phase.clone()
    moved[..., 4:] += 1.0
    for gate_input, stays in (("head", True), ("token", False)):
        module = PhaseCoupling(8, 2, gate_input=gate_input)
        for before, after in zip(module.gates(phase), module.gates(moved), strict=True):
            assert before.shape == (1, 2, 4, 4)
            assert torch.equal(before[:, 0], after[:, 0]) == stays
            assert not torch.equal(before[:, 1], after[:, 1])


def test_gates_of_a_head_are_the_blocks_of_those_of_the_token():
    own, whole = PhaseCoupling(8, 2, gate_input="head"), PhaseCoupling(8, 2, gate_input="token")
    with torch.no_grad():
        for mine, other in (
            (own.query_gate_proj, whole.query_gate_proj),
            (own.key_gate_proj, whole.key_gate_proj),
        ):
            other.weight.zero_()
            for head in range(2):
                rows = slice(4 * head, 4 * head + 4)
                other.weight[rows, rows] = mine.weight[head, :4].mT
                other.weight[rows, 8 + 4 * head : 12 + 4 * head] = mine.weight[head, 4:].mT
    phase = torch.randn(2, 5, 8)
    torch.testing.assert_close(own.gates(phase), whole.gates(phase))


def test_an_unknown_gate_input_is_refused():
    with pytest.raises(ValueError, match="`gate_input` must be one of"):
        PhaseCoupling(8, 2, gate_input="layer")


@pytest.mark.parametrize("layer", [KuramotoAttention, FrustratedSynchronization])
def test_states_need_no_wrapping_after_ten_thousand_steps_of_drift(layer):
    module, phase = layer(8, 2), torch.randn(1, 6, 8)
    drifted, speed = phase, torch.linspace(-1, 1, 8)
    for _ in range(10_000):
        drifted = drifted + speed
    wrapped = torch.remainder(drifted.double(), 2 * torch.pi).float()
    assert drifted.abs().max() > 9_000
    expected = module(wrapped, is_causal=True)
    assert (module(drifted, is_causal=True) - expected).abs().max() < 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        rough, other = (module(x, is_causal=True).float() for x in (drifted, wrapped))
    bound = 2**-6 * expected.abs().max()
    assert (rough - other).abs().max() < bound
    assert (rough - expected).abs().max() < 4 * bound


@pytest.mark.parametrize("layer", [KuramotoAttention, FrustratedSynchronization])
def test_a_step_refuses_what_does_not_fit_by_the_names_of_the_full_pass(layer):
    # Without the typing hook, which would speak first.
    step, module, phase = inspect.unwrap(layer.step), layer(8, 2), torch.randn(2, 5, 8)
    with pytest.raises(ValueError, match="`phase` must hold at least one new token"):
        step(module, phase[:, :0])
    with pytest.raises(ValueError, match="`phase` must be as wide as the module, 8"):
        step(module, phase[..., :4])
    with pytest.raises(ValueError, match="`key_mask` must have one entry for each new token"):
        step(module, phase, key_mask=torch.ones(2, 3).bool())
    with pytest.raises(TypeError, match=r"`state` must be .*PhaseState"):
        step(module, phase, object())
