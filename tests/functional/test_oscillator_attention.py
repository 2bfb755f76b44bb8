import pytest
import torch

from syncattn import functional, reference
from tests.conformance import Conformance, PermutationLaws, Scene, WeightLaws
from tests.functional.operators import OSCILLATOR, SHARP_OSCILLATOR
from tests.tolerance import assert_same


class TestOscillatorAttention(Conformance, PermutationLaws, WeightLaws):
    operator = OSCILLATOR


class TestSharpReadout(Conformance, PermutationLaws, WeightLaws):
    operator = SHARP_OSCILLATOR


def test_anchors_are_shared_by_a_batch():
    inputs = OSCILLATOR.inputs(Scene("plain"))
    shared = inputs | {"anchor": inputs["anchor"][:1]}
    whole = inputs | {"anchor": inputs["anchor"][:1].expand(2, -1, -1, -1)}
    assert_same(OSCILLATOR.call(shared, "auto"), OSCILLATOR.call(whole, "auto"))


def test_a_coupling_may_be_any_positive_function():
    inputs = OSCILLATOR.inputs(Scene("plain"))
    out = functional.oscillator_attention(*inputs.values(), coupling=torch.exp, scale=0.25)
    expected = reference.oscillator_attention(*inputs.values(), coupling=torch.exp, scale=0.25)
    assert_same(out, expected)
    assert not torch.equal(out, OSCILLATOR.call(inputs, "auto"))


@pytest.mark.parametrize("name", ["softplus", "relu", "elu"])
def test_named_couplings_are_positive(name):
    inputs = OSCILLATOR.inputs(Scene("plain"))
    weights, rho, near = functional.oscillator_attention_weights(
        inputs["query"], inputs["key"], inputs["anchor"], coupling=name
    )
    assert (weights > 0).all()
    assert ((rho > 0) & (rho <= 1)).all()
    assert near.any()
    assert not near.all()


def test_the_order_parameter_is_that_of_the_weighted_anchors():
    inputs = OSCILLATOR.inputs(Scene("plain"))
    q, k, r = inputs["query"], inputs["key"], inputs["anchor"]
    _, rho, near = functional.oscillator_attention_weights(q, k, r, is_causal=True)
    W = torch.nn.functional.softplus(q @ k.mT / 2).tril()
    h = W @ r
    assert_same(rho, h.norm(dim=-1) / W.sum(-1))
    assert torch.equal(near, (h @ r.mT > 0) & torch.ones(6, 6, dtype=torch.bool).tril())
    assert_same(rho[..., 0], r[..., 0, :].norm(dim=-1))


def test_no_drive_reads_out_uniformly_with_finite_gradients():
    query = torch.zeros(1, 1, 1, 2, requires_grad=True)
    key = torch.zeros(1, 1, 2, 2, requires_grad=True)
    anchor = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[None, None].requires_grad_()
    value = torch.tensor([[1.0], [3.0]])[None, None].requires_grad_()
    out = functional.oscillator_attention(query, key, value, anchor)
    torch.testing.assert_close(out, torch.full_like(out, 2.0))
    for gradient in torch.autograd.grad(out.sum(), (query, key, value, anchor)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("magnitude", [1e-30, 1e-6, 1e3])
def test_the_size_of_the_anchors_does_not_break_half_precision(magnitude):
    inputs = OSCILLATOR.inputs(Scene("plain"), dtype=torch.bfloat16)
    inputs["anchor"] = inputs["anchor"] * magnitude
    out = functional.oscillator_attention(*inputs.values())
    assert out.isfinite().all()
