"""Softmax by bare exponentials: as exact as SDPA where scores are bounded, never used elsewhere."""

import math

import pytest
import torch

from syncattn import functional
from syncattn._masks import Visibility
from syncattn.kernels import bounded_softmax, fuse, phase_passes
from syncattn.kernels.bounded_softmax import LARGEST, attend_bounded, is_bounded, pays
from syncattn.kernels.scaled_dot_product import SHORT, attend
from tests.conformance import SCENES
from tests.tolerance import assert_as_exact


def results(call, tensors, dtype, **rules):
    leaves = [x.to(dtype).requires_grad_() for x in tensors]
    out = call(*leaves, **rules)
    return [out.detach(), *torch.autograd.grad(out.sin().sum(), leaves)]


@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize(("dim", "value_dim"), [(3, 3), (16, 40), (70, 5)])
@pytest.mark.parametrize(
    "scene", [scene for scene in SCENES if scene.allowed is None], ids=lambda scene: scene.name
)
def test_errs_no_more_than_sdpa(compiled, scene, dim, value_dim, exclude_self):
    generator = torch.Generator().manual_seed(dim)
    sizes = ((scene.queries, dim), (scene.keys, dim), (scene.keys, value_dim))
    tensors = [torch.randn(scene.batch, 2, *size, generator=generator) for size in sizes]
    segment = None
    if scene.lengths is not None:
        segment = torch.arange(len(scene.lengths)).repeat_interleave(torch.tensor(scene.lengths))
    visibility = Visibility(
        scene.queries, scene.keys, scene.is_causal, scene.real, segment, None, exclude_self
    )
    rules = {"scale": dim**-0.5, "visibility": visibility}
    if min(x.numel() for x in tensors) == 0:
        assert not is_bounded(*tensors, **rules)
        return
    assert is_bounded(*tensors, **rules)
    fast = results(attend_bounded, tensors, torch.float32, **rules)
    exact = results(attend, tensors, torch.float64, **rules)
    plain = results(attend, tensors, torch.float32, **rules)
    for number, (got, true, other) in enumerate(zip(fast, exact, plain, strict=True)):
        assert_as_exact(got, true, other, factor=3.0 if number else 2.0)


@pytest.mark.parametrize("size", [0.5, 0.999])
def test_scores_up_to_the_bound_keep_their_digits(compiled, size):
    # Both ends of the range in one row: e**60 beside e**-60.
    query = torch.full((1, 1, 4, 1), math.sqrt(LARGEST * size))
    key = query * torch.tensor([1.0, -1.0, 0.9, 1.0])[:, None]
    value = torch.randn(1, 1, 4, 3)
    rules = {"scale": 1.0, "visibility": Visibility(4, 4)}
    assert is_bounded(query, key, value, **rules)
    fast = results(attend_bounded, (query, key, value), torch.float32, **rules)
    exact = results(attend, (query, key, value), torch.float64, **rules)
    for got, true in zip(fast, exact, strict=True):
        # A score of 60 is rounded by 4e-6, and its weight with it, in every form.
        torch.testing.assert_close(got, true.float(), rtol=1e-4, atol=1e-4)


def test_larger_scores_odd_dtypes_and_nan_are_not_bounded(compiled):
    small = torch.ones(1, 1, 5, 4)
    rules = {"scale": 1.0, "visibility": Visibility(5, 5)}
    assert is_bounded(small, small, small, **rules)
    assert not is_bounded(small, (LARGEST / 4 + 1) * small, small, **rules)
    assert not is_bounded(small, torch.nan * small, small, **rules)
    assert not is_bounded(*(3 * [small.double()]), **rules)
    assert not is_bounded(small, small, small, scale=-LARGEST, visibility=Visibility(5, 5))
    fuse(False)
    assert not is_bounded(small, small, small, **rules)


def test_pays_where_sdpa_pads_or_holds_a_mask():
    long, short = (Visibility(n, n, True) for n in (SHORT + 1, SHORT))
    assert pays(4, 8, long, recorded=True)
    assert not pays(4, 8, short, recorded=False)
    assert pays(4, 4, long, recorded=False) and not pays(4, 4, long, recorded=True)
    assert not pays(4, 4, Visibility(9, 9), recorded=False)
    assert pays(4, 4, short._replace(exclude_self=True), recorded=True)


@pytest.mark.parametrize("gate", [0.3, 40.0])
def test_the_torus_operators_take_the_sums_where_the_gates_allow(compiled, monkeypatch, gate):
    used = []
    monkeypatch.setattr(
        phase_passes,
        "attend_bounded",
        lambda *x, **y: (used.append(1), attend_bounded(*x, **y))[1],
    )
    phase = torch.randn(2, 2, 30, 4)
    key_mask = torch.ones(2, 30, dtype=torch.bool)
    key_mask[0, :7] = False
    gates = gate * torch.rand(2, 2, 30, 4)
    rules = {"is_causal": True, "key_mask": key_mask}
    fast = functional.kuramoto_attention(phase, phase, gates, gates, **rules)
    assert used == ([1] if gate < 1 else [])
    fuse(False)
    plain = functional.kuramoto_attention(phase, phase, gates, gates, **rules)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


def test_the_bound_leaves_room_in_float32():
    most = math.exp(bounded_softmax.LARGEST)
    # Of 2**20 keys, times values of a thousand, and the square of the inverse in the gradient.
    assert most * 2**20 * 1e3 < torch.finfo(torch.float32).max
    assert 1 / most > torch.finfo(torch.float32).tiny
