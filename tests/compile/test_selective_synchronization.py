"""Selective synchronization inside a compiled graph, forward and backward, without breaks."""

import pytest
import torch

from syncattn._masks import Visibility
from syncattn.kernels.selective_synchronization import selective_synchronization


@pytest.mark.parametrize(
    ("method", "top_k"),
    [("blockwise", None), ("blockwise", 4), ("window", 4), ("pruned", None), ("repeats", None)],
)
def test_one_graph_with_the_same_result(method, top_k):
    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, 2, 20, 3, generator=generator).requires_grad_() for _ in range(3)
    )
    g = torch.rand(2, 2, 20, generator=generator).requires_grad_()
    key_mask = torch.arange(20).expand(2, -1) < 17
    visibility = Visibility(20, 20, is_causal=method != "repeats", key_mask=key_mask)

    def layer(query, key, value, g):
        output, total = selective_synchronization(
            query.tanh(), key, value, g, visibility=visibility, method=method, top_k=top_k
        )
        return output.sin() + total[..., None]

    operands = (query, key, value, g)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")(*operands)
    expected = layer(*operands)
    torch.testing.assert_close(compiled, expected, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(x.sum(), operands) for x in (compiled, expected)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
