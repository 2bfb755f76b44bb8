import inspect

import pytest
import torch
from torch import nn

import syncattn.nn
from syncattn.nn import (
    EuclideanBlock,
    KuramotoAttention,
    PhaseBlock,
    PhaseSwiGLU,
    SoftmaxAttention,
    SwiGLU,
)


def test_the_euclidean_stream_adds_what_normed_branches_say():
    block = EuclideanBlock(SoftmaxAttention(8, 2), SwiGLU(8, 16), 8, eps=1e-6)
    x = torch.randn(2, 5, 8)
    norm = nn.functional.rms_norm
    y = x + block.attention(norm(x, (8,), eps=1e-6), is_causal=True)
    expected = y + block.feedforward(norm(y, (8,), eps=1e-6))
    torch.testing.assert_close(block(x, is_causal=True), expected)


def test_the_phase_stream_adds_increments_without_norms():
    block = PhaseBlock(KuramotoAttention(8, 2), PhaseSwiGLU(8, 16))
    assert not any(isinstance(child, nn.RMSNorm) for child in block.modules())
    theta = torch.randn(2, 5, 8)
    moved = theta + block.attention(theta, is_causal=True)
    torch.testing.assert_close(block(theta, is_causal=True), moved + block.feedforward(moved))


def test_attention_alone():
    x = torch.randn(2, 5, 8)
    block = EuclideanBlock(SoftmaxAttention(8, 2), None, 8, eps=1e-6)
    assert block.feedforward_norm is None
    torch.testing.assert_close(block(x), x + block.attention(block.attention_norm(x)))
    phases = PhaseBlock(KuramotoAttention(8, 2), None)
    torch.testing.assert_close(phases(x), x + phases.attention(x))


def test_the_picture_is_that_of_the_attention_on_its_own_input():
    x = torch.randn(2, 5, 8)
    block = EuclideanBlock(SoftmaxAttention(8, 2), None, 8, eps=1e-6)
    expected = block.attention.synchrony(block.attention_norm(x), is_causal=True)
    assert torch.equal(block.synchrony(x, is_causal=True).weights, expected.weights)
    phases = PhaseBlock(KuramotoAttention(8, 2), None)
    expected = phases.attention.synchrony(x, is_causal=True)
    assert torch.equal(phases.synchrony(x, is_causal=True).weights, expected.weights)


STEPPING = [
    kind
    for name in syncattn.nn.__all__
    if inspect.isclass(kind := getattr(syncattn.nn, name))
    and issubclass(kind, nn.Module)
    and hasattr(kind, "step")
]


@pytest.mark.parametrize("kind", STEPPING)
def test_a_step_calls_its_stream_as_the_full_pass_does(kind):
    stream = [list(inspect.signature(f).parameters)[1] for f in (kind.forward, kind.step)]
    assert stream[0] == stream[1]
    assert PhaseBlock in STEPPING
    assert KuramotoAttention in STEPPING
