import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from syncattn import BackendUnavailableError, explain_backend, functional, kernels
from syncattn._backends import choose_backend
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


def test_auto_takes_another_backend_on_a_device_where_triton_fails(monkeypatch):
    def broken(name):
        raise ImportError("no module of that name")

    monkeypatch.setattr(availability, "importlib", SimpleNamespace(import_module=broken))
    monkeypatch.setattr(availability, "_failures", {})
    with FakeTensorMode():
        x = torch.empty(1, 1, 4, 8, device="cuda:0")
    with pytest.warns(
        RuntimeWarning,
        match=r"must compile for cuda:0; importing it raised "
        r"ImportError: no module of that name\. Install the Triton of this",
    ):
        requirements = triton_requirements(x, visibility=EVERYONE)
    candidates = with_triton({"blockwise": ()}, requirements, x)
    assert list(candidates) == ["triton", "blockwise"]
    assert choose_backend("operator", "auto", candidates) == "blockwise"
    # Said once; asked for by name it is refused with the reason.
    assert triton_requirements(x, visibility=EVERYONE) == requirements
    with pytest.raises(BackendUnavailableError, match="no module of that name"):
        choose_backend("operator", "triton", candidates)


def _too_old(*operands, **options):
    raise RuntimeError("ptxas knows no sm_90a")


def _forward_only(x, *operands, **options):
    out = x * torch.ones_like(x)
    out.register_hook(_too_old)
    return out, None


@pytest.mark.parametrize("pair_sums", [_too_old, _forward_only])
def test_small_kernels_tell_of_a_version_that_fails_in_either_pass(pair_sums):
    operator = SimpleNamespace(Kernel=str, pair_sums=pair_sums)
    with torch.inference_mode():
        reason = availability._run(operator, torch.device("cpu"))
    assert reason == "a small kernel raised RuntimeError: ptxas knows no sm_90a"


def test_small_kernels_run_where_triton_works():
    operator = pytest.importorskip("syncattn.kernels.pairwise_operator_triton")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.no_grad():
        assert availability._run(operator, device) is None


def test_nothing_is_looked_for_while_a_graph_is_captured(monkeypatch):
    monkeypatch.setattr(availability, "_failures", {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    reason = "it has not run eagerly in this process yet"
    assert availability._failure(torch.device("cuda")) == reason
    assert not availability._failures


@pytest.mark.gpu
def test_a_device_that_works_is_used():
    x = 0.1 * torch.randn(1, 1, 64, 16, device="cuda")
    assert unmet(x, visibility=Visibility(64, 64)) == []
    choice = explain_backend(x, x, coupling_strength=1.0, coupling_decay=1.0)
    assert choice.backend == "triton"


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


def test_tensors_without_numbers_store_no_verdict(monkeypatch):
    monkeypatch.setattr(availability, "_INTERPRETED", True)
    monkeypatch.setattr(availability, "_failures", {})
    with FakeTensorMode():
        assert unmet(torch.empty(1, 1, 4, 8)) != []
        assert availability._failures == {}
