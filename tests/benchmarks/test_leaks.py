import dataclasses

import pytest
import torch
from torch import nn

from syncattn.benchmarks import leaks
from syncattn.benchmarks.arms import ARMS, Arm
from syncattn.benchmarks.leaks import check_arm, check_data
from syncattn.benchmarks.networks import build_network
from syncattn.benchmarks.problems import LabelProblem, TextProblem
from syncattn.benchmarks.tasks import task_named
from syncattn.data.corpora import load_enwik8
from syncattn.data.sources import Lookup
from tests.benchmarks.benchmark_small import problem, recipe


def data(name, made=None):
    found = check_data(task_named(name), made or problem(name))
    return {finding.what: finding for finding in found}


def arm(name, of):
    found = check_arm(task_named(name), problem(name), recipe(name), of)
    return {finding.what: finding.verdict for finding in found}


FUTURE, PADDING = "a changed future moves the past by", "appended padding moves an answer by"


@pytest.mark.parametrize("of", ARMS)
def test_our_arms_look_neither_ahead_nor_at_padding(of):
    assert arm("copy", of) == {FUTURE: "ok", PADDING: "ok"}
    assert arm("agreement-v2", of) == {PADDING: "ok"}


class LooksAhead(nn.Module):
    def __init__(self, hidden_size, num_heads):
        super().__init__()
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x):
        return self.proj(x.mean(1, keepdim=True)).expand_as(x)


def test_who_looks_ahead_and_at_padding_is_found(monkeypatch):
    monkeypatch.setitem(ARMS, "ahead", Arm("softmax", "", 1e-3, attention=LooksAhead))
    assert arm("copy", "ahead") == {FUTURE: "wrong", PADDING: "wrong"}
    assert arm("agreement-v2", "ahead") == {PADDING: "wrong"}


class Dead(nn.Module):
    def __init__(self, hidden_size, num_heads):
        super().__init__()
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x, **_):
        return x * float(self.fill)


class Silent(Dead):
    fill = "nan"


def test_a_network_that_answers_nothing_is_found_wanting(monkeypatch):
    monkeypatch.setitem(ARMS, "silent", Arm("softmax", "", 1e-3, attention=Silent))
    found = check_arm(task_named("copy"), problem("copy"), recipe("copy"), "silent")
    assert (found[0].figure, found[0].verdict) == ("nan", "wrong")
    network = build_network(
        ARMS["softmax"], problem("copy"), recipe("copy").shape, is_causal=True, positions="own"
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    batch = problem("copy").training_batch(2, seed=0, step=0)
    finding = leaks._causality(network.eval(), batch)
    assert (finding.figure, finding.verdict) == ("0.0e+00", "wrong")
    assert finding.what == "a changed future moves the future by"


def test_published_agreement_has_its_flaws_told():
    found = data("agreement-v1")
    assert found["valid also in train"].verdict == "known"
    assert found["ceiling"].figure == "98.00%" and found["ceiling"].verdict == "known"
    assert "several splits" in found["known flaws"].figure


def test_corrected_agreement_has_none():
    found = data("agreement-v2")
    assert {finding.verdict for finding in found.values()} == {"ok"}
    assert found["test also in train"].figure == "0.00%"
    share = float(found["majority class of test"].figure.rstrip("%"))
    assert 50 <= share < 60


def test_an_overlap_of_examples_is_found():
    made = problem("agreement-v2")
    leaky = dataclasses.replace(made.data, test=made.data.train.part(slice(0, 50)))
    found = data("agreement-v2", LabelProblem(leaky, reads_place=True))
    assert found["test also in train"] == dataclasses.replace(
        found["test also in train"], figure="100.00%", verdict="wrong"
    )


def test_an_overlap_of_texts_is_found():
    tokens = load_enwik8(Lookup(samples_only=True))
    clean = data("enwik8-char", TextProblem(tokens, context_length=32))
    # The sample repeats itself, which is known of samples.
    assert clean["test also in train"].verdict in {"ok", "known"}
    leaky = dataclasses.replace(tokens, test=tokens.train[1_003 : 1_003 + 6_400])
    found = data("enwik8-char", TextProblem(leaky, context_length=32))
    assert found["test also in train"].figure == "100.00%"
    words = dataclasses.replace(tokens, train=tokens.train.long(), test=leaky.test.long())
    found = data("enwik8-char", TextProblem(words, context_length=32))
    assert found["test also in train"].verdict == "wrong"


def test_texts_without_classes_have_no_majority():
    assert "majority class of test" not in data("enwik8-char")
    assert data("copy")["ceiling"].figure == "100.00%"


def test_what_is_tested_may_not_be_chosen_by():
    made = problem("agreement-v2")
    both = dataclasses.replace(made.data, valid=made.data.test)
    found = data("agreement-v2", LabelProblem(both, reads_place=True))
    assert found["test also in valid"].figure == "100.00%"
    assert found["test also in valid"].verdict == "wrong"
    assert data("agreement-natural")["test also in valid"].verdict == "ok"


def test_an_arm_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="`arms` must be one of"):
        arm("copy", "nosuch")
