import inspect
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from syncattn.models import MECHANISMS, export
from syncattn.models.export import export_model, export_onnx
from tests.models.networks import build, tokens

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("length", "message"),
    [(25, "`length` must be at most `max_position_embeddings`; got 25 and 24"),
     (0, "`length` must be at least 1")],
)  # fmt: skip
def test_bad_lengths_are_refused(length, message):
    with pytest.raises(ValueError, match=message):
        export_model(build("softmax"), length=length)


def test_the_smallest_batches_and_limits_are_exported_or_refused():
    model, ids = build("softmax"), tokens(2, 6)
    run = export_model(model, length=6, max_batch_size=2).module()
    torch.testing.assert_close(run(ids), model(ids).logits)
    short = build("softmax", max_position_embeddings=3)
    with pytest.raises(ValueError, match="`length` must be given for a model of at most 3 tokens"):
        export_model(short)
    with pytest.raises(TypeError, match="`model` must be of SyncAttnForCausalLM; got Linear"):
        inspect.unwrap(export_model)(torch.nn.Linear(1, 1))


def test_what_cannot_be_traced_is_refused_with_the_reason():
    model = build("softmax").train()

    class Counting(torch.nn.Module):
        def step(self):
            return None

        def forward(self, x, **_):
            return x * float(x.sum())

    model.model.layers[0].attention = Counting()
    with pytest.raises(RuntimeError, match=r"'softmax' must be traceable to be exported; got .*Us"):
        export_model(model, length=8)
    assert model.training


def test_onnx_says_what_must_be_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"onnx and onnxscript must be installed .*Use|Run `pip"):
        export_onnx(build("softmax"), tmp_path / "network.onnx")


@pytest.mark.parametrize("mechanism", ["selective", "oscillator"])
def test_dense_forms_are_for_the_export_alone(mechanism):
    model, ids = build(mechanism), tokens()
    before = model(ids).logits
    attention = model.model.layers[0].attention
    with export._dense(model):
        dense = model(ids).logits
    torch.testing.assert_close(dense, before, rtol=1e-4, atol=1e-5)
    after = attention.options if mechanism == "selective" else vars(attention)
    assert after["backend"] == "auto"
    assert torch.equal(model(ids).logits, before)


@pytest.mark.parametrize("mechanism", ["selective", "oscillator"])
def test_an_operator_of_our_own_is_no_onnx(mechanism, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda _: object())
    monkeypatch.setattr(export, "_dense", nullcontext)
    message = f"'{mechanism}' must be expressible by common operators.*got syncattn.*Use export_m"
    with pytest.raises(RuntimeError, match=message):
        export_onnx(build(mechanism), tmp_path / "network.onnx", length=8)


@pytest.mark.slow
def test_an_onnx_network_says_the_same(tmp_path):
    # In a process of its own: a length that is left open cannot pass the hook on types.
    command = [sys.executable, "-W", "ignore", "-m", "tests.models.onnx_networks", tmp_path]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
    errors = json.loads(found.stdout.splitlines()[-1])
    assert errors.keys() == {f"{name}-{length}" for name in MECHANISMS for length in (9, None)}
    assert all(0 <= error < 1e-4 for error in errors.values()), errors
