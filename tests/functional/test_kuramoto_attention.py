import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syncattn import functional, reference
from tests.conformance import Conformance, PermutationLaws, Scene, WeightLaws
from tests.functional.operators import INCLUSIVE_KURAMOTO, KURAMOTO
from tests.tolerance import assert_same


class TestKuramotoAttention(Conformance, WeightLaws):
    operator = KURAMOTO


class TestInclusiveKuramotoAttention(Conformance, PermutationLaws, WeightLaws):
    operator = INCLUSIVE_KURAMOTO


BOTH = pytest.mark.parametrize("backend", ["sdpa", "reference"])


@BOTH
def test_whole_turns_change_nothing(backend):
    inputs = KURAMOTO.inputs(Scene("plain"))
    expected = KURAMOTO.call(inputs, backend, is_causal=True)
    for name in ("query_phase", "key_phase"):
        turns = torch.randint(-3, 4, inputs[name].shape).double()
        turned = inputs | {name: inputs[name] + 2 * torch.pi * turns}
        assert_same(KURAMOTO.call(turned, backend, is_causal=True), expected, 1e-11)


@BOTH
def test_one_angle_added_to_everybody_changes_nothing(backend):
    inputs = KURAMOTO.inputs(Scene("plain"))
    turned = inputs | {n: inputs[n] + 1.234 for n in ("query_phase", "key_phase")}
    assert_same(KURAMOTO.call(turned, backend), KURAMOTO.call(inputs, backend))


@BOTH
@settings(max_examples=10, deadline=None)
@given(shift=st.integers(0, 500))
def test_only_differences_of_place_matter(backend, shift):
    # Leading keys that nobody sees move every place by the same number.
    inputs = KURAMOTO.inputs(Scene("plain", 1, 4, 4))
    expected = KURAMOTO.call(inputs, backend, is_causal=True)
    moved = dict(inputs)
    for name in KURAMOTO.on_queries + KURAMOTO.on_keys:
        moved[name] = torch.cat([torch.zeros(1, 2, shift, 4, dtype=torch.float64), inputs[name]], 2)
    real = torch.arange(shift + 4)[None] >= shift
    out = KURAMOTO.call(moved, backend, is_causal=True, key_mask=real)
    assert_same(out[:, :, shift:], expected, 1e-11)


@BOTH
def test_the_first_token_has_nothing_to_follow(backend):
    inputs = KURAMOTO.inputs(Scene("plain"))
    assert not KURAMOTO.call(inputs, backend, is_causal=True)[:, :, 0].any()
    assert INCLUSIVE_KURAMOTO.call(inputs, backend, is_causal=True)[:, :, 1:].any()


@BOTH
def test_gates_broadcast_and_default_to_one(backend):
    theta = torch.randn(2, 2, 6, 4)
    bare = functional.kuramoto_attention(theta, theta, is_causal=True, backend=backend)
    for shape in ((2, 2, 6, 4), (1, 2, 6, 4), (2, 1, 4), (4,)):
        ones = torch.ones(shape)
        out = functional.kuramoto_attention(
            theta, theta, ones, ones, is_causal=True, backend=backend
        )
        assert torch.equal(out, bare)


@BOTH
def test_equal_phases_do_not_move(backend):
    theta = torch.full((1, 1, 5, 3), 2.0, dtype=torch.float64)
    assert_same(functional.kuramoto_attention(theta, theta, backend=backend), 0 * theta)


def test_scale_sharpens_the_weights():
    inputs = KURAMOTO.inputs(Scene("plain"))
    tensors = [inputs[n] for n in ("query_phase", "key_phase", "query_gate", "key_gate")]
    flat = functional.kuramoto_attention_weights(*tensors, scale=0.0, exclude_self=False)
    assert_same(flat, torch.full_like(flat, 1 / 6))
    sharp = functional.kuramoto_attention_weights(*tensors, scale=1e4, exclude_self=False)
    assert_same(sharp.amax(-1), torch.ones(2, 2, 6, dtype=torch.float64))


@BOTH
def test_half_precision_keeps_drifted_phases_in_float32(backend):
    # A drift of one radian a token: bfloat16 could not tell places beyond 256 apart.
    theta = torch.zeros(1, 1, 1200, 2)
    theta[:, :, 1100] = 1.0
    drift = torch.tensor([1.0, 0.1])
    options = {"natural_frequency": drift, "is_causal": True, "backend": backend}
    exact = functional.kuramoto_attention(theta[:, :, -9:], theta, **options)
    half = functional.kuramoto_attention(
        theta[:, :, -9:].bfloat16(), theta.bfloat16(), **options
    ).float()
    assert (half - exact).abs().max() <= 2**-8 * exact.abs().max()


def test_dense_weights_are_those_of_the_operator():
    inputs = KURAMOTO.inputs(Scene("plain"))
    weights = KURAMOTO.weights(inputs, is_causal=True)
    expected = reference.kuramoto_attention(weights, inputs["query_phase"], inputs["key_phase"])
    assert_same(KURAMOTO.call(inputs, "sdpa", is_causal=True), expected)


@BOTH
def test_a_sink_is_one_number_or_one_for_each_head(backend):
    inputs = KURAMOTO.inputs(Scene("plain"))
    tensors = [inputs[n] for n in ("query_phase", "key_phase", "query_gate", "key_gate")]
    each = torch.tensor([0.5, 0.5], dtype=torch.float64)
    options = {"is_causal": True, "backend": backend}
    one, two = (functional.kuramoto_attention(*tensors, sink=b, **options) for b in (0.5, each))
    assert torch.equal(one, two)
    assert not torch.equal(one, functional.kuramoto_attention(*tensors, **options))
    assert not one[:, :, 0].any()


@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_the_scale_does_not_reach_the_sink(scale):
    inputs = KURAMOTO.inputs(Scene("plain"))
    tensors = [inputs[n] for n in ("query_phase", "key_phase", "query_gate", "key_gate")]
    options = {"sink": 1.0, "scale": scale, "is_causal": True}
    out = functional.kuramoto_attention(*tensors, **options)
    assert_same(out, functional.kuramoto_attention(*tensors, backend="reference", **options))


def test_a_bad_sink_is_refused():
    theta = torch.randn(1, 2, 3, 4)
    for sink, message in (
        (torch.zeros(3), "as many heads"), (float("nan"), "`sink` must be finite"),
        (torch.full((2,), torch.inf), "`sink` must be finite"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            # Without the typing hook, which would speak first.
            inspect.unwrap(functional.kuramoto_attention)(theta, theta, sink=sink)


@BOTH
def test_ten_thousand_tokens_away_the_drift_is_exact(backend):
    generator = torch.Generator().manual_seed(4)
    theta = torch.randn(1, 1, 10_001, 4, generator=generator).bfloat16()
    omega = functional.rotary_drift(4, base=100.0)
    few, options = theta[:, :, -3:], {"is_causal": True, "scale": 3.0, "backend": backend}
    allowed = torch.zeros(3, 10_001, dtype=torch.bool)
    # A near token and two far ones, which only the drift tells apart.
    allowed[:, [0, 17, 9_990]] = True
    exact = functional.kuramoto_attention(
        few.double(), theta.double(), natural_frequency=omega.double(), attn_mask=allowed,
        **options,
    )  # fmt: skip
    found = functional.kuramoto_attention(
        few, theta, natural_frequency=omega, attn_mask=allowed, **options
    )
    assert found.dtype == torch.bfloat16
    assert (found.double() - exact).abs().max() <= 2**-8 * exact.abs().max()
    wide = functional.kuramoto_attention(
        few.float(), theta.float(), natural_frequency=omega, attn_mask=allowed, **options
    )
    assert (wide.double() - exact).abs().max() <= 2e-6


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_turns_of_the_frequency_change_nothing(backend, dtype):
    theta = torch.randn(1, 1, 40, 4, dtype=dtype)
    omega = torch.randn(4, dtype=torch.float64)
    turned = omega + 2 * torch.pi * torch.tensor([1, -2, 3, 0], dtype=torch.float64)
    outs = [
        functional.kuramoto_attention(
            theta, theta, natural_frequency=x, is_causal=True, backend=backend
        ).float()
        for x in (omega, turned)
    ]
    assert (outs[0] - outs[1]).abs().max() < (2e-6 if dtype == torch.float32 else 2**-7)
