"""Tiles cover every group once, and buffers are shared."""

import pytest
import torch

from syncattn._masks import Visibility
from syncattn.kernels.selective_synchronization_pairs import live_leaves
from syncattn.kernels.selective_synchronization_tiles import Workspace, dense_tiles, leaf_tiles


def test_a_buffer_is_reused_until_it_is_too_small():
    work = Workspace(torch.zeros(1, dtype=torch.float64))
    large = work.get("a", (4, 5))
    small = work.get("a", (2, 3))
    assert large.dtype == torch.float64
    assert small.data_ptr() == large.data_ptr()
    assert work.get("b", (2, 3)).data_ptr() != large.data_ptr()
    assert work.get("a", (5, 5)).shape == (5, 5)


@pytest.mark.parametrize(("batch", "heads", "length"), [(3, 5, 7), (2, 3, 300), (1, 2, 700)])
def test_dense_tiles_cover_each_group_once(batch, heads, length):
    count = torch.zeros(batch * heads, length, length)
    for tile in dense_tiles(Visibility(length, length), batch, heads, torch.device("cpu")):
        count[tile.groups, tile.queries, tile.keys] += 1
    assert (count == 1).all()


def test_short_sequences_share_a_tile():
    tiles = list(dense_tiles(Visibility(64, 64), 8, 8, torch.device("cpu")))
    assert len(tiles) == 1


def test_masks_follow_their_batch_element_and_head():
    mask = torch.rand(2, 3, 300, 300) > 0.5
    visibility = Visibility(300, 300, attn_mask=mask)
    for tile in dense_tiles(visibility, 2, 3, torch.device("cpu")):
        expected = mask.flatten(0, 1)[tile.groups, tile.queries, tile.keys]
        assert tile.mask is not None
        assert torch.equal(tile.mask, expected)


@pytest.mark.parametrize("method", ["window", "pruned"])
def test_leaf_tiles_hold_each_entry_once(method):
    points = 5 * torch.randn(4, 500, 2)
    visibility = Visibility(500, 500)
    entries = live_leaves(
        points, points, torch.ones(4, 500), visibility, method=method, coordinate=0
    )
    found = []
    for tile in leaf_tiles(entries, visibility, heads=2):
        empty = len(tile.layout.key) - 1
        for row, columns in zip(tile.leaves.tolist(), tile.key_leaves.tolist(), strict=True):
            assert columns == sorted(columns)
            found += [(row, column) for column in columns if column != empty]
    assert sorted(found) == list(zip(entries.row.tolist(), entries.column.tolist(), strict=True))
