import pytest

from syncattn.benchmarks.tasks import task_named
from tests.benchmarks.benchmark_small import problem

TEXTS = ("enwik8-char", "code-char", "wikitext-2", "tinystories", "blimp-agreement")


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_causal_and_limited(name):
    assert task_named(name).is_causal
    task = problem(name)
    asked = sum(batch.target.numel() for batch in task.batches("valid", 4))
    assert asked == 128
    assert task.vocabulary_size == 256
    assert task.identity.extent == "sample"


def test_pairs_keep_the_identity_of_their_sentences():
    assert problem("blimp-agreement").identity.name == "agreement-pairs"
    assert problem("enwik8-char").identity.name.startswith("python-reference")
