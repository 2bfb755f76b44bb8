"""The torus operators inside a compiled graph, forward and backward, without breaks."""

import pytest
import torch

from syncattn import functional
from syncattn.nn import FrustratedSynchronization, KuramotoAttention


@pytest.mark.parametrize("layer", [KuramotoAttention, FrustratedSynchronization])
@pytest.mark.parametrize(
    "options", [{}, {"sink": "learned", "gate": "static"}], ids=["plain", "sink"]
)
@pytest.mark.parametrize("is_causal", [False, True])
def test_a_layer_is_one_graph_with_the_same_result(layer, options, is_causal):
    torch._dynamo.reset()
    torch.manual_seed(0)
    module, phase = layer(16, 2, **options), torch.randn(2, 12, 16)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    gradients = []
    for call in (module, compiled):
        module.zero_grad()
        out = call(phase, is_causal=is_causal)
        out.square().sum().backward()
        gradients.append([out.detach(), *(p.grad.clone() for p in module.parameters())])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_dense_form_and_a_decoding_step_are_one_graph():
    torch._dynamo.reset()
    theta, kernel = torch.randn(1, 2, 9, 4), torch.randn(2, 3, 2, 4)
    options = {"harmonic_amplitude": kernel, "frustration": kernel}

    def dense(theta):
        return functional.frustrated_synchronization(theta, theta, is_causal=True, **options)

    compiled = torch.compile(dense, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(theta), dense(theta))
    _, state = functional.frustrated_synchronization_step(theta[:, :, :8], **options)

    def step(theta, state):
        return functional.frustrated_synchronization_step(theta, None, None, state, **options)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(theta[:, :, 8:], state)[0], dense(theta)[:, :, 8:])
