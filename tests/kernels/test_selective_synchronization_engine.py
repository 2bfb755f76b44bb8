"""The two passes over tiles: their sums, their cut into tiles, and their memory of no pair."""

import torch

from syncattn._masks import Visibility
from syncattn.kernels.selective_synchronization_engine import Lock, Side, backward, forward
from syncattn.kernels.selective_synchronization_tiles import DenseTile, dense_tiles

SHARP = Lock(smoothing=0.0, edge_floor=1e-3, self_pairs=False)


def side():
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 10, 3), (2, 10), (2, 12, 3), (2, 12, 5)
    tensors = [torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes]
    tensors[1].abs_()
    return Side(*tensors)


def quarters():
    for rows in (slice(0, 4), slice(4, 10)):
        for columns in (slice(0, 7), slice(7, 12)):
            yield DenseTile(slice(0, 2), rows, columns, 2, False, False, None, None)


def whole():
    return dense_tiles(Visibility(10, 12), 2, 1, torch.device("cpu"))


def test_sums_are_those_of_the_formula():
    operands = side()
    x = torch.cdist(operands.query, operands.key).square()
    excess = torch.exp(-x) - operands.inverse_threshold[..., None] * x
    strength = excess.clamp(min=0).sqrt()
    sums, total = forward(operands, whole(), SHARP)
    torch.testing.assert_close(sums, strength @ operands.value[..., :-1])
    torch.testing.assert_close(total, (strength @ operands.value[..., -1:])[..., 0])


def test_the_cut_into_tiles_does_not_matter():
    operands = side()
    torch.testing.assert_close(
        forward(operands, quarters(), SHARP), forward(operands, whole(), SHARP)
    )
    weight = torch.randn(2, 10, 5, dtype=torch.float64)
    one = backward(operands, weight, quarters(), SHARP)
    two = backward(operands, weight, whole(), SHARP)
    torch.testing.assert_close(tuple(one), tuple(two))


def test_unwanted_gradients_are_none():
    weight = torch.randn(2, 10, 5, dtype=torch.float64)
    found = backward(side(), weight, whole(), SHARP, points=False, threshold=False)
    assert found.query is None
    assert found.key is None
    assert found.inverse_threshold is None
    assert found.value is not None
