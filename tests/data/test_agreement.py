"""The agreement corpus has the shares, labels and ceiling that its description says."""

import pytest

from syncattn.data.agreement import AgreementTask


@pytest.fixture(params=[False, True], ids=["published", "corrected"])
def task(request):
    return AgreementTask(corrected=request.param)


def number_of_word(task, word):
    """Returns the numbers that a noun or verb may have, by its last letter alone."""
    undecidable = {s for s, p in task.nouns if s == p}
    if word in undecidable:
        return {"singular", "plural"}
    nouns = {p: "plural" for _, p in task.nouns} | {s: "singular" for s, _ in task.nouns}
    if word in nouns:
        return {nouns[word]}
    return {"singular" if word.endswith("s") else "plural"}


def test_labels_are_what_a_reader_would_say(task):
    words, split = task.vocabulary, task.split(400, seed=0)
    for ids, mask, verb, label, hard in zip(*split, strict=True):
        sentence = [words[i] for i in ids[mask].tolist()]
        assert sentence[0] == "<bos>"
        assert sentence[-2:] == [".", "<eos>"]
        subject, spoken = sentence[2], sentence[verb]
        agrees = number_of_word(task, subject) & number_of_word(task, spoken)
        if len(number_of_word(task, subject)) == 1:
            assert bool(agrees) == bool(label)
        if hard:
            other = sentence[5]
            numbers = number_of_word(task, subject) | number_of_word(task, other)
            assert numbers == {"singular", "plural"}
        if len(sentence) == 6:
            assert not hard


def test_shares(task):
    split = task.split(20_000, seed=1)
    assert abs(split.label.float().mean() - 0.5) < 0.02
    assert abs((split.verb == 6).float().mean() - 0.6) < 0.02
    assert abs(split.hard.float().mean() - 0.3) < 0.02


def test_sizes_and_ceiling(task):
    assert len(task.nouns) == 50
    assert len(set(task.vocabulary)) == len(task.vocabulary)
    assert task.ceiling == (1.0 if task.corrected else 0.98)


def test_the_draw_is_repeatable(task):
    first, again, other = (task.split(50, seed=s) for s in (3, 3, 4))
    assert first.input_ids.equal(again.input_ids)
    assert not first.input_ids.equal(other.input_ids)


def test_bad_sizes_are_refused(task):
    with pytest.raises(ValueError, match="`size`"):
        task.split(0, seed=0)
