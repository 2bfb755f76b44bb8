"""The laws must catch wrong operators: each of these breaks one."""

from dataclasses import replace

import pytest
import torch

from syncattn import functional
from tests.conformance import SCENES, Conformance, Scene, WeightLaws
from tests.functional.operators import KURAMOTO, OSCILLATOR, SELECTIVE

CPU = torch.device("cpu")


def laws(operator):
    class Laws(Conformance, WeightLaws):
        pass

    tested = Laws()
    tested.operator = operator
    return tested


def scene(name):
    return next(scene for scene in SCENES if scene.name == name)


def leaks_through_the_order_parameter(inputs, backend, **visibility):
    tensors = (inputs[n] for n in ("query_frequency", "key_frequency", "value"))
    z = functional.order_parameter(inputs["phase"].mT).abs().mean(-1)
    return functional.selective_synchronization(
        *tensors, coupling_strength=inputs["coupling_strength"],
        coupling_decay=inputs["coupling_decay"],
        order_parameter=z[..., None].expand(inputs["query_frequency"].shape[:3]), **visibility,
    )  # fmt: skip


def test_an_order_parameter_of_the_whole_sequence_is_caught():
    broken = laws(replace(SELECTIVE, call=leaks_through_the_order_parameter))
    with pytest.raises(AssertionError):
        broken.test_the_future_does_not_reach_the_past("auto", CPU)
    with pytest.raises(AssertionError):
        broken.test_value_is_that_of_the_definition("auto", scene("causal"), CPU)


def test_forgotten_boundaries_are_caught():
    def call(inputs, backend, cu_seqlens=None, **visibility):
        return KURAMOTO.call(inputs, backend, **visibility)

    broken = laws(replace(KURAMOTO, call=call))
    with pytest.raises(AssertionError):
        broken.test_packed_sequences_are_separate_sequences("sdpa", True, CPU)


def test_forgotten_padding_is_caught():
    def call(inputs, backend, key_mask=None, **visibility):
        return KURAMOTO.call(inputs, backend, **visibility)

    broken = laws(replace(KURAMOTO, call=call))
    with pytest.raises((AssertionError, ValueError)):
        broken.test_padding_changes_nothing("sdpa", "append", 1e30, CPU)


def test_a_mask_aligned_top_left_is_caught():
    def call(inputs, backend, is_causal=False, **visibility):
        queries, keys = inputs["query_phase"].shape[2], inputs["key_phase"].shape[2]
        allowed = torch.ones(queries, keys, dtype=torch.bool)
        allowed = allowed.tril() if is_causal else allowed
        return KURAMOTO.call(inputs, backend, attn_mask=allowed, **visibility)

    broken = laws(replace(KURAMOTO, call=call))
    with pytest.raises(AssertionError):
        broken.test_few_queries_are_the_last_rows("sdpa", CPU)


def test_a_wrong_gradient_is_caught():
    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return 0.5 * gradient

    def call(inputs, backend, **visibility):
        halved = inputs | {"value": Halved.apply(inputs["value"])}
        return OSCILLATOR.call(halved, backend, **visibility)

    broken = laws(replace(OSCILLATOR, call=call))
    plain = scene("everything")
    broken.test_value_is_that_of_the_definition("auto", plain, CPU)
    with pytest.raises(AssertionError):
        broken.test_gradient_of_every_input_is_that_of_the_definition("auto", plain, CPU)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        broken.test_gradcheck("auto", False, CPU)


def test_sloppy_precision_is_caught():
    def call(inputs, backend, **visibility):
        narrow = {name: x.to(torch.bfloat16) for name, x in inputs.items()}
        return OSCILLATOR.call(narrow, backend, **visibility).to(inputs["value"].dtype)

    broken = laws(replace(OSCILLATOR, call=call))
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(AssertionError):
            broken.test_dtype_and_device_are_kept_and_precise("auto", dtype, CPU)


def test_weights_that_do_not_sum_to_one_are_caught():
    def weights(inputs, **visibility):
        return 0.9 * OSCILLATOR.weights(inputs, **visibility)

    with pytest.raises(AssertionError):
        laws(replace(OSCILLATOR, weights=weights)).test_rows_of_the_weights_sum_to_one_or_to_zero(
            CPU
        )


def test_the_right_operators_pass_the_same_laws():
    laws(KURAMOTO).test_few_queries_are_the_last_rows("sdpa", CPU)
    laws(SELECTIVE).test_the_future_does_not_reach_the_past("reference", CPU)
    assert Scene("plain").mask().all()
