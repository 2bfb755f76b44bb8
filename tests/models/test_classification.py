import math

import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import (
    AutoModelForAudioClassification,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from syncattn.models import SyncAttnForAudioClassification, SyncAttnForSequenceClassification
from syncattn.models.classification import pool
from tests.models.networks import (
    EVERY_MECHANISM,
    config,
    left_padded,
    right_padded,
    tokens,
)

FEATURES = 5


@pytest.fixture(autouse=True)
def own_process_state():
    """Accelerate keeps one state per process; what Trainer set must not meet the next test."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def of_tokens(mechanism, **options):
    torch.manual_seed(0)
    named = config(mechanism, **({"num_labels": 3} | options))
    return AutoModelForSequenceClassification.from_config(named).eval()


def of_frames(mechanism, **options):
    torch.manual_seed(0)
    named = config(mechanism, num_labels=3, feature_size=FEATURES, **options)
    return AutoModelForAudioClassification.from_config(named).eval()


EVERY_READING = pytest.mark.parametrize("is_causal", [True, False])
EVERY_POOLING = pytest.mark.parametrize("pooling", ["mean", "last"])


@EVERY_MECHANISM
@EVERY_READING
@EVERY_POOLING
@pytest.mark.parametrize("padded", [left_padded, right_padded])
def test_padding_changes_no_class(mechanism, is_causal, pooling, padded):
    model, ids = of_tokens(mechanism, is_causal=is_causal, pooling=pooling), tokens()
    batch, mask = padded(ids, 3)
    logits = model(batch, attention_mask=mask).logits
    assert isinstance(model, SyncAttnForSequenceClassification)
    assert logits.shape == (2, 3)
    torch.testing.assert_close(logits[:1], model(ids[:1]).logits)
    torch.testing.assert_close(logits[1:], model(ids[1:, :6]).logits)


@EVERY_MECHANISM
def test_read_both_ways_the_end_reaches_the_beginning(mechanism):
    ids = tokens()
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 23
    for is_causal in (True, False):
        model = of_tokens(mechanism, is_causal=is_causal)
        first = [model.model(x).last_hidden_state[:, 0] for x in (ids, changed)]
        assert torch.equal(*first) == is_causal


@EVERY_MECHANISM
@EVERY_POOLING
def test_frames_are_classified(mechanism, pooling, tmp_path):
    model = of_frames(mechanism, is_causal=False, pooling=pooling)
    frames = torch.randn(2, 9, FEATURES)
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    out = model(frames, attention_mask=mask, output_attentions=True, output_hidden_states=True)
    torch.testing.assert_close(out.logits[1:], model(frames[1:, :6]).logits)
    assert [w.shape for w in out.attentions] == [(2, 2, 9, 9)] * 2
    assert len(out.hidden_states) == 3
    model.save_pretrained(tmp_path)
    again = AutoModelForAudioClassification.from_pretrained(tmp_path).eval()
    assert isinstance(again, SyncAttnForAudioClassification)
    assert torch.equal(again(frames, attention_mask=mask).logits, out.logits)
    assert model.get_input_embeddings().in_features == FEATURES


@EVERY_MECHANISM
@pytest.mark.parametrize("kind", ["tokens", "frames"])
def test_classes_are_learned(mechanism, kind):
    model = (of_tokens if kind == "tokens" else of_frames)(mechanism, is_causal=False).train()
    inputs = tokens(6) if kind == "tokens" else torch.randn(6, 9, FEATURES)
    labels = torch.arange(6) % 3
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for _ in range(30):
        loss = model(inputs, labels=labels).loss
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_labels_choose_the_loss():
    ids = tokens()
    regression = of_tokens("softmax")
    regression.config.problem_type = "multi_label_classification"
    several = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    out = regression(ids, labels=several)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(out.logits, several)
    torch.testing.assert_close(out.loss, expected)
    out = of_tokens("softmax")(ids, labels=torch.tensor([0, 2]))
    torch.testing.assert_close(
        out.loss, torch.nn.functional.cross_entropy(out.logits, torch.tensor([0, 2]))
    )


@pytest.mark.parametrize(
    ("problem", "count", "labels", "said"),
    [
        (None, 3, torch.tensor([0, 3]), r"below `num_labels`, 3; got 0 to 3"),
        (None, 3, torch.tensor([-1, 1]), r"at least 0 and below `num_labels`, 3; got -1 to 1"),
        (None, 3, torch.tensor([0.0, 1.0]), r"of integers; got torch.float32"),
        (None, 3, torch.tensor([True, False]), r"of integers; got torch.bool"),
        (None, 3, torch.tensor([0]), r"shape \(2,\) or \(2, 1\) .* got \(1\)"),
        (None, 3, torch.tensor([[1, 0, 2], [0, 0, 1]]), r"between 0 and 1, .* got 0 to 2"),
        (None, 1, torch.zeros(2, 2), r"shape \(2,\) or \(2, 1\) .* got \(2, 2\)"),
        (None, 1, torch.tensor([0.0, math.nan]), r"be finite"),
        ("regression", 3, torch.zeros(3), r"shape \(2, 3\) .* got \(3\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(problem, count, labels, said):
    model = of_tokens("softmax", num_labels=count, problem_type=problem)
    with pytest.raises((TypeError, ValueError), match=f"`labels` must .*{said}"):
        model(tokens(), labels=labels)


def test_an_unknown_problem_is_refused():
    model = of_tokens("softmax")
    model.config.problem_type = "guess"
    with pytest.raises(ValueError, match="`problem_type` must be one of 'regression'"):
        model(tokens(), labels=torch.tensor([0, 1]))


@pytest.mark.parametrize("labels", [torch.tensor([[0], [2]]), torch.tensor([0, 2]).byte()])
def test_classes_may_stand_in_a_column_and_in_any_integer(labels):
    model = of_tokens("softmax")
    expected = model(tokens(), labels=torch.tensor([0, 2])).loss
    assert torch.equal(model(tokens(), labels=labels).loss, expected)


def test_several_classes_may_be_whole_numbers():
    ids, several = tokens(), torch.tensor([[1, 0, 1], [0, 0, 1]])
    expected = of_tokens("softmax")(ids, labels=several.float()).loss
    assert torch.equal(of_tokens("softmax")(ids, labels=several).loss, expected)


def test_no_class_to_learn_costs_nothing():
    model = of_tokens("softmax")
    loss = model(tokens(), labels=torch.full((2,), -100)).loss
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@EVERY_POOLING
def test_a_sequence_of_no_tokens_has_an_answer(pooling):
    logits = of_tokens("softmax", pooling=pooling)(tokens()[:, :0]).logits
    assert torch.equal(logits, torch.zeros(2, 3))


def test_packed_sequences_are_refused():
    model, places = of_tokens("softmax"), torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    with pytest.raises(ValueError, match="`position_ids` must not begin anew"):
        model(tokens(1, 9), position_ids=places)
    plain = model(tokens(1, 9), position_ids=torch.arange(9)[None]).logits
    assert torch.equal(plain, model(tokens(1, 9)).logits)


class Labelled(torch.utils.data.Dataset):
    """Eight sequences, of one of three classes each or with three labels of their own."""

    def __init__(self, name, several):
        inputs = tokens(8, 6) if name == "input_ids" else torch.randn(8, 6, FEATURES)
        labels = torch.rand(8, 3).round() if several else torch.arange(8) % 3
        self.rows = [{name: x, "labels": y} for x, y in zip(inputs, labels, strict=True)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        return self.rows[row]


@pytest.mark.parametrize("several", [False, True], ids=["one-label", "several-labels"])
@pytest.mark.parametrize("kind", ["tokens", "frames"])
def test_accumulation_steps_as_far_as_one_batch_of_all(kind, several, tmp_path):
    torch.manual_seed(0)
    examples = Labelled("input_ids" if kind == "tokens" else "input_features", several)
    ends = []
    for size, steps in ((8, 1), (2, 4)):
        model = (of_tokens if kind == "tokens" else of_frames)("softmax", is_causal=False)
        arguments = TrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=size, max_steps=1,
            gradient_accumulation_steps=steps, learning_rate=0.1, optim="sgd", max_grad_norm=0.0,
            lr_scheduler_type="constant", report_to="none", use_cpu=True, disable_tqdm=True,
            save_strategy="no",
        )  # fmt: skip
        start = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        Trainer(model=model, args=arguments, train_dataset=examples).train()
        ends.append(torch.nn.utils.parameters_to_vector(model.parameters()).detach() - start)
    assert ends[0].norm() > 1e-4
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-6)


def test_pooling():
    features = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert pool(features, None, "mean").tolist() == [[2, 3], [8, 9]]
    assert pool(features, None, "last").tolist() == [[4, 5], [10, 11]]
    for pooling, expected in (("mean", [1, 2]), ("last", [2, 3])):
        assert pool(features, mask, pooling).tolist() == [expected, [0, 0]]
    features[0, 2] = torch.nan
    assert pool(features, mask, "mean").isfinite().all()


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match="`feature_size` must be None for sequences of tokens"):
        of_tokens("softmax", feature_size=4)
    with pytest.raises(ValueError, match="`feature_size` must be the numbers of one frame"):
        SyncAttnForAudioClassification(config("softmax"))
    with pytest.raises(ValueError, match="`input_features` must have frames of `feature_size`"):
        of_frames("softmax")(torch.randn(2, 9, 4))
    with pytest.raises(ValueError, match="`pooling` must be one of 'mean', 'last'"):
        of_tokens("softmax", pooling="first")
