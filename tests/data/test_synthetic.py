import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syncattn.data import CopyingTask, copying_accuracy

SMALL = CopyingTask(vocab_size=8, length=14, min_period=3, max_period=6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.integers(-3, 50), st.booleans())
def test_texts_repeat_with_their_period(seed, step, distinct):
    task = CopyingTask(vocab_size=8, length=14, min_period=3, max_period=6, distinct=distinct)
    batch = task.batch(5, seed=seed, step=step)
    assert batch.input_ids.shape == batch.scored.shape == (5, 14)
    assert ((batch.input_ids >= 0) & (batch.input_ids < 8)).all()
    for text, scored, period in zip(*(x.tolist() for x in batch), strict=True):
        assert 3 <= period <= 6
        assert all(text[t] == text[t - period] for t in range(period, 14))
        # The first copied token cannot be told from another; from the second on it can.
        assert scored == [t > period for t in range(14)]
        if distinct:
            assert len(set(text[:period])) == period


def test_a_batch_depends_on_its_seed_and_step_alone():
    first = SMALL.batch(4, seed=1, step=2)
    torch.manual_seed(99)
    again = SMALL.batch(4, seed=1, step=2)
    assert torch.equal(first.input_ids, again.input_ids)
    for other in (SMALL.batch(4, seed=2, step=2), SMALL.batch(4, seed=1, step=3)):
        assert not torch.equal(first.input_ids, other.input_ids)


def test_labels_are_the_scored_tokens():
    batch = SMALL.batch(3, seed=0)
    assert torch.equal(batch.labels[batch.scored], batch.input_ids[batch.scored])
    assert (batch.labels[~batch.scored] == -100).all()


def test_one_token_tells_everything_when_symbols_differ():
    assert SMALL.ceiling(SMALL.batch(20, seed=0)) == 1.0


def test_symbols_that_recur_want_a_longer_suffix():
    task = CopyingTask(vocab_size=3, length=40, min_period=10, max_period=14, distinct=False)
    batch = task.batch(40, seed=0)
    accuracies = [task.ceiling(batch, order=n) for n in (1, 3, 6)]
    assert accuracies[0] < accuracies[1] < accuracies[2] <= 1.0
    assert accuracies[0] > task.chance


def test_counting_alone_reaches_the_mean_of_guessing_what_is_left():
    # With period n and two passes, k symbols of the second are known and 1 / (n - k) is right.
    task = CopyingTask(vocab_size=9, length=12, min_period=6, max_period=6)
    expected = sum(1 / (6 - k) for k in range(1, 6)) / 5
    assert task.bag_chance(task.batch(7, seed=0)) == pytest.approx(expected)
    assert task.chance == 1 / 9


def test_accuracy_counts_the_scored_guesses():
    batch = SMALL.batch(6, seed=3)
    right = torch.nn.functional.one_hot(batch.input_ids.roll(-1, 1), 8).float()
    assert copying_accuracy(right, batch) == 1.0
    assert copying_accuracy(-right, batch) == 0.0
    half = right.clone()
    half[:3] *= -1
    assert copying_accuracy(half, batch) == pytest.approx(
        float(batch.scored[3:].sum() / batch.scored.sum())
    )


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"vocab_size": 5}, "`vocab_size` must be at least `max_period`"),
        ({"min_period": 7}, "`max_period` must be at least 7; got 6"),
        ({"length": 7}, "`length` must be at least 8; got 7"),
        ({"min_period": 0}, "`min_period` must be at least 1; got 0"),
    ],
)
def test_sizes_that_leave_nothing_to_copy_are_refused(sizes, message):
    whole = {"vocab_size": 8, "length": 14, "min_period": 3, "max_period": 6}
    with pytest.raises(ValueError, match=message):
        CopyingTask(**(whole | sizes))


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="`batch_size` must be at least 1; got 0"):
        SMALL.batch(0, seed=0)
    with pytest.raises(ValueError, match="`order` must be at least 1; got 0"):
        SMALL.ceiling(SMALL.batch(1, seed=0), order=0)
