"""The compiled loop: as exact as the operations it replaces, and harmless where it cannot run."""

import pytest
import torch

from syncattn.kernels import selective_synchronization_fused as fused_module
from syncattn.kernels.selective_synchronization import selective_synchronization
from syncattn.kernels.selective_synchronization_fused import fuse, fused
from tests.kernels.test_selective_synchronization import operands, oracle, results, visibility_of
from tests.tolerance import assert_as_exact


@pytest.fixture
def compiled():
    if fused_module.shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    assert fuse()
    yield
    assert not fuse(False)


def run(tensors, visibility, method, **rules):
    return results(
        lambda *x: selective_synchronization(*x, visibility=visibility, method=method, **rules),
        tensors,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mask", ["none", "causal", "combined"])
@pytest.mark.parametrize("method", ["blockwise", "window", "pruned", "repeats"])
@pytest.mark.parametrize(("length", "dim"), [(1, 2), (100, 3), (131, 40)])
def test_errs_no_more_than_the_dense_form(compiled, method, mask, smoothing, length, dim):
    if method == "repeats" and mask != "none":
        pytest.skip("repeats takes no such mask, by design")
    tensors = operands(length, length, dim, torch.float32, spread=1.2 / dim**0.5)
    visibility = visibility_of(mask, length, length)
    rules = {"self_pairs": True, "smoothing": smoothing}
    exact = results(
        lambda *x: oracle(*x, visibility, **rules),
        [x.detach().double().requires_grad_() for x in tensors],
    )
    assert fused(tensors[0])
    fast = run(tensors, visibility, method, **rules)
    fuse(False)
    plain = run(tensors, visibility, method, **rules)
    # Half the inputs of the loop are results of products: the same in both.
    for number, (got, eager, true) in enumerate(zip(fast, plain, exact, strict=True)):
        assert_as_exact(got, true, eager, factor=2.0 if number < 2 else 3.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loop_is_the_formula(compiled, smoothing):
    y = -torch.cat([torch.zeros(1), torch.logspace(-12, 3, 900)]).expand(1, 4, -1).contiguous()
    y[:, 3] += 1e-6
    g = torch.tensor([[0.0, 0.2, 3.0, 0.2]])
    strength, x = torch.empty_like(y), y.double().clamp(max=0)
    fused_module.strengthen(y, g, strength, smoothing)
    q = (x.exp() + g.double()[..., None] * x).clamp(min=0)
    d = smoothing
    unit = (1 + d * d) ** 0.5 - d
    exact = ((q + d * d).sqrt() - d) / unit
    # Near the edge the root turns an error of 1e-7 in q into one of 3e-4.
    assert ((strength - exact).abs() * (exact + 1e-3)).max() < 1e-6
    assert (strength[(q == 0)] == 0).all() or smoothing == 0
    assert (strength[:, :3, 0] == 1).all()


def test_off_by_default_and_for_other_dtypes(compiled):
    assert fused(torch.zeros(1))
    assert not fused(torch.zeros(1, dtype=torch.float64))
    fuse(False)
    assert not fused(torch.zeros(1))


def test_the_choice_of_the_strongest_stays_eager(compiled):
    tensors = operands(70, 70, dtype=torch.float32)
    visibility = visibility_of("none", 70, 70)
    fast = run(tensors, visibility, "blockwise", top_k=3)
    fuse(False)
    for a, b in zip(fast, run(tensors, visibility, "blockwise", top_k=3), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("command", ["missing-compiler-name", "false"])
def test_without_a_compiler_it_warns_and_stays_off(monkeypatch, command):
    monkeypatch.setattr(fused_module, "_library", None)
    which = fused_module.shutil.which
    monkeypatch.setenv("CC", command)
    monkeypatch.setattr(
        fused_module.shutil, "which", lambda name: which(name) if name == command else None
    )
    with pytest.warns(RuntimeWarning, match="`fuse` must find a C compiler"):
        assert not fuse()
    assert not fused(torch.zeros(1))
