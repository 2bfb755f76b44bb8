"""Words are numbered by frequency and the alphabet, on the first part alone."""

import gzip

import pytest
import torch

from syncattn.data.words import SPECIAL_WORDS, load_words, number_words

TEXT = "The cat saw the dog. The DOG's tail, and the cat's! " * 30


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def back(corpus):
    return [corpus.vocabulary[i] for part in corpus[:3] for i in part.tolist()]


def test_words_come_back_in_order(path):
    corpus = load_words(path, vocabulary_size=20)
    words = "the cat saw the dog the dog's tail and the cat's".split() * 30
    assert back(corpus) == words
    assert corpus.vocabulary[: len(SPECIAL_WORDS)] == SPECIAL_WORDS
    assert corpus.vocabulary[4:6] == ("the", "and")
    assert corpus.unknown == 0
    assert len(corpus.train) == len(words) * 90 // 100


def test_signs_are_words_when_asked(path):
    corpus = load_words(path, vocabulary_size=30, punctuation=True)
    assert back(corpus)[:7] == ["the", "cat", "saw", "the", "dog", ".", "the"]


def test_rare_words_are_unknown_and_counted(path):
    corpus = load_words(path, vocabulary_size=5)
    assert set(back(corpus)) == {"the", "<unk>"}
    assert abs(corpus.unknown - 7 / 11) < 0.01


def test_the_vocabulary_knows_nothing_of_what_is_held_out(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("a b " * 90 + "zebra " * 20, encoding="utf-8")
    corpus = load_words(file, vocabulary_size=100)
    assert "zebra" not in corpus.vocabulary
    assert corpus.unknown > 0


def test_a_compressed_file_is_the_same_text(path, tmp_path):
    packed = tmp_path / "text.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert load_words(packed).sha256 == load_words(path).sha256


def test_bad_input_is_refused(path, tmp_path):
    with pytest.raises(ValueError, match="`vocabulary_size`"):
        load_words(path, vocabulary_size=4)
    short = tmp_path / "short.txt"
    short.write_text("one two", encoding="utf-8")
    with pytest.raises(ValueError, match="at least 20 words; got 2"):
        load_words(short)
    with pytest.raises(ValueError, match="`path`"):
        load_words(tmp_path / "missing.txt")


def test_no_words_are_no_numbers():
    _, (numbers,) = number_words(["a"], [[]], 10)
    assert numbers.dtype == torch.long and numbers.shape == (0,)
