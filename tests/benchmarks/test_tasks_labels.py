import pytest
import torch

from syncattn.benchmarks.tasks import task_named
from syncattn.benchmarks.tasks_labels import BalancedScores
from tests.benchmarks.benchmark_small import Oracle, problem


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


def test_keywords_that_choose_a_rate_have_all_classes():
    keywords = problem("keywords")
    labels = torch.cat([batch.target for batch in keywords.batches("valid", 8)])
    assert labels.bincount(minlength=10).tolist() == [4] * 10
    assert sum(len(batch.target) for batch in keywords.batches("test", 8)) == 80


def test_scores_of_natural_agreement_tell_labels_apart():
    natural = problem("agreement-natural")
    always_plural = Oracle(lambda batch: torch.ones_like(batch.target), 2)
    scores = natural.score(always_plural, "test", batch_size=64)
    labels, group = natural.data.test.label, natural.data.test.group
    assert scores.value("accuracy") == pytest.approx(labels.double().mean().item())
    assert list(scores.count) == list(scores.by_group()) == ["0", "1", "2", "3"]
    details = scores.details()
    assert details["balanced_accuracy"] == dict.fromkeys("0123", 0.5)
    for k in range(4):
        plural = labels[group == k].double().mean().item()
        assert details["majority_share"][str(k)] == pytest.approx(max(plural, 1 - plural))


def test_a_label_that_is_absent_leaves_no_mean_of_both():
    scores = BalancedScores(labels={"5": [(0, 0), (3, 4)]})
    assert scores.details() == {"balanced_accuracy": {"5": None}, "majority_share": {"5": 1.0}}
