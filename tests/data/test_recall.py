import pytest
import torch

from syncattn.data.recall import RecallTask, RetrievalTask


def test_every_answer_of_recall_stands_beside_its_key():
    task = RecallTask(num_pairs=5, num_keys=9, num_values=7)
    batch = task.batch(20, seed=3)
    for ids, target, distance in zip(*batch, strict=True):
        for t in range(10, 15):
            told = [i for i in range(0, 10, 2) if ids[i] == ids[t]]
            assert len(told) == 1
            assert target[t] == ids[told[0] + 1]
            assert distance[t] == t - told[0] - 1
        assert (target[:10] == -100).all() and (distance[:10] == 0).all()
    assert (batch.input_ids[:, 1:10:2] >= task.num_keys).all()


def test_retrieval_asks_for_tokens_that_occur_once_or_never():
    task = RetrievalTask(length=10, num_symbols=8)
    batch = task.batch(300, seed=1)
    occurs = (batch.input_ids[:, :-1] == batch.input_ids[:, -1:]).sum(-1)
    assert occurs.max() == 1
    assert torch.equal(batch.target[:, -1] - task.num_symbols, occurs)
    assert 0.4 < occurs.double().mean() < 0.6
    place = (batch.input_ids[:, :-1] == batch.input_ids[:, -1:]).int().argmax(-1)
    there = occurs == 1
    assert torch.equal(batch.distance[there, -1], 10 - place[there])
    assert (batch.distance[~there] == 0).all()


@pytest.mark.parametrize("task", [RecallTask(), RetrievalTask()])
def test_batches_depend_on_seed_and_step_alone(task):
    first = task.batch(4, seed=0, step=5)
    torch.rand(3)
    assert torch.equal(first.input_ids, task.batch(4, seed=0, step=5).input_ids)
    assert not torch.equal(first.input_ids, task.batch(4, seed=0, step=6).input_ids)
    assert not torch.equal(first.input_ids, task.batch(4, seed=1, step=5).input_ids)
    assert int(first.input_ids.max()) < task.vocabulary_size
    assert task.ceiling == 1.0


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: RecallTask(num_pairs=4, num_keys=3), "num_keys"),
        (lambda: RecallTask(num_pairs=0), "num_pairs"),
        (lambda: RetrievalTask(length=1), "length"),
        (lambda: RetrievalTask(num_symbols=3), "num_symbols"),
        (lambda: RecallTask().batch(0, seed=0), "size"),
    ],
)
def test_impossible_sizes_are_refused(make, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        make()


def test_the_commonest_value_is_guessed_right_one_time_in_six():
    batch = RecallTask().batch(2_000, seed=0)
    values, asked = batch.input_ids[:, 1:24:2], batch.target[:, 24:]
    assert (asked == values.mode(1).values[:, None]).double().mean() == pytest.approx(
        1 / 6, abs=0.02
    )
