import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from syncattn import BackendUnavailableError, explain_backend, functional, kernels
from syncattn._masks import Visibility
from syncattn.kernels import triton_availability as availability
from syncattn.kernels import triton_requirements, with_triton

X = torch.zeros(1, 1, 4, 8)
EVERYONE = Visibility(4, 4)


def unmet(*tensors, visibility=EVERYONE):
    return [r.sentence for r in triton_requirements(*tensors, visibility=visibility) if not r.met]


def test_importing_the_package_imports_no_triton():
    code = "import sys, syncattn, syncattn.kernels; print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(availability, "_INTERPRETED", False)
    assert unmet(X) == ["tensors on a CUDA device"]
    monkeypatch.setattr(availability, "_INTERPRETED", True)
    monkeypatch.setattr(availability, "_failures", {"cpu": None})
    assert unmet(X) == []
    assert unmet(X.double()) == ["float32, bfloat16 or float16, at most 256 wide"]
    assert unmet(X, torch.zeros(1, 1, 4, 300)) == ["float32, bfloat16 or float16, at most 256 wide"]
    masked = EVERYONE._replace(attn_mask=torch.ones(1, 1, 4, 4, dtype=torch.bool))
    assert unmet(X, visibility=masked) == ["no `attn_mask`"]


def test_a_triton_that_cannot_be_imported_is_reported_and_not_used(monkeypatch):
    def broken(name):
        raise ImportError("no module of that name")

    monkeypatch.setattr(availability, "_INTERPRETED", True)
    monkeypatch.setattr(availability, "_failures", {})
    monkeypatch.setattr(availability.importlib, "import_module", broken)
    reason = "importing it raised ImportError: no module of that name"
    assert unmet(X) == [f"a Triton that works here ({reason})"]
    with pytest.raises(BackendUnavailableError, match="no module of that name"):
        functional.kuramoto_attention(X, X, backend="triton")
    functional.kuramoto_attention(X, X)


def test_what_has_been_found_out_is_not_looked_for_again(monkeypatch):
    tried = []
    monkeypatch.setattr(availability, "_INTERPRETED", True)
    monkeypatch.setattr(availability, "_failures", {})
    monkeypatch.setattr(availability, "_try", lambda device: tried.append(device))
    assert unmet(X) == unmet(X) == []
    assert tried == [X.device]


def test_a_graph_uses_what_an_eager_call_found_out(monkeypatch):
    monkeypatch.setattr(availability, "_INTERPRETED", True)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(availability, "_failures", {})
    assert unmet(X) == ["a Triton that works here (it has not run eagerly in this process yet)"]
    monkeypatch.setattr(availability, "_failures", {"cpu": None})
    assert unmet(X) == []


def test_a_failing_device_warns_once(monkeypatch):
    monkeypatch.setattr(availability, "_failures", {})
    monkeypatch.setattr(availability, "_try", lambda device: "it is too old")
    device = torch.device("cuda")
    with pytest.warns(RuntimeWarning, match="must compile for cuda; it is too old"):
        assert availability._failure(device) == "it is too old"
    assert availability._failure(device) == "it is too old"


def test_triton_comes_first_on_cuda_and_last_elsewhere():
    others = {"a": (), "b": ()}
    assert list(with_triton(others, (), X)) == ["a", "b", "triton"]
    with FakeTensorMode():
        there = torch.empty(1, device="cuda")
    assert list(with_triton(others, (), there)) == ["triton", "a", "b"]


def test_auto_never_interprets():
    x = 0.1 * torch.randn(1, 1, 8, 2)
    choice = explain_backend(x, x, coupling_strength=1.0, coupling_decay=1.0)
    assert choice.backend == "blockwise"
    assert "triton" not in choice.pairs
    assert kernels.triton_requirements is triton_requirements
