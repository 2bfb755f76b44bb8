"""Appending never changes a past, whoever shares its room."""

import pytest
import torch

from syncattn.kernels.growth import appended


def tokens(first, count):
    return torch.arange(first, first + count, dtype=torch.float32)[None, :, None].repeat(2, 1, 3)


@pytest.mark.parametrize("steps", [[1] * 100, [70, 1, 70], [1, 200, 3]])
@torch.no_grad()
def test_is_a_concatenation(steps):
    past, start = tokens(0, 5), 5
    for size in steps:
        before, copy = past, past.clone()
        past = appended(past, tokens(start, size))
        start += size
        assert torch.equal(before, copy)
        assert torch.equal(past, tokens(0, start))


@torch.no_grad()
def test_room_is_used_once_and_branches_are_copied():
    stem = appended(tokens(0, 5), tokens(5, 1))
    first = appended(stem, tokens(6, 1))
    second = appended(stem, tokens(90, 2))
    assert first.data_ptr() == stem.data_ptr() != second.data_ptr()
    assert torch.equal(first, tokens(0, 7))
    assert torch.equal(second, torch.cat([tokens(0, 6), tokens(90, 2)], -2))
    # A past that was cut goes on in a room of its own.
    cut = appended(first[:, :4], tokens(4, 1))
    assert torch.equal(cut, tokens(0, 5))
    assert torch.equal(first, tokens(0, 7))


def test_gradients_flow_through_what_was_appended():
    past, new = tokens(0, 3).requires_grad_(), tokens(3, 2).requires_grad_()
    whole = appended(appended(past, new), new)
    whole.square().sum().backward()
    assert torch.equal(past.grad, 2 * past)
    assert torch.equal(new.grad, 4 * new)


def test_what_others_keep_for_their_gradients_stays():
    # Nothing that is appended needs a gradient, but the product keeps it for the one that does.
    learned = torch.ones(2, 1, 3, requires_grad=True)
    past, total = appended(tokens(0, 3), tokens(3, 1)), 0.0
    for place in range(4, 7):
        total = total + (learned @ past.mT).sum()
        past = appended(past, tokens(place, 1))
    total.backward()
    assert learned.grad.isfinite().all()


@pytest.mark.parametrize("inference_first", [True, False])
def test_inference_may_begin_and_end_anywhere(inference_first):
    modes = [torch.inference_mode, torch.no_grad]
    past, place = tokens(0, 3), 3
    for mode in modes if inference_first else reversed(modes):
        with mode():
            for _ in range(2):
                past = appended(past, tokens(place, 1))
                place += 1
    assert torch.equal(past, tokens(0, 7))


@pytest.mark.parametrize("past", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_dtypes_are_promoted_as_in_a_concatenation(past):
    old, new = tokens(0, 3).to(past), tokens(3, 1)
    whole = appended(old, new)
    assert whole.dtype == torch.promote_types(past, torch.float32)
    assert torch.equal(whole, torch.cat([old, new], -2))
