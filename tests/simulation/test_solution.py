import math

import pytest
import torch

from syncattn.simulation import locked_fraction
from syncattn.simulation.solution import locked_group, sentence


@pytest.mark.parametrize(
    ("rotation", "share"),
    [
        ([1.0, 1.0, 1.0, 1.0], 1.0),
        ([0.0, 5.0, 5.001, 9.0], 0.5),
        ([0.0, 1.0, 2.0, 3.0], 0.0),
        ([math.nan, 1.0, 1.0, 1.0], 0.0),
        ([7.0], 1.0),
    ],
)
def test_the_largest_group_that_turns_together(rotation, share):
    assert locked_fraction(torch.tensor(rotation), 0.01).item() == share


def test_groups_of_a_batch():
    rotation = torch.tensor([[0.0, 1.0, 1.0], [3.0, 3.0, 3.0]])
    torch.testing.assert_close(locked_fraction(rotation, 0.01), torch.tensor([2 / 3, 1.0]))


def test_who_is_of_the_largest_group():
    rotation = torch.tensor([[5.001, 0.0, 5.0, 9.0], [0.0, 1.0, 2.0, 3.0]])
    assert locked_group(rotation, 0.01).tolist() == [[True, False, True, False], [False] * 4]


def words(**changes):
    given = {"diverged_at": None, "settled": None, "residual": torch.tensor([0.5, 0.1]),
             "tolerance": None, "time": 3.0, "step": 0.1}  # fmt: skip
    return sentence(**(given | changes))


def test_every_ending_has_its_sentence_and_remedy():
    assert words() == "Finished at time 3."
    assert "lower `step`, which was 0.1" in words(diverged_at=2.0)
    both = torch.tensor([True, True])
    assert words(settled=both, tolerance=1.0).startswith("Settled at time 3")
    one = words(settled=torch.tensor([False, True]), tolerance=0.2)
    assert "largest of 2 residuals is 0.5, above `stop` = 0.2, in 1 of them" in one
    assert "lengthen `duration`" in one
