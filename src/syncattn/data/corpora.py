"""The texts of the benchmark as tokens: enwik8, code, WikiText-2 and TinyStories."""

from __future__ import annotations

import hashlib
import importlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Integer

from syncattn._typing import Tensor
from syncattn.data.download import RemoteFile
from syncattn.data.sources import DataIdentity, Lookup, find_file, hash_parts, read_bytes
from syncattn.data.text import load_corpus
from syncattn.data.words import number_words, words_of

__all__ = ["TokenSet", "load_code", "load_enwik8", "load_tinystories", "load_wikitext2"]

SPLITS = ("train", "valid", "test")
END_OF_STORY = "<|endoftext|>"
_HUB = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/"
ENWIK8 = RemoteFile(
    "http://mattmahoney.net/dc/enwik8.zip",
    "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
    36_445_475,
)
WIKITEXT2 = RemoteFile(
    "https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-v1.zip",
    "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
)
TINYSTORIES_TRAIN = RemoteFile(
    _HUB + "TinyStories-train.txt",
    "c5cf5e22ff13614e830afbe61a99fbcbe8bcb7dd72252b989fa1117a368d401f",
    1_924_281_556,
)
TINYSTORIES_VALID = RemoteFile(
    _HUB + "TinyStories-valid.txt",
    "94e431816c4cce81ff71e4408ff8d3bda9a42e8d2663986697c3954288cb38b4",
    19_447_282,
)
ENWIK8_SHA256 = "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8"
"""Of its 100,000,000 bytes."""
WIKITEXT2_SIZES = (2_088_628, 217_646, 245_569)
"""Words of the published splits, one `<eos>` a line counted."""


@dataclass(frozen=True, eq=False)
class TokenSet:
    """Three disjoint splits of a text as token numbers.

    Attributes:
        train: Tokens to learn from.
        valid: Tokens to choose by.
        test: Tokens to read once.
        vocabulary_size: Number of different tokens.
        identity: What the text is.
        words: The word of each number; None when tokens are bytes.
    """

    train: Integer[Tensor, " train_tokens"]
    valid: Integer[Tensor, " valid_tokens"]
    test: Integer[Tensor, " test_tokens"]
    vocabulary_size: int
    identity: DataIdentity
    words: tuple[str, ...] | None = None


def load_enwik8(lookup: Lookup) -> TokenSet:
    """Loads enwik8 as bytes: 90, 5 and 5 percent in order, as its 90/5/5 million.

    Args:
        lookup: Where to look; `enwik8`, `.gz`, `.zip` or a head of it.

    Returns:
        Bytes; any other file than the official one is a part. The sample is Python's own reference
        text.

    Raises:
        MissingDataError: If it is nowhere and no sample may stand in.
    """
    patterns = ("enwik8", "enwik8.gz", "enwik8.zip", "enwik8/enwik8", "enwik8/enwik8*")
    path, is_given = find_file(lookup, patterns, ENWIK8)
    if path is None:
        return _bytes(*_reference_sample(lookup, "enwik8"))
    content = read_bytes(path, "enwik8")
    extent = "whole" if hashlib.sha256(content).hexdigest() == ENWIK8_SHA256 else "part"
    identity = DataIdentity("enwik8", "", extent, _source(path, is_given, ENWIK8))
    first, second = len(content) * 90 // 100, len(content) * 95 // 100
    return _bytes([content[:first], content[first:second], content[second:]], identity)


def load_code(lookup: Lookup) -> TokenSet:
    """Loads source code as bytes, split by file.

    Args:
        lookup: Where to look; `train.txt`, `valid.txt` and `test.txt`, plain or `.gz`, in a folder
            `code` or `python_stdlib`.

    Returns:
        Bytes. The sample is the standard library of the running interpreter.

    Raises:
        MissingDataError: If it is nowhere and no sample may stand in.
    """
    found: list[Path] = []
    for split in SPLITS:
        patterns = [
            f"{folder}/{split}.txt{end}"
            for folder in ("code", "python_stdlib")
            for end in ("", ".gz")
        ]
        path = lookup.given(patterns)
        found += [] if path is None else [path]
    if len(found) == len(SPLITS):
        name = found[0].parent.name
        # No published set has a name to be the whole of: a library is a sample of code.
        identity = DataIdentity(name, "", "sample", f"{name}/train.txt, valid.txt and test.txt")
        return _bytes([read_bytes(path) for path in found], identity)
    if not lookup.may_sample:
        raise lookup.missing("source code", "Give train.txt, valid.txt and test.txt in `code`.")
    corpus = load_corpus(context_length=512)
    parts = [bytes(getattr(corpus, split).numpy()) for split in SPLITS]
    identity = DataIdentity(corpus.identity.name, "", "sample", corpus.identity.source)
    return _bytes(parts, identity)


def load_wikitext2(lookup: Lookup, *, vocabulary_size: int = 10_000) -> TokenSet:
    """Loads WikiText-2 as lower-case words, one `<eos>` a line.

    Args:
        lookup: Where to look; the official zip, or a folder `wikitext-2` with the three splits.
        vocabulary_size: Words, the special ones included; the published models keep 10,000.

    Returns:
        Words; with other numbers of them than the published ones the set is a part. Without the
        training file the head of valid is learned from, and its last tenth chosen by.

    Raises:
        MissingDataError: If it is nowhere and no sample may stand in.
    """
    texts = [_given_text(lookup, "wikitext-2", split) for split in SPLITS]
    source = "wikitext-2"
    if texts[1] is None or texts[2] is None:
        names = ("wikitext-2-v1.zip", "*/wikitext-2-v1.zip")
        archive, is_given = find_file(lookup, names, WIKITEXT2)
        if archive is None:
            parts, identity = _reference_sample(lookup, "WikiText-2")
            return _words([_lines(part.decode()) for part in parts], identity, vocabulary_size)
        texts = [read_bytes(archive, f"wiki.{split}.tokens") for split in SPLITS]
        source = _source(archive, is_given, WIKITEXT2)
    train, valid, test = ("" if text is None else text.decode("utf-8") for text in texts)
    if not train:
        lines = valid.splitlines(keepends=True)
        cut = len(lines) * 9 // 10
        train, valid = "".join(lines[:cut]), "".join(lines[cut:])
    words = [_lines(text) for text in (train, valid, test)]
    whole = tuple(map(len, words)) == WIKITEXT2_SIZES
    identity = DataIdentity("wikitext-2", "", "whole" if whole else "part", source)
    return _words(words, identity, vocabulary_size)


def load_tinystories(
    lookup: Lookup, *, vocabulary_size: int = 8_004, max_bytes: int | None = 400_000_000
) -> TokenSet:
    """Loads TinyStories as lower-case words without punctuation, one `<eos>` a story.

    Args:
        lookup: Where to look; the official files, or a head of the training text.
        vocabulary_size: Words, the special ones included; the published models keep 8,004.
        max_bytes: Most bytes of the training text; the cut makes it a part.

    Returns:
        Words; a single file is split 80/10/10 by stories in order. With the official pair half of
        the validation stories are the test set.

    Raises:
        MissingDataError: If it is nowhere and no sample may stand in.
    """
    patterns = (
        "*/TinyStories-train.txt*",
        "TinyStories-train.txt*",
        "*/TinyStories-train.head.txt*",
    )
    path, is_given = find_file(lookup, patterns, TINYSTORIES_TRAIN)
    if path is None:
        parts, identity = _reference_sample(lookup, "TinyStories")
        stories = [part.decode().split("\n\n") for part in parts]
        return _words([_stories(part) for part in stories], identity, vocabulary_size)
    other, _ = find_file(
        lookup, ("*/TinyStories-valid.txt*", "TinyStories-valid.txt*"), TINYSTORIES_VALID
    )
    content = read_bytes(path)
    text = content[:max_bytes].decode("utf-8", errors="ignore")
    stories = [story for story in text.split(END_OF_STORY) if story.strip()]
    held_out = None if other is None else read_bytes(other)
    if held_out is None:
        first, second = len(stories) * 8 // 10, len(stories) * 9 // 10
        splits = [stories[:first], stories[first:second], stories[second:]]
    else:
        held = [s for s in held_out.decode("utf-8").split(END_OF_STORY) if s.strip()]
        splits = [stories, held[: len(held) // 2], held[len(held) // 2 :]]
    whole = (
        held_out is not None
        and (max_bytes is None or len(content) <= max_bytes)
        and _is_published(content, TINYSTORIES_TRAIN)
        and _is_published(held_out, TINYSTORIES_VALID)
    )
    identity = DataIdentity(
        "tinystories", "", "whole" if whole else "part", _source(path, is_given, TINYSTORIES_TRAIN)
    )
    return _words([_stories(split) for split in splits], identity, vocabulary_size)


def _is_published(content: bytes, remote: RemoteFile) -> bool:
    return hashlib.sha256(content).hexdigest() == remote.sha256


def _source(path: Path, is_given: bool, remote: RemoteFile) -> str:
    return path.name if is_given else remote.url


def _given_text(lookup: Lookup, folder: str, split: str) -> bytes | None:
    patterns = [
        f"{folder}/{name}{end}"
        for name in (f"{split}.txt", f"wiki.{split}.tokens")
        for end in ("", ".gz")
    ]
    path = lookup.given(patterns)
    return None if path is None else read_bytes(path)


def _reference_sample(lookup: Lookup, wanted: str) -> tuple[list[bytes], DataIdentity]:
    """Returns the text of Python's language reference, which every interpreter carries."""
    if not lookup.may_sample:
        raise lookup.missing(wanted, "Give it with --data, or allow the download.")
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    text = "\n\n".join(topics[name] for name in sorted(topics)).encode()
    first, second = (_character_start(text, len(text) * share // 100) for share in (90, 95))
    name = f"python-reference-{platform.python_version()}"
    identity = DataIdentity(name, "", "sample", f"pydoc_data.topics, in place of {wanted}")
    return [text[:first], text[first:second], text[second:]], identity


def _character_start(text: bytes, place: int) -> int:
    """Returns the place, moved back to where its UTF-8 character begins."""
    while text[place] & 0xC0 == 0x80:
        place -= 1
    return place


def _lines(text: str) -> list[str]:
    return [word for line in text.splitlines() for word in (*line.lower().split(), "<eos>")]


def _stories(stories: Sequence[str]) -> list[str]:
    return [word for story in stories for word in (*words_of(story), "<eos>")]


def _bytes(parts: Sequence[bytes], identity: DataIdentity) -> TokenSet:
    splits = [torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in parts]
    return TokenSet(*splits, vocabulary_size=256, identity=_identified(identity, parts))


def _words(parts: list[list[str]], identity: DataIdentity, vocabulary_size: int) -> TokenSet:
    vocabulary, numbers = number_words(parts[0], parts, vocabulary_size)
    hashed = [" ".join(part).encode() for part in parts]
    identity = replace(
        _identified(identity, hashed),
        sizes={s: len(p) for s, p in zip(SPLITS, parts, strict=True)},
    )
    return TokenSet(*numbers, vocabulary_size=len(vocabulary), identity=identity, words=vocabulary)


def _identified(identity: DataIdentity, parts: Sequence[bytes]) -> DataIdentity:
    sizes = {split: len(part) for split, part in zip(SPLITS, parts, strict=True)}
    return replace(identity, sha256=hash_parts(parts), sizes=sizes)
