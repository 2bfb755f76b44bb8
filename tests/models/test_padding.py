import pytest
import torch

from syncattn.models.padding import (
    moved_to_the_left,
    ready_to_generate,
    require_one_side,
    visible_keys,
)


def test_only_the_new_tokens_are_told_apart():
    x = torch.zeros(2, 3, 4)
    assert visible_keys(None, x, 5) is None
    assert visible_keys(torch.ones(2, 8), x, 5) is None
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[0, :6] = 0
    assert visible_keys(mask, x, 5).tolist() == [[False, True, True], [True, True, True]]
    mask[0, 5] = 1
    assert visible_keys(mask, x, 5) is None
    with pytest.raises(ValueError, match=r"\(2, 8\), of which 5 are in the cache; got \(2, 3\)"):
        visible_keys(torch.ones(2, 3), x, 5)


@pytest.mark.parametrize("wrong", [-1e9, -1.0, 0.5, 2.0, float("nan")])
def test_a_mask_that_is_added_to_scores_is_refused(wrong):
    mask = torch.tensor([[0.0, wrong], [0.0, 0.0]])
    with pytest.raises(ValueError, match="`attention_mask` must hold 0 and 1 alone; got numbers"):
        visible_keys(mask, torch.zeros(2, 2, 4), 0)


def test_padding_may_be_on_one_side():
    left, right = torch.ones(2, 2, 5).bool()
    left[0, :2] = right[1, 3:] = False
    hole = torch.tensor([[1, 0, 1], [1, 1, 1]]).bool()
    nothing = torch.tensor([[0, 0, 0], [1, 1, 0]]).bool()
    for mask in (left, right, hole, nothing):
        require_one_side(mask)
    with pytest.raises(ValueError, match="padding on one side of the batch"):
        require_one_side(left & right)


def test_padding_moves_to_the_left_and_tokens_keep_their_order():
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0]])
    moved, mask = moved_to_the_left(ids, (ids > 0).long())
    assert moved.tolist() == [[1, 2, 3, 4], [0, 0, 5, 6], [0, 0, 0, 7]]
    assert mask.tolist() == (moved > 0).long().tolist()
    again, _ = moved_to_the_left(moved, mask)
    assert again is moved


def test_embeddings_move_with_the_tokens_that_tell_their_padding():
    ids = torch.tensor([[1, 2, 3], [5, 0, 0]])
    embedded = ids[..., None] * torch.ones(4)
    for prompts in (
        {"inputs": ids, "inputs_embeds": embedded},
        {"inputs_embeds": embedded, "inputs": ids},
    ):
        ready = ready_to_generate(prompts, {"pad_token_id": 0, "eos_token_id": 9}, None, limit=8)
        assert ready["inputs"].tolist() == [[1, 2, 3], [0, 0, 5]]
        assert torch.equal(ready["inputs_embeds"][..., 0].long(), ready["inputs"])
        assert ready["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_mask_that_is_a_list_is_refused():
    options = {"attention_mask": [[1, 1]]}
    with pytest.raises(TypeError, match="`attention_mask` must be of Tensor; got list"):
        ready_to_generate({"inputs": torch.ones(1, 2).long()}, options, None, limit=8)
