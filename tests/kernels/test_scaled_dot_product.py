import pytest
import torch

from syncattn._masks import Visibility
from syncattn.kernels import attend
from tests.conformance import SCENES
from tests.tolerance import assert_same


def dense(query, key, value, mask):
    score = (0.4 * query @ key.mT).masked_fill(~mask, -torch.inf)
    weights = score.softmax(-1)
    return torch.where(mask.any(-1, keepdim=True), weights @ value, 0.0)


@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("value_dim", [2, 4, 7])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_every_visibility_and_width(scene, value_dim, exclude_self):
    sizes = ((scene.queries, 4), (scene.keys, 4), (scene.keys, value_dim))
    tensors = [
        torch.randn(scene.batch, 2, *size, dtype=torch.float64, requires_grad=True)
        for size in sizes
    ]
    segment = None
    if scene.lengths is not None:
        segment = torch.arange(len(scene.lengths)).repeat_interleave(torch.tensor(scene.lengths))
    visibility = Visibility(
        scene.queries, scene.keys, scene.is_causal, scene.real, segment, scene.allowed, exclude_self
    )
    out = attend(*tensors, scale=0.4, visibility=visibility)
    mask = scene.mask(exclude_self=exclude_self)
    some = mask.any(-1, keepdim=True)
    expected = dense(*tensors, mask | ~some)
    expected = torch.where(some, expected, 0.0)
    assert_same(out, expected)
    ours, theirs = (torch.autograd.grad(x.square().sum(), tensors) for x in (out, expected))
    for found, wanted in zip(ours, theirs, strict=True):
        assert_same(found, wanted, 1e-11)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 5), (5, 5)])
def test_the_first_token_alone_sees_nothing_when_itself_is_hidden(queries, keys):
    tensors = [torch.randn(1, 1, n, 3, requires_grad=True) for n in (queries, keys, keys)]
    out = attend(*tensors, scale=1.0, visibility=Visibility(queries, keys, True, exclude_self=True))
    assert out.shape == (1, 1, queries, 3)
    if queries == keys:
        assert not out[:, :, 0].any()
    else:
        expected = dense(
            tensors[0], *(x[:, :, :-1] for x in tensors[1:]), torch.ones(1, keys - 1).bool()
        )
        assert expected.shape == out.shape
    assert out.isfinite().all()


def test_no_keys_give_zero():
    tensors = [torch.randn(1, 1, n, 3) for n in (4, 0, 0)]
    out = attend(*tensors, scale=1.0, visibility=Visibility(4, 0))
    assert torch.equal(out, torch.zeros(1, 1, 4, 3))
