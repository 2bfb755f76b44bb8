"""Minimal pairs of subject–verb agreement (BLiMP), to be judged by a language model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from syncattn.data.agreement import NOUNS, PREPOSITIONS, VERBS
from syncattn.data.download import RemoteFile
from syncattn.data.sources import DataIdentity, Lookup, find_file, hash_parts, read_bytes

__all__ = ["PARADIGMS", "MinimalPairs", "load_blimp"]

PARADIGMS = (
    "distractor_agreement_relational_noun",
    "distractor_agreement_relative_clause",
    "irregular_plural_subject_verb_agreement_1",
    "irregular_plural_subject_verb_agreement_2",
    "regular_plural_subject_verb_agreement_1",
    "regular_plural_subject_verb_agreement_2",
)
BLIMP = RemoteFile(
    "https://raw.githubusercontent.com/alexwarstadt/blimp/master/BLiMP.zip",
    "172a1a714d72e72a89e8384dd531483f3d0f8a9aee3d33dccaf7992d8cecbb73",
    2_354_164,
)
PAIRS_PER_PARADIGM = 1_000


@dataclass(frozen=True)
class MinimalPairs:
    """Pairs of sentences of which the first is right.

    Attributes:
        pairs: Right and wrong sentence.
        paradigm: Number of the paradigm of each pair.
        paradigms: Their names.
        identity: What the data is.
    """

    pairs: tuple[tuple[str, str], ...]
    paradigm: tuple[int, ...]
    paradigms: tuple[str, ...]
    identity: DataIdentity


def load_blimp(lookup: Lookup) -> MinimalPairs:
    """Returns the six paradigms of subject–verb agreement.

    Args:
        lookup: Where to look; `BLiMP.zip`.

    Returns:
        1,000 pairs of each paradigm; with any other number the set is a part. The sample are pairs
        from templates.

    Raises:
        MissingDataError: If it is nowhere and no sample may stand in.
        ValueError: If the file is not BLiMP.

    References:
        | BLiMP: The Benchmark of Linguistic Minimal Pairs for English (Warstadt et al., 2020)
    """
    patterns = ("BLiMP.zip", "blimp/BLiMP.zip", "agreement/blimp/BLiMP.zip")
    path, is_given = find_file(lookup, patterns, BLIMP)
    if path is None:
        return _sample(lookup)
    found: list[tuple[int, tuple[str, str]]] = []
    for number, name in enumerate(PARADIGMS):
        try:
            text = read_bytes(path, f"data/{name}.jsonl").decode("utf-8")
            found += [(number, _pair(line)) for line in text.splitlines()]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"`BLiMP.zip` must hold its paradigms as JSON lines; {path} does not: {error}. "
                f"Fetch it again."
            ) from error
    extent = "whole" if len(found) == PAIRS_PER_PARADIGM * len(PARADIGMS) else "part"
    return _pairs(found, PARADIGMS, "blimp-agreement", extent,
                  path.name if is_given else BLIMP.url)  # fmt: skip


def _pair(line: str) -> tuple[str, str]:
    row: Any = json.loads(line)
    right, wrong = row["sentence_good"], row["sentence_bad"]
    if not (isinstance(right, str) and isinstance(wrong, str)):
        raise TypeError(f"a sentence is no text in {line!r}")
    return right, wrong


def _sample(lookup: Lookup) -> MinimalPairs:
    if not lookup.may_sample:
        raise lookup.missing("BLiMP", "Give BLiMP.zip with --data, or allow the download.")
    found: list[tuple[int, tuple[str, str]]] = []
    for i in range(200):
        noun, other, verb = NOUNS[i % len(NOUNS)], NOUNS[(i * 7 + 3) % len(NOUNS)], VERBS[i % 30]
        plural = i % 2
        subject = f"The {noun}{'s' if plural else ''}"
        if i % 4 >= 2:
            subject += f" {PREPOSITIONS[i % 7]} the {other}{'' if plural else 's'}"
        right, wrong = (verb, verb + "s") if plural else (verb + "s", verb)
        found.append((i % 4 // 2, (f"{subject} {right}.", f"{subject} {wrong}.")))
    return _pairs(
        found, ("plain", "distractor"), "agreement-pairs", "sample",
        "templates, in place of BLiMP",
    )  # fmt: skip


def _pairs(
    found: list[tuple[int, tuple[str, str]]],
    paradigms: tuple[str, ...],
    name: str,
    extent: str,
    source: str,
) -> MinimalPairs:
    pairs = tuple(pair for _, pair in found)
    digest = hash_parts(sentence.encode() for pair in pairs for sentence in pair)
    identity = DataIdentity(name, digest, extent, source, {"test": len(pairs)})  # pyright: ignore[reportArgumentType]
    return MinimalPairs(pairs, tuple(number for number, _ in found), paradigms, identity)
