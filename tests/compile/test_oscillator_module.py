"""The module of oscillator attention as one compiled graph, forward and backward."""

import pytest
import torch

from syncattn.nn import OscillatorAttention


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "plain"),
        ({}, "causal"),
        ({"readout_gain": None}, "padded"),
        ({"readout_gain": None}, "packed"),
        ({"variant": "paper", "readout_power": 2}, "padded"),
        ({"anchors": "content", "readout_gain": 2.0}, "causal"),
        ({"anchors": "rotary", "mode": "settle(0.5)"}, "packed"),
        ({"anchors": "rotary-content", "mode": "euler(4, 0.2)", "row_gain": True}, "padded"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value) or "default",
)
def test_one_graph_with_the_same_result(options, kind):
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer = OscillatorAttention(16, 2, max_positions=20, **options)
    x = torch.randn(1 if kind == "packed" else 2, 12, 16)
    named = {"is_causal": kind != "plain"}
    if kind == "padded":
        named["key_mask"] = torch.ones(2, 12, dtype=torch.bool)
        named["key_mask"][1, :4] = False
    if kind == "packed":
        named["cu_seqlens"] = torch.tensor([0, 5, 12])
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    gradients = []
    for call in (layer, compiled):
        layer.zero_grad()
        out = call(x, **named)
        out.square().sum().backward()
        gradients.append([out.detach(), *(p.grad.clone() for p in layer.parameters())])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_decoding_step_is_one_graph():
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer, x = (
        OscillatorAttention(16, 2, max_positions=20, readout_gain=None),
        torch.randn(2, 3, 16),
    )
    compiled = torch.compile(layer.step, fullgraph=True, backend="aot_eager", dynamic=False)
    _, state = layer.step(x[:, :2])
    state = state.detach()
    expected, after = layer.step(x[:, 2:], state)
    found, same = compiled(x[:, 2:], state)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(same.sums, after.sums)
