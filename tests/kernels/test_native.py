"""The compiled sums: as exact as the operations they replace, harmless where they cannot run."""

import sys
from pathlib import Path

import pytest
import torch

from syncattn._masks import Visibility
from syncattn.kernels import compiled as passes
from syncattn.kernels.compiled import fuse
from syncattn.kernels.native import Kind, fits, pair_gradients, pair_sums
from syncattn.kernels.selective_synchronization import selective_synchronization
from tests.kernels.test_selective_synchronization import operands, oracle, results, visibility_of
from tests.tolerance import assert_as_exact, error


def run(tensors, visibility, method, **rules):
    return results(
        lambda *x: selective_synchronization(*x, visibility=visibility, method=method, **rules),
        tensors,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mask", ["none", "causal", "key_mask", "segment", "exclude_self"])
@pytest.mark.parametrize("method", ["blockwise", "window", "pruned", "repeats"])
@pytest.mark.parametrize(("length", "dim"), [(131, 24), (90, 64)])
def test_errs_no_more_than_the_dense_form(compiled, method, mask, smoothing, length, dim):
    if method == "repeats" and mask not in {"none", "key_mask"}:
        pytest.skip("repeats takes no such mask, by design")
    tensors = operands(length, length, dim, torch.float32, spread=1.2 / dim**0.5)
    visibility = visibility_of(mask, length, length)
    rules = {"self_pairs": True, "smoothing": smoothing}
    exact = results(
        lambda *x: oracle(*x, visibility, **rules),
        [x.detach().double().requires_grad_() for x in tensors],
    )
    assert fits(tensors[0], tensors[2], visibility)
    fast = run(tensors, visibility, method, **rules)
    dense = results(lambda *x: oracle(*x, visibility, **rules), tensors)
    fuse(False)
    eager = run(tensors, visibility, method, **rules)
    for number, (got, true, *plain) in enumerate(zip(fast, exact, dense, eager, strict=True)):
        # In many dimensions the operations replaced are products, which round more than the
        # differences of the dense form do.
        worst = max(plain, key=lambda x: error(x, true))
        # One running sum of 64 products rounds more than the several of a library's product.
        looser = 1.5 if dim > 32 else 1.0
        assert_as_exact(got, true, worst, factor=looser * (2.0 if number < 2 else 3.0))


def strength_of(kind, row, column, threshold):
    """The formulas, pair by pair, in the dtype that comes."""
    if kind.name == "distance":
        x = (row[:, :, None] - column[:, None]).square().sum(-1)
        if kind.join_self:
            x = torch.where(torch.eye(*x.shape[1:]).bool(), 0.0, x)
        q = torch.exp(-x) - threshold[..., None] * x
        if kind.smoothing == 0:
            # The root's slope outside the support is 0 times infinity.
            return torch.where(q > 0, torch.where(q > 0, q, 1.0).sqrt(), 0.0)
        d, q = kind.smoothing, q.clamp(min=0)
        return ((q + d * d).sqrt() - d) / ((1 + d * d) ** 0.5 - d)
    x = kind.scale * row @ column.mT
    named = {
        "softplus": torch.nn.functional.softplus,
        "relu": lambda x: x.relu() + 1e-3,
        "elu": lambda x: torch.nn.functional.elu(x) + 1,
        "readout": lambda x: (1 + x).relu() ** kind.power,
        "exponential": torch.exp,
    }
    return named[kind.name](x)


KINDS = [
    Kind("distance"),
    Kind("distance", smoothing=0.1, join_self=True),
    Kind("softplus", scale=0.7),
    Kind("relu", scale=-1.3),
    Kind("elu", scale=2.0),
    *(Kind("readout", scale=0.8, power=p) for p in (1, 2, 4)),
    Kind("exponential", scale=0.3),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: f"{k.name}-{k.power}-{k.smoothing}")
@pytest.mark.parametrize("mask", ["none", "causal", "packed"])
@pytest.mark.parametrize(("groups", "length", "dim", "width"), [(1, 150, 5, 3), (9, 21, 33, 70)])
def test_every_kind_is_its_formula(compiled, kind, mask, groups, length, dim, width):
    generator = torch.Generator().manual_seed(dim)
    row, column = (0.4 * torch.randn(groups, length, dim, generator=generator) for _ in "ab")
    if kind.join_self:
        column = row.clone()
    value = torch.randn(groups, length, width, generator=generator)
    threshold = torch.rand(groups, length, generator=generator)
    count = torch.randint(0, 3, (groups, length), generator=generator).float()
    weight = torch.randn(groups, length, width + 1, generator=generator)
    segment = torch.arange(length) // 13 if mask == "packed" else None
    visibility = Visibility(length, length, mask == "causal", segment=segment)

    def plain(dtype):
        tensors = [x.to(dtype).requires_grad_() for x in (row, threshold, column, value)]
        strength = strength_of(kind, tensors[0], tensors[2], tensors[1])
        seen = visibility.dense(torch.device("cpu"))
        strength = strength if seen is None else torch.where(seen[0], strength, 0.0)
        sums, total = strength @ tensors[3], (strength * count.to(dtype)[:, None]).sum(-1)
        joined = torch.cat([sums, total[..., None]], -1)
        known = torch.autograd.grad(joined, tensors, weight.to(dtype), allow_unused=True)
        return [sums.detach(), total.detach(), *known]

    given = (kind, visibility)
    options = {"threshold": threshold, "count": count}
    got = [
        *pair_sums(row, column, value, *given, **options),
        *pair_gradients(
            row, column, value, weight, *given, **options, thresholds=kind.name == "distance"
        ),
    ]
    for fast, eager, true in zip(got, plain(torch.float32), plain(torch.float64), strict=True):
        if true is None:
            assert fast is None
            continue
        # Near the edge of locking the root turns rounding into 3e-4, wherever it falls.
        close = 3e-3 if kind.name == "distance" else 0.0
        scale = true.abs().max() + 1
        error = (fast - true).abs().max() / scale
        assert error <= 3 * (eager - true).abs().max() / scale + 2e-6 + close


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_splits_change_nothing_but_rounding(compiled, threads):
    generator = torch.Generator().manual_seed(3)
    row, column, value = (torch.randn(1, 400, 6, generator=generator) for _ in "abc")
    weight = torch.randn(1, 400, 7, generator=generator)
    visibility, kind = Visibility(400, 400, True), Kind("softplus")
    exact = pair_gradients(row, column, value, weight, kind, visibility)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        again = pair_gradients(row, column, value, weight, kind, visibility)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(exact, again, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, rtol=1e-4, atol=1e-3)


def test_off_by_default_and_for_other_dtypes(compiled):
    single, everyone = torch.zeros(1, 1, 1), Visibility(1, 1)
    assert fits(single, single, everyone)
    assert not fits(single.double(), single.double(), everyone)
    assert not fits(single, single, everyone._replace(attn_mask=torch.ones(1, 1, 1, 1).bool()))
    fuse(False)
    assert not fits(single, single, everyone)


def test_the_choice_of_the_strongest_stays_eager(compiled):
    tensors = operands(70, 70, dtype=torch.float32)
    visibility = visibility_of("none", 70, 70)
    fast = run(tensors, visibility, "blockwise", top_k=3)
    fuse(False)
    for a, b in zip(fast, run(tensors, visibility, "blockwise", top_k=3), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("command", ["missing-compiler-name", "false"])
def test_without_a_compiler_it_warns_and_stays_off(monkeypatch, command):
    monkeypatch.setattr(passes, "_library", None)
    which = passes.shutil.which
    monkeypatch.setenv("CC", command)
    monkeypatch.setattr(
        passes.shutil, "which", lambda name: which(name) if name == command else None
    )
    with pytest.warns(RuntimeWarning, match="`fuse` must find a C compiler"):
        assert not fuse()
    assert not fits(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), Visibility(1, 1))


def test_a_library_that_cannot_be_deleted_is_no_failure(monkeypatch, tmp_path):
    # On Windows a loaded library is in use; compiling and loading are as good as done here.
    def make(command, **rules):
        Path(command[command.index("-o") + 1]).touch()

    def keep(path, *rules, **places):
        if str(path).endswith(".so"):
            raise OSError("in use")
        unlink(path, *rules, **places)

    unlink, loaded = passes.os.unlink, passes.ctypes.pythonapi
    monkeypatch.setenv("CC", sys.executable)
    monkeypatch.setattr(passes.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(passes.subprocess, "run", make)
    monkeypatch.setattr(passes.ctypes, "CDLL", lambda path: loaded)
    monkeypatch.setattr(passes.os, "unlink", keep)
    assert passes._build() is loaded
    assert list(tmp_path.rglob("*.so"))


def test_another_dtype_is_refused_before_it_is_read(compiled):
    row = torch.zeros(1, 3, 2)
    kind, everyone = Kind("softplus"), Visibility(3, 3)
    for name, wrong in (("row", row.bfloat16()), ("column", row.double()), ("value", row.half())):
        operands = {"row": row, "column": row, "value": row} | {name: wrong}
        with pytest.raises(TypeError, match=rf"`{name}` must be of torch\.float32 on the CPU"):
            pair_sums(**operands, kind=kind, visibility=everyone)
    for name in ("threshold", "count"):
        with pytest.raises(TypeError, match=rf"`{name}` must be of torch\.float32 on the CPU"):
            pair_sums(row, row, row, kind, everyone, **{name: torch.ones(1, 3).double()})
    weight = torch.zeros(1, 3, 3, dtype=torch.bfloat16)
    with pytest.raises(TypeError, match=r"`weight` must be of torch\.float32 on the CPU"):
        pair_gradients(row, row, row, weight, kind, everyone)
