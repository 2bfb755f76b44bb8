"""Corpora as bytes: loaded, split and identified; batches that are pure functions of a step."""

from __future__ import annotations

import hashlib
import os
import platform
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Integer, UInt8

from syncattn import _validation as check
from syncattn._typing import Int, Tensor
from syncattn.data.files import NotTextError, list_files, read_text, unreadable

__all__ = ["Corpus", "CorpusIdentity", "evaluation_batches", "load_corpus", "training_batch"]

_SPLITS = ("train", "valid", "test")
# Tests, packaging and tables: long, repetitive, and different from one distribution to the next.
_NOT_STANDARD_LIBRARY = frozenset(
    "site-packages dist-packages test tests idlelib turtledemo lib2to3 ensurepip encodings "
    "pydoc_data __pycache__".split()
)
_BY_FILE = (
    "by file: sha1 of the relative path, modulo 100: below 5 test, below 10 valid, else train"
)
_IN_ORDER = "in order: 90 % train, 5 % valid, 5 % test, cut at line ends where there are any"


@dataclass(frozen=True)
class CorpusIdentity:
    """What a corpus is, so that two results can be known to rest on the same bytes.

    Attributes:
        name: A short name.
        sha256: Of the bytes of train, valid and test, one after the other.
        num_bytes: Bytes in each split.
        num_files: Files that went into it.
        num_skipped: Files passed over because they are empty or not UTF-8 text.
        whole: False when `max_bytes` cut it.
        split: How the bytes were split, in words.
        source: Where it came from: the path as given, or the interpreter.
    """

    name: str
    sha256: str
    num_bytes: dict[str, int]
    num_files: int
    num_skipped: int
    whole: bool
    split: str
    source: str

    def as_dict(self) -> dict[str, Any]:
        """Returns the identity as plain values that JSON can hold."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Three disjoint splits of one text, a token being a byte.

    Attributes:
        train: Bytes to learn from.
        valid: Bytes to choose by.
        test: Bytes to read once, at the end.
        identity: What the bytes are.
    """

    train: UInt8[Tensor, " train_bytes"]
    valid: UInt8[Tensor, " valid_bytes"]
    test: UInt8[Tensor, " test_bytes"]
    identity: CorpusIdentity


def load_corpus(
    path: str | Path | None = None, *, context_length: int, max_bytes: int | None = None
) -> Corpus:
    """Loads a text as bytes and splits it into train, valid and test.

    Without a path the text is the source of the standard library of the running interpreter,
    split by file. A file is split 90/5/5 in order. A folder gives every text file below it, split
    by file where that leaves train three quarters of the bytes and the others a hundredth each,
    else in order.

    Args:
        path: A UTF-8 file, plain or `.gz`, or a folder of such files. Hidden files, and in a
            folder also empty files and files that are not text, are passed over.
        context_length: Bytes a model sees at once; every split holds at least one more.
        max_bytes: Most bytes to use: the head of a text split in order, the head of each split
            in proportion when it is split by file. None uses everything.

    Returns:
        The corpus; the same bytes on every machine that has the same files.

    Raises:
        ValueError: If the path is missing, unreadable, empty, not text, or too short for the
            context; or if `context_length` or `max_bytes` is not positive.
        RuntimeError: If `path` is None and the interpreter comes without its source.
    """
    check.require_integer(context_length, "context_length", minimum=1)
    if max_bytes is not None:
        check.require_integer(max_bytes, "max_bytes", minimum=1)
    if path is not None:
        check.require_path(path)
    found = _standard_library() if path is None else _from_path(path, max_bytes)
    total = sum(len(content) for _, content in found.parts)
    limit = total if max_bytes is None else min(total, max_bytes)
    splits, how = _split_by_file(found.parts, limit), _BY_FILE
    if not _is_balanced(splits, context_length):
        splits, how = (
            _split_in_order(b"".join(content for _, content in found.parts), limit),
            _IN_ORDER,
        )
    _require_long_enough(splits, context_length, found.source)
    identity = CorpusIdentity(
        name=found.name,
        sha256=hashlib.sha256(b"".join(splits)).hexdigest(),
        num_bytes=dict(zip(_SPLITS, map(len, splits), strict=True)),
        num_files=len(found.parts),
        num_skipped=found.num_skipped,
        whole=found.whole and limit == total,
        split=how,
        source=found.source,
    )
    train, valid, test = (torch.frombuffer(bytearray(s), dtype=torch.uint8) for s in splits)
    return Corpus(train, valid, test, identity)


def training_batch(
    split: Integer[Tensor, " tokens"], *, batch_size: int, context_length: int, seed: int, step: int
) -> Int[Tensor, "batch window"]:
    """Returns the windows of a training step, a pure function of the seed and the step.

    Nothing is remembered between calls, so a run resumes anywhere, and every model sees the same
    bytes in the same order. Offsets are uniform and drawn with replacement.

    Args:
        split: Bytes to draw from, uint8.
        batch_size: Windows in a batch.
        context_length: Bytes a model sees; a window has one more, the last target.
        seed: Seed of the order.
        step: Step of the training, from 0.

    Returns:
        Windows of `context_length` + 1 bytes, int64.

    Raises:
        ValueError: If the split is shorter than one window, or a size is not positive.
    """
    _require_window(split, batch_size, context_length)
    # Python promises the same numbers for a string seed on every version; torch does not.
    draw = random.Random(f"{seed}/{step}")
    choices = split.shape[0] - context_length
    offsets = torch.tensor([draw.randrange(choices) for _ in range(batch_size)])
    return split[offsets[:, None] + torch.arange(context_length + 1)].long()


def evaluation_batches(
    split: Integer[Tensor, " tokens"],
    *,
    batch_size: int,
    context_length: int,
    max_tokens: int | None = None,
) -> Iterator[Int[Tensor, "batch window"]]:
    """Yields consecutive windows whose targets cover the head of a split, each byte once.

    Neighbouring windows share one byte, a target in the first and an input in the second. Only
    the first byte of the split is never predicted. The last window may be shorter; it comes alone.

    Args:
        split: Bytes to evaluate on, uint8.
        batch_size: Most windows in a batch.
        context_length: Targets of a whole window.
        max_tokens: Most targets in all; None takes the whole split.

    Yields:
        Windows of at most `context_length` + 1 bytes, int64.

    Raises:
        ValueError: If the split is shorter than one window, or a size is not positive.
    """
    _require_window(split, batch_size, context_length)
    if max_tokens is not None:
        check.require_integer(max_tokens, "max_tokens", minimum=1)
    available = split.shape[0] - 1
    targets = available if max_tokens is None else min(available, max_tokens)
    whole = targets // context_length * context_length
    if whole:
        windows = split[: whole + 1].unfold(0, context_length + 1, context_length)
        for batch in windows.split(batch_size):
            yield batch.long()
    if whole < targets:
        yield split[None, whole : targets + 1].long()


class _Found(NamedTuple):
    """Texts before they are split: relative path and content, in order."""

    name: str
    source: str
    parts: list[tuple[str, bytes]]
    num_skipped: int = 0
    whole: bool = True


def _standard_library() -> _Found:
    version = f"{platform.python_implementation()} {platform.python_version()}"
    root = Path(sysconfig.get_path("stdlib"))
    parts: list[tuple[str, bytes]] = []
    skipped = 0
    for name, path in list_files(root, skip=_NOT_STANDARD_LIBRARY) if root.is_dir() else []:
        if not name.endswith(".py") or _is_built(name):
            continue
        try:
            content = read_text(path).content
        except NotTextError:
            content = b""
        skipped += not content
        if content:
            header = f"# file: Lib/{name}\n".encode()
            parts.append((f"Lib/{name}", header + _with_newline(content)))
    if not parts:
        raise RuntimeError(
            "The interpreter must come with the source of its standard library when `path` is "
            f"None; got {version} without any below {str(root)!r}. Give `path` a text file or a "
            "folder of text files."
        )
    name = f"python-stdlib-{platform.python_version()}"
    return _Found(name, f"standard library of {version}", parts, skipped)


def _is_built(name: str) -> bool:
    """Tells what the build wrote for one machine from source, which is the same everywhere."""
    return name.startswith(("_sysconfigdata", "config-"))


def _from_path(path: str | Path, max_bytes: int | None) -> _Found:
    if not str(path):
        raise ValueError("`path` must name a file or a folder; got ''. Give None for the default.")
    root = Path(path).expanduser()
    try:
        is_folder = root.is_dir()
        name = root.absolute().name or str(root)
        found = _folder(root) if is_folder else _file(root, max_bytes)
    except OSError as error:
        raise unreadable(root, error) from error
    if not found[0]:
        what = "a folder without a UTF-8 text in it" if is_folder else "an empty file"
        raise ValueError(
            f"`path` must hold text; got {str(path)!r}, {what}. Give a longer text, or None for "
            "the standard library of Python."
        )
    return _Found(name, str(path), *found)


def _file(path: Path, max_bytes: int | None) -> tuple[list[tuple[str, bytes]], int, bool]:
    content, whole = read_text(path, max_bytes=max_bytes)
    return ([(path.name, content)] if content else []), 0, whole


def _folder(root: Path) -> tuple[list[tuple[str, bytes]], int, bool]:
    parts: list[tuple[str, bytes]] = []
    files = list_files(root)
    refusal: NotTextError | None = None
    for name, path in files:
        try:
            content = read_text(path).content
        except NotTextError as error:
            refusal = refusal or error
            continue
        if content:
            parts.append((name, _with_newline(content)))
    if refusal is not None and not parts:
        raise refusal
    return parts, len(files) - len(parts), True


def _with_newline(content: bytes) -> bytes:
    return content if content.endswith(b"\n") else content + b"\n"


def _split_by_file(parts: list[tuple[str, bytes]], limit: int) -> tuple[bytes, bytes, bytes]:
    chosen: dict[str, list[bytes]] = {split: [] for split in _SPLITS}
    for name, content in parts:
        # Not for security; fsencode because a file name need not be UTF-8.
        bucket = int(hashlib.sha1(os.fsencode(name), usedforsecurity=False).hexdigest(), 16) % 100
        chosen["test" if bucket < 5 else "valid" if bucket < 10 else "train"].append(content)
    train, valid, test = (b"".join(chosen[split]) for split in _SPLITS)
    total = len(train) + len(valid) + len(test)
    if limit == total:
        return train, valid, test
    return (
        _head(train, len(train) * limit // total),
        _head(valid, len(valid) * limit // total),
        _head(test, len(test) * limit // total),
    )


def _is_balanced(splits: tuple[bytes, bytes, bytes], context_length: int) -> bool:
    """Tells whether a split by file, which only chance sizes, can be trained and judged on."""
    total = sum(map(len, splits))
    smallest = max(context_length + 1, total // 100)
    return min(map(len, splits)) >= smallest and len(splits[0]) >= total * 3 // 4


def _split_in_order(content: bytes, limit: int) -> tuple[bytes, bytes, bytes]:
    content = content[: _cut(content, limit, reach=0)]
    # At most half of a small split may move to its neighbour.
    reach = len(content) // 40
    first = _cut(content, len(content) * 90 // 100, reach)
    second = _cut(content, len(content) * 95 // 100, reach)
    return content[:first], content[first:second], content[second:]


def _head(content: bytes, size: int) -> bytes:
    return content[: _cut(content, size, reach=size // 40)]


def _cut(content: bytes, target: int, reach: int) -> int:
    """Returns where to cut at or before `target`: at a line's end if near, else a character's."""
    newline = content.rfind(b"\n", target - reach, target)
    if newline >= 0:
        return newline + 1
    while 0 < target < len(content) and content[target] & 0xC0 == 0x80:
        target -= 1
    return target


def _require_long_enough(
    splits: tuple[bytes, bytes, bytes], context_length: int, source: str
) -> None:
    shortest = min(map(len, splits))
    if shortest > context_length:
        return
    sizes = ", ".join(f"{len(s)} for {name}" for name, s in zip(_SPLITS, splits, strict=True))
    raise ValueError(
        "The corpus must give every split at least `context_length` + 1 = "
        f"{context_length + 1} bytes; got {sum(map(len, splits))} bytes from {source!r}: {sizes}. "
        "Give a longer text, raise `max_bytes` if you set it, or lower `context_length`."
    )


def _require_window(split: Tensor, batch_size: int, context_length: int) -> None:
    check.require_integer(batch_size, "batch_size", minimum=1)
    check.require_integer(context_length, "context_length", minimum=1)
    check.require_counts(split, "split", "Pass a split of a corpus.")
    if split.dim() != 1:
        raise ValueError(f"`split` must have one axis; got shape {tuple(split.shape)}. Flatten it.")
    if split.shape[0] <= context_length:
        raise ValueError(
            f"`split` must have at least `context_length` + 1 = {context_length + 1} bytes; got "
            f"{split.shape[0]}. Give a longer text or lower `context_length`."
        )
