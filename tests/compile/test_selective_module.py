"""The module of selective synchronization as one compiled graph, forward and backward."""

import pytest
import torch

from syncattn.nn import SelectiveSynchronization


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"position": "coordinate"},
        {"position": "learned", "max_positions": 20, "smoothing": 0.1},
        {"variant": "paper"},
        {"top_k": 4, "unbiased_order_parameter": True},
    ],
    ids=lambda options: ",".join(options) or "default",
)
@pytest.mark.parametrize("is_causal", [False, True])
def test_one_graph_with_the_same_result(options, is_causal):
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer, x = SelectiveSynchronization(16, 2, **options), torch.randn(2, 12, 16)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    gradients = []
    for call in (layer, compiled):
        layer.zero_grad()
        out = call(x, is_causal=is_causal)
        out.square().sum().backward()
        gradients.append([out.detach(), *(p.grad.clone() for p in layer.parameters())])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
