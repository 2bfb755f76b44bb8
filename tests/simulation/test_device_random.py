import math

import pytest
import torch

from syncattn.simulation.device_random import Draws, chip_normal

CPU = torch.device("cpu")


def test_a_chip_is_the_same_chip_at_every_size():
    whole = chip_normal(3, "coupling", (4, 50, 60), device=CPU)
    assert torch.equal(whole[:2, :20, :30], chip_normal(3, "coupling", (2, 20, 30), device=CPU))
    for other in (chip_normal(4, "coupling", (4, 50, 60), device=CPU),
                  chip_normal(3, "anchor", (4, 50, 60), device=CPU)):  # fmt: skip
        assert abs(float((whole * other).mean())) < 5 / math.sqrt(whole.numel())


def test_the_numbers_are_normal_and_independent():
    x = chip_normal(0, "coupling", (8, 100, 100), device=CPU).double()
    error = 5 / math.sqrt(x.numel())
    assert abs(float(x.mean())) < error
    assert float(x.square().mean()) == pytest.approx(1, abs=2 * error)
    assert float((x**4).mean()) == pytest.approx(3, abs=15 * error)
    for neighbour in (x[1:] * x[:-1], x[:, 1:] * x[:, :-1], x[..., 1:] * x[..., :-1]):
        assert abs(float(neighbour.mean())) < error
    assert float((x.abs() > 3).double().mean()) == pytest.approx(0.0027, abs=0.001)


def test_what_is_built_stays_and_what_happens_does_not():
    chip = Draws(0, 0, True, CPU)
    assert torch.equal(chip.built("coupling", 2, (3, 4)), chip.built("coupling", 5, (3, 4)))
    assert chip.built("coupling", 2, (3, 4)).shape == (1, 3, 4)
    assert not torch.equal(chip.fresh((3,)), chip.fresh((3,)))
    fresh = Draws(0, 0, False, CPU)
    first = fresh.built("coupling", 2, (3, 4))
    assert first.shape == (2, 3, 4)
    assert not torch.equal(first, fresh.built("coupling", 2, (3, 4)))
    again = Draws(0, 0, False, CPU)
    assert torch.equal(first, again.built("coupling", 2, (3, 4)))
    other_layer = Draws(0, 1, True, CPU)
    assert not torch.equal(
        chip.built("coupling", 1, (3, 4)), other_layer.built("coupling", 1, (3, 4))
    )
