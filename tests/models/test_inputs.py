import pytest
import torch

from syncattn.models.inputs import loss_of_sequences, require_labels, require_stream, require_tokens

LOGITS = torch.zeros(2, 3, 5)
RIGHT = torch.tensor([[0, 1, 4], [2, 3, 0]])


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
def test_right_ones_pass(kind):
    require_tokens(RIGHT.to(kind), 5)
    require_tokens(torch.zeros(2, 0, dtype=kind), 5)
    require_labels(RIGHT.to(kind), LOGITS)
    require_labels(torch.tensor([[0, -100, 4], [-100, 3, 0]]), LOGITS)
    require_stream(torch.zeros(2, 3, 8), 8)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([[0, 1]], "must be a tensor of integers"),
        (RIGHT.float(), "must be a tensor of integers"),
        (RIGHT[0], r"must have the axes \(batch, length\)"),
        (RIGHT + 1, "below `vocab_size`, 5; got 1 to 5"),
        (RIGHT - 1, "at least 0 and below `vocab_size`, 5; got -1 to 3"),
    ],
)
def test_what_is_no_token_is_refused(ids, said):
    with pytest.raises((TypeError, ValueError), match=f"`input_ids` .*{said}"):
        require_tokens(ids, 5)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (RIGHT.float(), "must be a tensor of integers"),
        (RIGHT[:, 1:], r"one number per place with logits, \(2, 3\); got shape \(2, 2\)"),
        (RIGHT.to("meta"), "must hold values"),
        (RIGHT + 1, "below `vocab_size`, 5; got 1 to 5"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, said):
    with pytest.raises((TypeError, ValueError), match=f"`labels` .*{said}"):
        require_labels(labels, LOGITS)


@pytest.mark.parametrize("stream", [torch.zeros(2, 3, 7), torch.zeros(3, 8), RIGHT, None])
def test_what_is_no_stream_is_refused(stream):
    with pytest.raises((TypeError, ValueError), match=r"`inputs_embeds` must .*; got "):
        require_stream(stream, 8)


def test_a_list_of_classes_is_refused():
    with pytest.raises(TypeError, match="`labels` must be of Tensor; got list"):
        loss_of_sequences([0, 1], torch.zeros(2, 3), None)
