import pytest
import torch

from syncattn.benchmarks.problems import unscored
from tests.benchmarks.benchmark_small import problem


def test_copying_asks_for_what_stands_one_period_back():
    task = problem("copy")
    batch = task.training_batch(6, seed=0, step=0)
    assert task.length == 32
    for row in range(6):
        asked = (batch.target[row] != unscored).nonzero()[:, 0]
        assert len(asked) and (asked.diff() == 1).all()
        period = 32 - 1 - len(asked)
        for t in asked.tolist():
            assert batch.target[row, t] == batch.inputs[row, t + 1 - period]


@pytest.mark.parametrize("name", ["recall", "retrieve", "copy"])
def test_distances_fall_into_groups_of_powers_of_two(name):
    task = problem(name)
    batch = task.training_batch(64, seed=0, step=0)
    asked = batch.target != unscored
    used = batch.group[asked].unique().tolist()
    assert max(used) < len(task.groups)
    assert task.groups[0] == "not there"
    assert (0 in used) == (name == "retrieve")
    assert task.groups[1:4] == ("1 to 1", "2 to 3", "4 to 7")
    assert task.ceiling == 1.0


def test_identity_of_a_generator_is_what_it_generates():
    names = [problem(name).identity for name in ("recall", "retrieve", "copy")]
    assert len({identity.sha256 for identity in names}) == 3
    assert all(identity.extent == "generated" for identity in names)
    assert "num_pairs=4" in names[0].source


def test_scored_batches_stay_the_same():
    first, again = ([b.inputs for b in problem("recall").batches("test", 9)] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
