import pytest
import torch

from syncattn.benchmarks.pairs import PairsProblem
from syncattn.benchmarks.problems import TextProblem
from syncattn.data.blimp import MinimalPairs
from syncattn.data.corpora import load_enwik8
from syncattn.data.sources import DataIdentity, Lookup
from tests.benchmarks.benchmark_small import Oracle


class Even(Oracle):
    """Holds every byte for as likely."""

    def forward(self, batch):
        return 0 * super().forward(batch)


def _pairs(*sentences):
    identity = DataIdentity("pairs", "0", "generated", "here")
    tokens = load_enwik8(Lookup(samples_only=True))
    pairs = MinimalPairs(sentences, (0,) * len(sentences), ("all",), identity)
    return PairsProblem(tokens, pairs, context_length=32, evaluation_tokens=64)


def test_pairs_are_told_by_likelihood():
    counts_up = Oracle(lambda b: (b.inputs + 1) % 256, 256)
    task = _pairs(("abc", "acb"), ("xyz", "xzy"), ("ba", "ab"))
    assert task.score(counts_up, "test", batch_size=2).value("accuracy") == pytest.approx(2 / 3)


def test_the_score_of_a_sentence_ignores_its_padding():
    counts_up = Oracle(lambda b: (b.inputs + 1) % 256, 256)
    task = _pairs(("abc", "acb"))
    alone = task._likelihood(counts_up, ["abc"])
    together = task._likelihood(counts_up, ["abc", "something much longer"])
    torch.testing.assert_close(alone[0], together[0])


def test_rates_are_chosen_on_the_text_and_not_on_the_pairs():
    task = _pairs(("abc", "acb"))
    assert isinstance(task, TextProblem)
    scores = task.score(Oracle(lambda b: b.target, 256), "valid", batch_size=2)
    assert sum(scores.count.values()) == 64


def test_equally_likely_sentences_count_half():
    says_nothing = Even(lambda b: b.inputs, 256)
    task = _pairs(("ab", "cd"), ("ef", "gh"))
    assert task.score(says_nothing, "test", batch_size=2).value("accuracy") == 0.5


def test_pairs_that_do_not_fit_are_passed_over_and_some_must_fit():
    counts_up = Oracle(lambda b: (b.inputs + 1) % 256, 256)
    long = "x" * 32
    task = _pairs((f"{long}ab", f"{long}ba"), ("abc", "acb"))
    scores = task.score(counts_up, "test", batch_size=2)
    assert (scores.right, scores.count) == ({"all": 1}, {"all": 1})
    with pytest.raises(ValueError, match=r"`context_length` must hold a pair .* 34 bytes"):
        _pairs((f"{long}ab", f"{long}ba"))


def test_hits_on_the_text_bear_the_name_of_no_paradigm():
    task = _pairs(("abc", "acb"))
    scores = task.score(Oracle(lambda b: b.target, 256), "valid", batch_size=2)
    assert set(scores.count) == {"next bytes of the text"}
