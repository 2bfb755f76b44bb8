import pytest
import torch

from syncattn.data.agreement_sets import (
    CorrectedAgreement,
    load_agreement_natural,
    load_agreement_v1,
    load_agreement_v2,
    overlap,
)
from syncattn.data.sources import Lookup, MissingDataError

TASK = CorrectedAgreement()


def sentence(examples, i):
    return [TASK.vocabulary[n] for n in examples.inputs[i][examples.mask[i]].tolist()]


def parsed(words):
    """Returns subject's number, the others' numbers, and whether the verb has its ending."""
    nouns = [i for i, w in enumerate(words) if w.endswith("/noun")]
    plural = [words[i + 1] == "-s" for i in nouns]
    verb = next(i for i, w in enumerate(words) if w.endswith("/verb"))
    return plural[0], plural[1:], words[verb + 1] == "-s"


@pytest.fixture(scope="module")
def corrected():
    return load_agreement_v2((600, 300, 300))


def test_labels_and_attractors_follow_from_the_words(corrected):
    for i in range(300):
        plural, others, ending = parsed(sentence(corrected.test, i))
        assert corrected.test.label[i] == int(plural != ending)
        assert corrected.test.group[i] == sum(other != plural for other in others)
        assert len(others) <= 3


def test_the_answer_is_read_at_the_last_token_of_the_verb(corrected):
    for i in range(50):
        words = sentence(corrected.valid, i)
        assert words[int(corrected.valid.place[i]) + 1] == "."
        assert words[-1] == "."


def test_no_stem_stands_in_two_splits(corrected):
    stems = [
        {w for i in range(split.size) for w in sentence(split, i) if w.endswith(("/noun", "/verb"))}
        for split in (corrected.train, corrected.valid, corrected.test)
    ]
    assert all(len(s) > 10 for s in stems)
    assert not stems[0] & stems[1] and not stems[0] & stems[2] and not stems[1] & stems[2]


def test_every_group_and_label_is_common(corrected):
    assert corrected.train.group.bincount().min() > 80
    assert 0.4 < corrected.train.label.double().mean() < 0.6
    assert corrected.ceiling == 1.0


def test_published_set_keeps_its_ceiling_and_its_overlap():
    data = load_agreement_v1((4_000, 500, 500))
    assert data.ceiling == 0.98
    assert overlap(data.train.inputs, data.valid.inputs) > 0.02
    assert overlap(data.train.inputs, data.train.inputs[:10]) == 1.0
    assert data.groups == ("easy", "hard")


def _files(folder, names):
    (folder / "linzen2016").mkdir()
    for name in names:
        lines = [f"{'VBZ' if i % 2 else 'VBP'}\tthe keys to {name} {i}" for i in range(40)]
        (folder / "linzen2016" / f"numpred.{name}").write_text("\n".join(lines) + "\n")


def test_natural_sentences_are_split_in_order_and_grouped_by_attractors(tmp_path):
    _files(tmp_path, ["val", "test.1", "test.3"])
    data = load_agreement_natural(Lookup(folder=tmp_path), most_test_rows=10)
    assert (data.train.size, data.valid.size, data.test.size) == (36, 4, 20)
    assert data.test.group.unique().tolist() == [1, 3]
    assert data.train.label[:2].tolist() == [1, 0]
    assert data.train.place[0] == 4
    assert data.identity.extent == "part"


def test_rows_that_are_tested_are_not_trained_on(tmp_path):
    _files(tmp_path, ["val", "test.1"])
    val, test = (tmp_path / "linzen2016" / f"numpred.{n}" for n in ("val", "test.1"))
    test.write_text("".join(val.read_text().splitlines(keepends=True)[:5]))
    data = load_agreement_natural(Lookup(folder=tmp_path))
    assert (data.train.size, data.test.size) == (31, 5)
    assert overlap(data.train.inputs, data.test.inputs) == 0


def test_rows_that_are_tested_are_not_chosen_by(tmp_path):
    _files(tmp_path, ["val", "test.1"])
    val, test = (tmp_path / "linzen2016" / f"numpred.{n}" for n in ("val", "test.1"))
    lines = val.read_text().splitlines(keepends=True)
    lines[-3] = "VBZ\tthe keys\n"
    val.write_text("".join(lines))
    test.write_text("VBZ\tthe keys\n" * 3)
    data = load_agreement_natural(Lookup(folder=tmp_path))
    assert (data.train.size, data.valid.size, data.test.size) == (36, 3, 3)
    assert data.identity.sizes["valid"] == 3


def test_splits_of_the_natural_sample_share_stems_and_no_row():
    data = load_agreement_natural(Lookup(samples_only=True))
    words = [set(s.inputs[s.mask].tolist()) for s in (data.train, data.valid, data.test)]
    assert words[1] | words[2] == words[0]
    for left, right in ((data.train, data.valid), (data.train, data.test), (data.valid, data.test)):
        assert overlap(left.inputs, right.inputs) == 0


def test_natural_sample_asks_for_the_number_of_the_subject(tmp_path):
    data = load_agreement_natural(Lookup(samples_only=True))
    assert data.identity.extent == "sample"
    assert 0.3 < data.test.label.double().mean() < 0.7
    assert data.test.group.unique().tolist() == [0, 1, 2, 3]
    # A simple subject: begin-less "the N" is singular and "the N -s" plural.
    lengths = data.train.mask.sum(-1)
    short = lengths == 2
    assert short.any() and not data.train.label[short].any()
    with pytest.raises(MissingDataError, match="linzen2016"):
        load_agreement_natural(Lookup(samples_only=True, may_sample=False))


def test_sentences_do_not_depend_on_global_seeds():
    torch.manual_seed(1)
    first = TASK.split("train", 20)
    torch.manual_seed(2)
    assert torch.equal(first.inputs, TASK.split("train", 20).inputs)
