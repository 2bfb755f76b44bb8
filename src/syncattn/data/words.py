"""A text as numbered words: lower case, the most frequent ones, everything else unknown."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch

from syncattn import _validation as check
from syncattn._typing import Int, Tensor
from syncattn.data.files import read_text

__all__ = ["SPECIAL_WORDS", "WordCorpus", "load_words", "number_words", "words_of"]

SPECIAL_WORDS = ("<pad>", "<bos>", "<eos>", "<unk>")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_WORD_OR_SIGN = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\w\s]|_")


class WordCorpus(NamedTuple):
    """A text as words, split in order.

    Attributes:
        train: The first part, ``(words,)``.
        valid: The next.
        test: The last.
        vocabulary: Every word once; its place is its number. The special words come first.
        sha256: Of the text that was used.
        unknown: Share of the words that are not in the vocabulary.
    """

    train: Int[Tensor, " train_words"]
    valid: Int[Tensor, " valid_words"]
    test: Int[Tensor, " test_words"]
    vocabulary: tuple[str, ...]
    sha256: str
    unknown: float


def load_words(
    path: str | Path, *, vocabulary_size: int = 8_004, punctuation: bool = False
) -> WordCorpus:
    """Loads a file as words, 90/5/5 in order; the vocabulary is counted on the first part.

    The published word-level language models keep 8,000 words and no punctuation (TinyStories), or
    10,000 words with signs of punctuation as words (WikiText), four special words among them.

    Args:
        path: A UTF-8 file, plain or `.gz`.
        vocabulary_size: Number of words, special ones included.
        punctuation: Whether signs are words too, or left out.

    Returns:
        The words as numbers.

    Raises:
        TypeError: If `vocabulary_size` is not an integer.
        ValueError: If it leaves no word, or the file cannot be used or has fewer than 20 words.

    References:
        | Attention by Synchronization in Coupled Oscillator Networks (arXiv 2606.12059)
    """
    check.require_integer(vocabulary_size, "vocabulary_size", minimum=len(SPECIAL_WORDS) + 1)
    check.require_path(path)
    raw = read_text(Path(path)).content
    words = words_of(raw.decode("utf-8"), punctuation=punctuation)
    if len(words) < 20:
        raise ValueError(
            f"`path` must hold at least 20 words; got {len(words)} in {path}. Give a longer text."
        )
    first, second = len(words) * 90 // 100, len(words) * 95 // 100
    vocabulary, (ids,) = number_words(words[:first], [words], vocabulary_size)
    unknown = vocabulary.index("<unk>")
    return WordCorpus(
        ids[:first],
        ids[first:second],
        ids[second:],
        vocabulary,
        hashlib.sha256(raw).hexdigest(),
        (ids == unknown).float().mean().item(),
    )


def words_of(text: str, *, punctuation: bool = False) -> list[str]:
    """Returns the words of a text in lower case.

    Args:
        text: Any text.
        punctuation: Whether signs are words too, or left out.

    Returns:
        The words in order.
    """
    return (_WORD_OR_SIGN if punctuation else _WORD).findall(text.lower())


def number_words(
    counted: list[str], parts: list[list[str]], vocabulary_size: int
) -> tuple[tuple[str, ...], list[Int[Tensor, " _"]]]:
    """Returns a vocabulary counted on one list of words, and other lists as its numbers.

    Args:
        counted: The words to count; special words among them keep their own numbers.
        parts: Lists of words.
        vocabulary_size: Number of words, special ones included.

    Returns:
        Every word once, the special ones first, then the most frequent; and the numbers.
    """
    # Words of equal count in the order of the alphabet, so that every machine numbers them alike.
    frequent = sorted(Counter(counted).items(), key=lambda item: (-item[1], item[0]))
    kept = [word for word, _ in frequent if word not in SPECIAL_WORDS]
    vocabulary = (*SPECIAL_WORDS, *kept[: vocabulary_size - len(SPECIAL_WORDS)])
    number = {word: i for i, word in enumerate(vocabulary)}
    unknown = number["<unk>"]
    return vocabulary, [
        torch.tensor([number.get(word, unknown) for word in part], dtype=torch.long)
        for part in parts
    ]
