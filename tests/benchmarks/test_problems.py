import math

import pytest
import torch

from syncattn.benchmarks.problems import Batch, Scores, unscored
from tests.benchmarks.benchmark_small import Oracle, problem

TASKS = ("copy", "recall", "retrieve", "agreement-v2", "keywords", "enwik8-char", "wikitext-2")


@pytest.mark.parametrize("name", TASKS)
def test_who_knows_every_answer_is_right_everywhere(name):
    task = problem(name)
    classes = task.num_labels or task.vocabulary_size
    oracle = Oracle(lambda batch: batch.target.clamp(min=0), classes)
    scores = task.score(oracle, "test", batch_size=8)
    assert scores.value("accuracy") == 1.0
    assert scores.value("perplexity") == pytest.approx(1.0, abs=1e-3)
    assert set(scores.count) <= set(task.groups)


@pytest.mark.parametrize("name", TASKS)
def test_batches_of_training_depend_on_seed_and_step_alone(name):
    task = problem(name)
    first = task.training_batch(4, seed=0, step=2)
    torch.rand(3)
    assert torch.equal(first.inputs, task.training_batch(4, seed=0, step=2).inputs)
    assert not torch.equal(first.inputs, task.training_batch(4, seed=1, step=2).inputs)
    assert first.inputs.shape[1] <= task.length


def test_an_epoch_holds_every_example_once():
    task = problem("agreement-v2")
    seen = torch.cat([task.training_batch(40, seed=0, step=s).group for s in range(10)])
    assert torch.equal(seen.bincount(), task.data.train.group.bincount())


@pytest.mark.parametrize("name", ["copy", "recall", "retrieve"])
def test_streams_never_train_on_what_they_are_scored_on(name):
    task = problem(name)
    sets = {split: torch.cat([b.inputs for b in task.batches(split, 8)]) for split in
            ("valid", "test")}  # fmt: skip
    trained = torch.cat([task.training_batch(64, seed=0, step=s).inputs for s in range(3)])
    rows = [{tuple(r) for r in part.tolist()} for part in (*sets.values(), trained)]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]


def test_scores_count_by_group():
    scores = Scores(nats=2 * math.log(2))
    scores.add("a", 1, 1)
    scores.add("b", 0, 1)
    assert scores.value("accuracy") == 0.5
    assert scores.value("bits per byte") == pytest.approx(1.0)
    assert scores.value("perplexity") == pytest.approx(2.0)
    assert scores.by_group() == {"a": 1.0, "b": 0.0}
    assert Scores(nats=1e6, count={"a": 1}, right={"a": 0}).value("perplexity") == math.inf


def test_places_without_a_question_do_not_count():
    task = problem("retrieve")
    scores = task.score(Oracle(lambda b: b.target.clamp(min=0), task.vocabulary_size), "valid",
                        batch_size=8)  # fmt: skip
    assert sum(scores.count.values()) == 64
    assert (task.training_batch(3, seed=0, step=0).target[:, :-1] == unscored).all()


def test_a_batch_moves_with_all_its_parts():
    batch = Batch(torch.zeros(1, 2), torch.zeros(1), group=torch.zeros(1)).to("meta")
    assert batch.inputs.is_meta and batch.target.is_meta and batch.group.is_meta
    assert batch.mask is None


@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_the_mode_as_it_was_even_when_it_fails(training):
    def refuse(_):
        assert not oracle.training
        raise ValueError("no answer")

    oracle = Oracle(refuse, 2).train(training)
    with pytest.raises(ValueError, match="no answer"):
        problem("copy").score(oracle, "valid", batch_size=8)
    assert oracle.training is training
