"""Compression: classes, their sums and their own keys."""

import torch

from syncattn.kernels.selective_synchronization_engine import Side
from syncattn.kernels.selective_synchronization_repeats import compress


def test_classes_stand_for_their_members():
    table = torch.tensor([[0.0], [1.0], [2.0]])
    token = torch.tensor([0, 1, 0, 2, 0])
    points = table[token][None]
    value = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])[None, :, None]
    weighted = torch.cat([value, torch.ones_like(value)], -1)
    found = compress(Side(points, torch.ones(1, 5), points, weighted))
    assert found.short.key.shape == (1, 3, 1)
    sums = {
        key.item(): row.tolist()
        for key, row in zip(found.short.key[0], found.short.value[0], strict=True)
    }
    assert sums == {0.0: [21.0, 3.0], 1.0: [2.0, 1.0], 2.0: [8.0, 1.0]}
    assert torch.equal(found.short.query[0, found.queries[0]], points[0])
    assert torch.equal(found.own, found.keys)


def test_equal_queries_of_different_thresholds_stay_apart():
    points = torch.zeros(1, 3, 2)
    thresholds = torch.tensor([[1.0, 2.0, 1.0]])
    found = compress(Side(points, thresholds, points, torch.ones(1, 3, 2)))
    assert found.short.query.shape[1] == 2
    assert found.short.key.shape[1] == 1


def test_queries_before_the_first_key_have_no_own_key():
    found = compress(
        Side(torch.randn(1, 4, 2), torch.ones(1, 4), torch.randn(1, 3, 2), torch.ones(1, 3, 2))
    )
    assert found.own[0].tolist() == [-1, *found.keys[0].tolist()]
