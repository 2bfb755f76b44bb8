"""Subject–verb agreement as labelled sets: published, corrected, and from natural text."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from syncattn._typing import Int, Tensor
from syncattn.data.agreement import NOUNS, PREPOSITIONS, VERBS, AgreementTask
from syncattn.data.examples import Examples, LabelledSet, hash_examples
from syncattn.data.sources import DataIdentity, Lookup, hash_parts, read_bytes
from syncattn.data.words import number_words

__all__ = [
    "CorrectedAgreement",
    "load_agreement_natural",
    "load_agreement_v1",
    "load_agreement_v2",
    "overlap",
]

_SPLITS = ("train", "valid", "test")
_LONGEST = 48
_Row = tuple[str, list[str]]
"""Tag of the verb, and the words before it."""


def load_agreement_v1(sizes: tuple[int, int, int] = (40_000, 4_000, 4_000)) -> LabelledSet:
    """Returns the published synthetic set, its undecidable nouns and its overlap included.

    Args:
        sizes: Sentences in train, valid and test.

    Returns:
        Sentences to judge at the verb; the groups are easy and hard ones.
    """
    task = AgreementTask()
    splits: list[Examples] = []
    for seed, size in enumerate(sizes, start=1):
        drawn = task.split(size, seed)
        splits.append(
            Examples(drawn.input_ids, drawn.attention_mask, drawn.verb, drawn.label,
                     drawn.hard.long())
        )  # fmt: skip
    identity = DataIdentity(
        "agreement-v1", hash_examples(*splits), "generated", "templates of arXiv 2606.12059",
        dict(zip(_SPLITS, sizes, strict=True)),
    )  # fmt: skip
    return LabelledSet(
        *splits, num_labels=2, identity=identity, groups=("easy", "hard"),
        vocabulary_size=len(task.vocabulary), ceiling=task.ceiling,
    )  # fmt: skip


@dataclass(frozen=True)
class CorrectedAgreement:
    """Sentences whose words are stems and endings, with 0 to 3 attractors.

    "the N [-s] (preposition the N [-s])* V [-s] .": the ending of the subject tells its number and
    that of the verb whether it agrees. No stem of a noun or verb stands in two splits, so that
    neither pairs of words nor sentences can be learned by heart; an attractor is a noun of the
    other number between subject and verb.

    Attributes:
        most_attractors: Largest number of attractors, and of nouns in between.
        shares_stems: Whether every split has all stems instead, as natural text does.
    """

    most_attractors: int = 3
    shares_stems: bool = False

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Every stem, ending and sign once; its place is its number."""
        nouns, verbs = (
            tuple(f"{stem}/{kind}" for stem in stems)
            for kind, stems in (("noun", self._nouns), ("verb", VERBS))
        )
        return ("<pad>", "<bos>", "the", ".", "-s", *PREPOSITIONS, *nouns, *verbs)

    @property
    def ceiling(self) -> float:
        """Largest accuracy that any reader can expect: every subject shows its number."""
        shown = sum(self._form(0, False) != self._form(0, True) for _ in self._nouns)
        return shown / len(self._nouns) + (1 - shown / len(self._nouns)) / 2

    def split(self, name: str, size: int) -> Examples:
        """Returns the sentences of a split.

        Args:
            name: ``"train"``, ``"valid"`` or ``"test"``.
            size: How many.

        Returns:
            Sentences to judge at the verb's last token; the group is the number of attractors.
        """
        # Python promises the same numbers for a string seed on every version.
        draw = random.Random(f"agreement-v2/{name}")
        nouns = self._share(len(self._nouns), name)
        verbs = self._share(len(VERBS), name)
        rows: list[list[int]] = []
        labels: list[int] = []
        groups: list[int] = []
        for _ in range(size):
            row, label, attractors = self._sentence(draw, nouns, verbs)
            rows.append(row)
            labels.append(label)
            groups.append(attractors)
        return _padded(rows, [len(row) - 2 for row in rows], labels, groups, self.longest)

    @property
    def longest(self) -> int:
        """Tokens of the longest sentence."""
        return 4 + 4 * self.most_attractors + 3

    def _sentence(
        self, draw: random.Random, nouns: range, verbs: range
    ) -> tuple[list[int], int, int]:
        below = draw.randrange
        attractors = below(self.most_attractors + 1)
        between = attractors + below(self.most_attractors + 1 - attractors)
        plural, agrees = below(2), below(2)
        others = [1 - plural] * attractors + [plural] * (between - attractors)
        draw.shuffle(others)
        row = [self._number["<bos>"], *self._phrase(nouns[below(len(nouns))], bool(plural))]
        for other in others:
            row.append(self._number[PREPOSITIONS[below(len(PREPOSITIONS))]])
            row += self._phrase(nouns[below(len(nouns))], bool(other))
        row.append(self._number[f"{VERBS[verbs[below(len(verbs))]]}/verb"])
        # A singular subject takes the ending, a plural one takes none.
        if agrees != plural:
            row.append(self._number["-s"])
        return [*row, self._number["."]], agrees, attractors

    def _phrase(self, noun: int, plural: bool) -> list[int]:
        return [self._number["the"], *self._form(noun, plural)]

    def _form(self, noun: int, plural: bool) -> list[int]:
        stem = self._number[f"{self._nouns[noun]}/noun"]
        return [stem, self._number["-s"]] if plural else [stem]

    @cached_property
    def _nouns(self) -> tuple[str, ...]:
        return (*NOUNS, "writer", "neighbor")

    @cached_property
    def _number(self) -> dict[str, int]:
        return _numbers(self.vocabulary)

    def _share(self, count: int, split: str) -> range:
        """Returns the stems of a split: two thirds, a sixth and a sixth, or all of them."""
        if self.shares_stems:
            return range(count)
        cuts = (0, count * 4 // 6, count * 5 // 6, count)
        place = _SPLITS.index(split)
        return range(cuts[place], cuts[place + 1])


def load_agreement_v2(sizes: tuple[int, int, int] = (40_000, 4_000, 4_000)) -> LabelledSet:
    """Returns the corrected synthetic set.

    Args:
        sizes: Sentences in train, valid and test.

    Returns:
        Sentences to judge at the verb; the groups are numbers of attractors.
    """
    task = CorrectedAgreement()
    splits = [task.split(name, size) for name, size in zip(_SPLITS, sizes, strict=True)]
    identity = DataIdentity(
        "agreement-v2", hash_examples(*splits), "generated", "templates, corrected",
        dict(zip(_SPLITS, sizes, strict=True)),
    )  # fmt: skip
    return LabelledSet(
        *splits, num_labels=2, identity=identity, groups=("0", "1", "2", "3"),
        vocabulary_size=len(task.vocabulary), ceiling=task.ceiling,
    )  # fmt: skip


def load_agreement_natural(lookup: Lookup, *, most_test_rows: int = 1_000) -> LabelledSet:
    """Returns the number prediction of Linzen et al. (2016): singular or plural verb to come.

    Args:
        lookup: Where to look; a folder `agreement/linzen2016` or `linzen2016` with `numpred.val`
            and `numpred.test.1` to `.5`.
        most_test_rows: Most rows of each number of attractors, the first ones.

    Returns:
        The words before the verb, the last 48 of them; rows that also stand in test are left out of
        valid, and those of valid or test out of train. The groups are numbers of attractors; those
        of train and valid are not counted. A part of the set, because its training file is
        published without a checksum. The sample is made of templates.

    Raises:
        MissingDataError: If it is nowhere and no sample may stand in.

    References:
        | Assessing the Ability of LSTMs to Learn Syntax-Sensitive Dependencies (Linzen et al.,
          2016)
    """
    found: dict[str, list[_Row]] = {}
    for name in ("val", *(f"test.{n}" for n in range(1, 6))):
        patterns = [
            f"{folder}numpred.{name}{end}"
            for folder in ("agreement/linzen2016/", "linzen2016/", "")
            for end in ("", ".gz")
        ]
        path = lookup.given(patterns)
        if path is not None:
            found[name] = _number_rows(read_bytes(path).decode("utf-8"))
    if "val" not in found or len(found) < 2:
        return _natural_sample(lookup)
    rows = found.pop("val")
    cut = len(rows) * 9 // 10
    tested = [(row, int(n[-1])) for n in sorted(found) for row in found[n][:most_test_rows]]
    return _natural(rows[:cut], rows[cut:], tested)


def _natural(
    train: list[_Row],
    valid: list[_Row],
    test: list[tuple[_Row, int]],
) -> LabelledSet:
    words = [[w for _, line in part for w in line] for part in (train, valid)]
    vocabulary, _ = number_words(words[0], [], 10_004)
    number = _numbers(vocabulary)
    unknown = number["<unk>"]

    def examples(rows: Sequence[_Row], groups: Sequence[int]) -> Examples:
        ids = [[number.get(w, unknown) for w in line[-_LONGEST:]] for _, line in rows]
        labels = [int(tag == "VBP") for tag, _ in rows]
        return _padded(ids, [len(row) - 1 for row in ids], labels, groups, _LONGEST)

    # Short beginnings recur in natural text: what is held out must not be learned by heart.
    tested = examples([row for row, _ in test], [group for _, group in test])
    known = {tuple(row) for row in tested.inputs.tolist()}

    def new(rows: list[_Row]) -> tuple[list[_Row], Examples]:
        split = examples(rows, [0] * len(rows))
        kept = [i for i, row in enumerate(split.inputs.tolist()) if tuple(row) not in known]
        known.update(tuple(row) for row in split.inputs.tolist())
        return [rows[i] for i in kept], split.part(torch.tensor(kept, dtype=torch.long))

    valid, chosen_by = new(valid)
    train, learned = new(train)
    splits = (learned, chosen_by, tested)
    text = ["\n".join(f"{tag} {' '.join(line)}" for tag, line in part).encode()
            for part in (train, valid, [row for row, _ in test])]  # fmt: skip
    identity = DataIdentity(
        "linzen2016-number-prediction", hash_parts(text), "part",
        "numpred.val to train and choose, numpred.test.1 to .5 to test",
        {name: split.size for name, split in zip(_SPLITS, splits, strict=True)},
    )  # fmt: skip
    return LabelledSet(
        *splits, num_labels=2, identity=identity,
        groups=("not counted", "1", "2", "3", "4", "5"), vocabulary_size=len(vocabulary),
    )  # fmt: skip


def _natural_sample(lookup: Lookup) -> LabelledSet:
    if not lookup.may_sample:
        raise lookup.missing(
            "number prediction", "Give the folder `linzen2016` with numpred.val and numpred.test.1."
        )
    task = CorrectedAgreement(shares_stems=True)
    parts: list[list[_Row]] = []
    groups: list[list[int]] = []
    for name, size in zip(_SPLITS, (2_000, 400, 400), strict=True):
        drawn = task.split(name, size)
        rows: list[_Row] = []
        for ids, place, label in zip(drawn.inputs, drawn.place, drawn.label, strict=True):
            words = [task.vocabulary[i] for i in ids.tolist()]
            # The verb itself is what is to be told, so it is left out.
            spoken = words[int(place)] == "-s"
            plural = bool(label) != spoken
            rows.append(("VBP" if plural else "VBZ", words[1 : int(place) - int(spoken)]))
        parts.append(rows)
        groups.append(drawn.group.tolist())
    made = _natural(parts[0], parts[1], list(zip(parts[2], groups[2], strict=True)))
    identity = replace(
        made.identity, name="agreement-templates", extent="sample",
        source="templates, in place of Linzen et al. (2016)",
    )  # fmt: skip
    return replace(made, identity=identity, groups=("0", *made.groups[1:]))


def _number_rows(text: str) -> list[_Row]:
    rows = [line.split("\t", 1) for line in text.splitlines() if "\t" in line]
    return [(tag, words.split()) for tag, words in rows if tag in {"VBZ", "VBP"} and words.split()]


def _padded(
    rows: list[list[int]],
    places: list[int],
    labels: list[int],
    groups: Sequence[int],
    length: int,
) -> Examples:
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = True
    columns = (places, labels, list(groups))
    place, label, group = (torch.tensor(c, dtype=torch.long) for c in columns)
    return Examples(ids, mask, place, label, group)


def _numbers(vocabulary: Sequence[str]) -> dict[str, int]:
    return {word: i for i, word in enumerate(vocabulary)}


def overlap(left: Int[Tensor, "a length"], right: Int[Tensor, "b length"]) -> float:
    """Returns the share of rows on the right that stand on the left too.

    Args:
        left: Rows to look among.
        right: Rows to look for.

    Returns:
        Between 0 and 1.
    """
    known = {tuple(row) for row in left.tolist()}
    return sum(tuple(row) in known for row in right.tolist()) / max(1, len(right))
