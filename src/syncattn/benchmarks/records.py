"""One record per run, one JSON line per record, read back past damaged lines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

from syncattn import _validation as check

__all__ = ["BITS_PER_BYTE", "Problem", "Record", "append_line", "append_record", "by_seed",
           "read_records"]  # fmt: skip

BITS_PER_BYTE = "bits per byte"

_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "dict[str, Any]": (dict,),
    "dict[str, str]": (dict,),
    "list[dict[str, Any]]": (list,),
    "None": (NoneType,),
}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one run was and what it came to.

    Attributes:
        task: The task's name.
        arm: The name under which the run stands in a table.
        mechanism: The mechanism of the arm.
        control: The control that was switched on, or "none".
        variant: The flags of the mechanism.
        seed: The seed.
        status: "ok" or "failed".
        failure: Why the run failed; None when it did not.
        parameters: Number of trained numbers; None if the model was never built.
        tokens: Training tokens seen.
        steps: Optimiser steps done.
        tokens_per_second: Training tokens per second.
        wall_seconds: Seconds of the whole run.
        peak_memory_bytes: Peak memory in bytes.
        valid_bits_per_byte: Cost of the validation text.
        test_bits_per_byte: Cost of the test text.
        test_perplexity: Perplexity per byte, 2 to the power of the bits; filled in when left out.
        metric: What the scores are, such as "accuracy".
        valid_score: The metric on the validation split; the bits per byte when left out.
        test_score: The metric on the test split, a number whenever the status is "ok"; the bits per
            byte when left out.
        scores: More figures of the test split, such as those of its groups.
        recipe: What the run shares with all arms of its task: sizes, steps, data limits.
        flops_per_token: Floating-point operations of the matrix products of a forward pass.
        trials: Learning rates that were tried before, with their validation scores.
        curve: Points of the learning curve, with `tokens` and `valid_bits_per_byte`.
        diagnostics: What was measured of the trained model.
        data: Identity of the data: at least `name`, `sha256`, and `whole`, False for a part of it.
        versions: Versions by package.
        commit: Commit of the code, or None.
        device: The device in words.
        command: The command that repeats the run.
        learning_rate: Peak learning rate.
        created: When the record was made: ISO 8601, UTC.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If status, failure, figures and data do not fit together.
    """

    task: str
    arm: str
    mechanism: str
    control: str = "none"
    variant: dict[str, Any] = field(default_factory=dict[str, Any])
    seed: int
    status: str = "ok"
    failure: str | None = None
    parameters: int | None = None
    tokens: int = 0
    steps: int = 0
    tokens_per_second: float | None = None
    wall_seconds: float | None = None
    peak_memory_bytes: int | None = None
    valid_bits_per_byte: float | None = None
    test_bits_per_byte: float | None = None
    test_perplexity: float | None = None
    metric: str = BITS_PER_BYTE
    valid_score: float | None = None
    test_score: float | None = None
    scores: dict[str, Any] = field(default_factory=dict[str, Any])
    recipe: dict[str, Any] = field(default_factory=dict[str, Any])
    flops_per_token: float | None = None
    trials: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    curve: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    diagnostics: dict[str, Any] = field(default_factory=dict[str, Any])
    data: dict[str, Any]
    versions: dict[str, str]
    commit: str | None
    device: str
    command: str
    learning_rate: float | None = None
    created: str = field(default_factory=_now)

    def __post_init__(self) -> None:
        """Checks types and consistency, and fills in the perplexity."""
        for entry in fields(self):
            _require_type(entry.name, str(entry.type), getattr(self, entry.name))
        for score, bits in (("valid_score", self.valid_bits_per_byte),
                            ("test_score", self.test_bits_per_byte)):  # fmt: skip
            if getattr(self, score) is None and self.metric == BITS_PER_BYTE:
                object.__setattr__(self, score, bits)
        _require_consistent(self)
        if self.test_bits_per_byte is None:
            return
        perplexity = _perplexity(self.test_bits_per_byte)
        if self.test_perplexity is None:
            object.__setattr__(self, "test_perplexity", perplexity)
        elif not math.isclose(self.test_perplexity, perplexity, rel_tol=1e-6):
            raise ValueError(
                f"`test_perplexity` must be 2 ** `test_bits_per_byte` = {perplexity:.6g}; got "
                f"{self.test_perplexity}. Leave it out."
            )


def _perplexity(bits: float) -> float:
    return 2.0**bits if bits < 1024 else math.inf


def _require_type(name: str, annotation: str, value: object) -> None:
    kinds = tuple(kind for part in annotation.split(" | ") for kind in _KINDS[part])
    right = isinstance(value, kinds) and not isinstance(value, bool)
    if right and name in {"curve", "trials"}:
        right = all(isinstance(point, dict) for point in value)  # type: ignore[union-attr]
    if not right:
        raise TypeError(
            f"`{name}` must be of type {annotation}; got {value!r}. Convert it before recording."
        )


def _require_consistent(record: Record) -> None:
    if record.status not in ("ok", "failed"):
        raise ValueError(f"`status` must be 'ok' or 'failed'; got {record.status!r}. Choose one.")
    failed = record.status == "failed"
    if failed != bool(record.failure):
        raise ValueError(
            f"`failure` must say why exactly when `status` is 'failed'; got {record.failure!r} "
            f"with {record.status!r}. Set both or neither."
        )
    score = record.test_score
    if not failed and (score is None or not math.isfinite(score)):
        name = "test_bits_per_byte" if record.metric == BITS_PER_BYTE else "test_score"
        raise ValueError(
            f"`{name}` must be a finite number when `status` is 'ok'; got {score}. "
            "Record the run as failed."
        )
    identity = {"name": str, "sha256": str, "whole": bool}
    wrong = [key for key, kind in identity.items() if not isinstance(record.data.get(key), kind)]
    if wrong:
        raise ValueError(
            "`data` must tell `name` and `sha256` as text and `whole` as a boolean; got a wrong or "
            f"no {', '.join(wrong)}. Pass the identity of the corpus."
        )


class Problem(NamedTuple):
    """A line of a file of records that is not a record.

    Attributes:
        line: Number of the line, from 1.
        reason: What is wrong with it.
    """

    line: int
    reason: str


def _plain(value: Any) -> Any:
    """Returns a value JSON can hold; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if not isinstance(value, str | int | float | None) and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_record(path: str | os.PathLike[str], record: Record) -> None:
    """Adds a record to a file as one line, in one write that has reached the disk on return.

    A line that an interrupted writer left unfinished is closed first, so that it spoils no other.

    Args:
        path: The file; it and its folders are made if missing.
        record: The record. Numbers that are not finite are written as null.

    Raises:
        OSError: If the line cannot be written as a whole.
        TypeError: If the record holds a value that JSON cannot.
    """
    append_line(path, asdict(record))


def append_line(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Adds values to a file of JSON lines; see `append_record`.

    Args:
        path: The file; it and its folders are made if missing.
        values: Numbers, text, lists and dictionaries.

    Raises:
        OSError: If the line cannot be written as a whole.
        TypeError: If there is a value that JSON cannot hold.
    """
    try:
        line = json.dumps(_plain(values), allow_nan=False).encode() + b"\n"
    except TypeError as error:
        raise TypeError(
            f"`record` must hold numbers, text, lists and dictionaries; got {error}. Convert it."
        ) from error
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+", buffering=0) as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                line = b"\n" + line
        if stream.write(line) != len(line):
            raise OSError(f"`path` must take a whole line; {path} did not. Free some space.")
        stream.flush()
        os.fsync(stream.fileno())


def by_seed(records: Iterable[Record]) -> dict[int, Record]:
    """Returns the run that counts for each seed: the last that ended well, else the last failure.

    Args:
        records: Runs of the same settings, earlier ones first.
    """
    found: dict[int, Record] = {}
    for record in records:
        earlier = found.get(record.seed)
        if earlier is None or record.status == "ok" or earlier.status != "ok":
            found[record.seed] = record
    return found


def _parse(line: bytes) -> Record:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not a whole JSON line: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"not a JSON object but {type(values).__name__}")
    known = {entry.name for entry in fields(Record)}
    unknown = sorted(str(key) for key in values.keys() - known)
    if unknown:
        raise ValueError(f"unknown fields: {', '.join(unknown)}")
    return Record(**values)


def read_records(path: str | os.PathLike[str]) -> tuple[list[Record], list[Problem]]:
    """Reads a file of records; a bad line is reported and the others are kept.

    Args:
        path: The file.

    Returns:
        The records in the order of the file, and the problems met.

    Raises:
        TypeError: If `path` is neither a text nor a path.
        ValueError: If it holds a null character, or is a folder.
        OSError: If the file cannot be read.
    """
    check.require_path(path)
    if Path(path).is_dir():
        raise ValueError(
            f"`path` must be a file of records; got the folder {str(path)!r}. Pass the "
            f"records.jsonl in it."
        )
    records: list[Record] = []
    problems: list[Problem] = []
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(_parse(line))
        except (TypeError, ValueError, RecursionError) as error:
            problems.append(Problem(number, str(error)))
    return records, problems
