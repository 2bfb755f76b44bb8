"""Whole networks as one compiled graph and as exported programs."""

import warnings

import pytest
import torch

from syncattn.models.export import export_model
from tests.models.networks import EVERY_MECHANISM, build, tokens


@EVERY_MECHANISM
@pytest.mark.parametrize("masked", [False, True])
def test_a_network_is_one_graph(mechanism, masked):
    torch._dynamo.reset()
    model, ids = build(mechanism), tokens()
    options = {}
    if masked:
        options["attention_mask"] = torch.ones_like(ids)
        options["attention_mask"][1, 6:] = 0
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(
        compiled(ids, **options).logits, model(ids, **options).logits, rtol=1e-4, atol=1e-5
    )


@EVERY_MECHANISM
def test_packed_sequences_are_one_graph(mechanism):
    torch._dynamo.reset()
    model, ids = build(mechanism), tokens(1, 9)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for lengths in ((4, 5), (2, 1, 6), (9,)):
        places = torch.cat([torch.arange(length) for length in lengths])[None]
        torch.testing.assert_close(
            compiled(ids, position_ids=places).logits,
            model(ids, position_ids=places).logits,
            rtol=1e-4,
            atol=1e-5,
        )


@EVERY_MECHANISM
def test_a_compiled_network_learns(mechanism):
    torch._dynamo.reset()
    model, ids = build(mechanism).train(), tokens()
    compiled = torch.compile(model, backend="aot_eager")
    gradients = []
    for call in (model, compiled):
        model.zero_grad()
        call(ids, labels=ids).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-4)


@EVERY_MECHANISM
@pytest.mark.parametrize("length", [9, None])
def test_an_exported_network_says_the_same(mechanism, length, tmp_path):
    model = build(mechanism)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = export_model(model, length=length)
        torch.export.save(program, tmp_path / "network.pt2")
        run = torch.export.load(tmp_path / "network.pt2").module()
    for batch in (2, 3):
        for size in (9,) if length else (3, 8, 24):
            ids = tokens(batch, size)
            torch.testing.assert_close(run(ids), model(ids).logits, rtol=1e-4, atol=1e-5)
