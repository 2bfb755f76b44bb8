import pytest
import torch

from syncattn._masks import Visibility, segments
from tests.conformance import SCENES


def visibility(scene, exclude_self):
    named = scene.visibility()
    ends = named.get("cu_seqlens")
    return Visibility(
        scene.queries, scene.keys, scene.is_causal, scene.real,
        None if ends is None else segments(ends, scene.keys), scene.allowed, exclude_self,
    )  # fmt: skip


@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_the_dense_mask_is_built_as_the_words_say(scene, exclude_self):
    seen, expected = visibility(scene, exclude_self), scene.mask(exclude_self=exclude_self)
    dense = seen.dense(torch.device("cpu"))
    if dense is None:
        assert seen.everything
        assert expected.all()
    else:
        assert not seen.everything
        assert dense.dim() == 4
        assert torch.equal(dense.expand_as(expected), expected)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_tile_is_a_part_of_the_dense_mask(scene):
    seen, whole = visibility(scene, False), scene.mask()
    queries, keys = torch.randperm(scene.queries)[:3], torch.randperm(scene.keys)[:4]
    for batch in (None, slice(0, 1)):
        for heads in (None, slice(1, 2)):
            tile = seen.tile(queries, keys, batch, heads)
            expected = whole[batch or slice(None), heads or slice(None)][:, :, queries][..., keys]
            if tile is None:
                assert expected.all()
            else:
                assert torch.equal(tile.expand_as(expected), expected)


def test_segments_count_tokens_and_skip_empty_sequences():
    found = segments(torch.tensor([0, 2, 2, 5]), 5)
    assert found[:2].unique().numel() == found[2:].unique().numel() == 1
    assert found[0] != found[2]


def test_the_first_query_sits_at_the_offset():
    assert Visibility(2, 6).offset == 4
    assert Visibility(2, 6).everything
    assert not Visibility(2, 6, exclude_self=True).everything
