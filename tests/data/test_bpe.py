import pytest

from syncattn.data.bpe import train_bpe

TEXT = "the phase of the oscillator locks to the phase of the drive\n" * 20


def test_every_text_comes_back():
    tokenizer = train_bpe(TEXT, vocabulary_size=300)
    for text in (TEXT, "Größe – λ\t\n  unseen"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_frequent_words_become_short():
    tokenizer = train_bpe(TEXT, vocabulary_size=300)
    assert len(tokenizer.encode(TEXT).ids) < len(TEXT) / 3
    assert max(tokenizer.encode(TEXT).ids) < 300


def test_fewer_tokens_than_bytes_are_refused():
    with pytest.raises(ValueError, match="`vocabulary_size`"):
        train_bpe(TEXT, vocabulary_size=255)
