"""Appending never changes a past, whoever shares its room."""

import pytest
import torch

from syncattn.kernels.growth import appended


def tokens(first, count):
    return torch.arange(first, first + count, dtype=torch.float32)[None, :, None].repeat(2, 1, 3)


@pytest.mark.parametrize("steps", [[1] * 100, [70, 1, 70], [1, 200, 3]])
def test_is_a_concatenation(steps):
    past, start = tokens(0, 5), 5
    for size in steps:
        before, copy = past, past.clone()
        past = appended(past, tokens(start, size))
        start += size
        assert torch.equal(before, copy)
        assert torch.equal(past, tokens(0, start))


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
