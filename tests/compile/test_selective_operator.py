"""The public operator of selective synchronization inside a compiled graph, without breaks."""

import pytest
import torch

from syncattn import selective_synchronization, selective_synchronization_step

COUPLINGS = {"coupling_decay": 1.1, "edge_floor": 1e-2}
MASK = torch.rand(20, 20, generator=torch.Generator().manual_seed(1)) < 0.7


def operands(requires_grad=True):
    generator = torch.Generator().manual_seed(0)
    omega, value, phase = (0.3 * torch.randn(2, 2, 20, n, generator=generator) for n in (3, 4, 2))
    strength = torch.tensor([1.3, 0.9])
    return [x.requires_grad_(requires_grad) for x in (omega, value, phase, strength)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True, "key_mask": torch.arange(20).expand(2, -1) < 17},
        {"attn_mask": MASK, "top_k": 3},
        {"is_causal": True, "self_pairs": True, "backend": "pruned"},
        {"backend": "band", "position_coordinate": 0},
        {"backend": "repeats"},
        {"backend": "reference", "smoothing": 0.1},
        {"variant": "paper"},
        {"self_pairs": False, "empty_rows": "nearest"},
        {"self_pairs": False, "empty_rows": "mean", "is_causal": True},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_one_graph_with_the_same_result(options):
    torch._dynamo.reset()

    def layer(omega, value, phase, strength):
        # The queries lie apart, so that some of their rows are empty.
        away = 2.0 if options.get("self_pairs") is False else 0.0
        query = omega + away if away else omega
        out = selective_synchronization(
            query, omega, value, phase, coupling_strength=strength, **COUPLINGS, **options
        )
        return out.sin()

    tensors = operands()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")(*tensors)
    expected = layer(*tensors)
    assert expected.any()
    torch.testing.assert_close(compiled, expected, rtol=1e-5, atol=1e-5)
    probe = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    pairs = [
        torch.autograd.grad((x * probe).sum(), tensors, allow_unused=True)
        for x in (compiled, expected)
    ]
    for a, b in zip(*pairs, strict=True):
        a, b = (torch.zeros(()) if x is None else x for x in (a, b))
        torch.testing.assert_close(a, b.expand_as(a), rtol=1e-4, atol=1e-4)


def test_a_decoding_step_is_one_graph():
    torch._dynamo.reset()
    omega, value, phase, strength = operands(requires_grad=False)

    def decode(omega, value, phase, state):
        return selective_synchronization_step(
            omega, value, phase, state, coupling_strength=strength, **COUPLINGS
        )

    parts = [[x[:, :, part] for x in (omega, value, phase)] for part in (slice(12), slice(12, 20))]
    _, state = decode(*parts[0], None)
    expected, after = decode(*parts[1], state)
    compiled, compiled_after = torch.compile(decode, fullgraph=True, backend="aot_eager")(
        *parts[1], state
    )
    torch.testing.assert_close(compiled, expected)
    torch.testing.assert_close(compiled_after.cosine, after.cosine)
