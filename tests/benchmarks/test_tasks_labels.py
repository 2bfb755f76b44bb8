import pytest

from syncattn.benchmarks.tasks import task_named
from tests.benchmarks.benchmark_small import problem


@pytest.mark.parametrize(
    ("name", "positions"),
    [("keywords", "none"), ("keywords-sinusoidal", "sinusoidal"), ("keywords-learned", "learned")],
)
def test_keywords_come_with_three_position_settings(name, positions):
    task = task_named(name)
    assert (task.positions, task.is_causal) == (positions, False)
    assert problem(name).num_labels == 10
    assert problem(name).training_batch(2, seed=0, step=0).place is None


@pytest.mark.parametrize("name", ["agreement-v1", "agreement-v2", "agreement-natural"])
def test_agreement_is_read_at_a_place(name):
    batch = problem(name).training_batch(8, seed=0, step=0)
    assert batch.place is not None and batch.mask is not None
    assert batch.inputs.shape[1] == int(batch.mask.sum(-1).max())
    assert (batch.place < batch.mask.sum(-1)).all()


def test_ceilings_and_thresholds():
    assert problem("agreement-v1").ceiling == 0.98
    assert problem("agreement-v2").ceiling == 1.0
    assert problem("agreement-natural").ceiling is None
    assert task_named("agreement-v1").failure == ("hard", 0.85)
    assert "several splits" in task_named("agreement-v1").known_flaws
    assert not task_named("agreement-v2").known_flaws
