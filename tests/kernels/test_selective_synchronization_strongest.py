"""`top_k` in every method that has it, against a dense oracle that sorts whole rows."""

import pytest
import torch

from syncattn._masks import Visibility
from syncattn.kernels.selective_synchronization import selective_synchronization
from syncattn.kernels.selective_synchronization_strongest import keep_strongest
from tests.kernels.test_selective_synchronization import (
    MASKS,
    assert_near,
    operands,
    results,
    visibility_of,
)

METHODS = ("blockwise", "window", "pruned")


def oracle(query, key, value, g, visibility, top_k, *, self_pairs=False, smoothing=0.0):
    x = (query[..., :, None, :] - key[..., None, :, :]).square().sum(-1)
    rows, columns = x.shape[-2:]
    if self_pairs:
        own = torch.arange(rows)[:, None] + columns - rows == torch.arange(columns)
        x = torch.where(own, torch.zeros_like(x), x)
    q = torch.exp(-x) - g[..., None] * x
    mask = visibility.dense(query.device)
    on = q > 0 if mask is None else (q > 0) & mask
    safe = torch.where(on, q, torch.ones_like(q))
    if smoothing:
        unit = (1 + smoothing**2) ** 0.5 - smoothing
        strength = ((safe + smoothing**2).sqrt() - smoothing) / unit
    else:
        strength = safe.sqrt()
        line = strength.detach() + (safe - safe.detach()) / 2e-3
        strength = torch.where(strength > 1e-3, strength, line)
    strength = torch.where(on, strength, torch.zeros_like(strength))
    # By counting who comes before, not by sorting.
    level = strength.detach()
    better = level[..., None, :] > level[..., :, None]
    place = torch.arange(columns)
    earlier = (level[..., None, :] == level[..., :, None]) & (place < place[:, None])
    strength = torch.where((better | earlier).sum(-1) < top_k, strength, 0.0)
    total = strength.sum(-1)
    return strength @ value / torch.where(total == 0, 1.0, total)[..., None], total


def check(method, tensors, visibility, top_k, tolerance=1e-10, **rules):
    actual = results(
        lambda *x: selective_synchronization(
            *x, visibility=visibility, method=method, top_k=top_k, **rules
        ),
        tensors,
    )
    expected = results(lambda *x: oracle(*x, visibility, top_k, **rules), tensors)
    assert_near(actual, expected, tolerance)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("top_k", [1, 5])
def test_masks_come_before_the_choice(method, mask, top_k):
    tensors = operands(70, 90)
    check(method, tensors, visibility_of(mask, 70, 90), top_k, self_pairs=True)


@pytest.mark.parametrize("mask", ["none", "combined"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dim", [1, 6, 20])
def test_dimensions_and_smoothing(method, mask, dim):
    tensors = operands(80, 80, dim, spread=0.8 / dim**0.5)
    check(method, tensors, visibility_of(mask, 80, 80), 7, smoothing=0.1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mask", ["none", "causal", "key_mask"])
@pytest.mark.parametrize("dim", [3, 24])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_ties_of_repeated_tokens_go_to_the_earlier_key(method, mask, dim, precision):
    generator = torch.Generator().manual_seed(4)
    table = torch.randn(2, 2, 9, dim, generator=generator, dtype=torch.float64) / dim
    token = torch.randint(9, (100,), generator=generator)
    points = table[:, :, token].to(precision).requires_grad_()
    _, _, value, g = operands(100, 100, dtype=precision)
    visibility = visibility_of(mask, 100, 100)
    for top_k in (1, 4, 30):
        tolerance = 1e-10 if precision == torch.float64 else 1e-4
        output = selective_synchronization(
            points, points, value, g, visibility=visibility, method=method, top_k=top_k
        )
        exact = [x.detach().double() for x in (points, points, value, g)]
        assert_near([x.double() for x in output], oracle(*exact, visibility, top_k), tolerance)
    if precision == torch.float64:
        other = points.detach().clone().requires_grad_()
        check(method, [points, other, value, g], visibility, 4)


@pytest.mark.parametrize("method", METHODS)
def test_more_than_all_is_all(method):
    tensors = operands(40, 50)
    visibility = Visibility(40, 50)

    def run(top_k):
        return results(
            lambda *x: selective_synchronization(
                *x, visibility=visibility, method=method, top_k=top_k
            ),
            tensors,
        )

    assert_near(run(1000), run(None), 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_long_rows_are_whole(method):
    tensors = operands(600, 600, 2, batch=1, heads=1)
    check(method, tensors, visibility_of("causal", 600, 600, 1, 1), 9, self_pairs=True)


@pytest.mark.parametrize("method", METHODS)
def test_gradcheck(method):
    tensors = operands(3, 5, batch=1, heads=1, spread=0.4)
    visibility = Visibility(3, 5)
    assert torch.autograd.gradcheck(
        lambda *x: selective_synchronization(
            *x, visibility=visibility, method=method, top_k=2, smoothing=0.1
        ),
        tensors,
    )


@pytest.mark.parametrize(
    "arguments", [{"method": "repeats"}, {"multiplicity": torch.ones(2, 2, 4)}]
)
def test_keys_that_stand_for_several_are_refused(arguments):
    with pytest.raises(ValueError, match="`top_k` must count single keys"):
        selective_synchronization(
            *operands(4, 4), visibility=Visibility(4, 4), top_k=1, **arguments
        )


def test_the_strongest_stay_where_they_are():
    rows = torch.tensor([[[0.5, 1.0, 0.5, 0.5, 0.0], [0.0, 0.2, 0.0, 0.0, 0.0]]])
    keep_strongest(rows, torch.tensor([[4, 3, 2, 0, 1]]), 3)
    assert rows.tolist() == [[[0.0, 1.0, 0.5, 0.5, 0.0], [0.0, torch.tensor(0.2).item(), 0, 0, 0]]]
