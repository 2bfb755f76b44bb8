"""Subject–verb agreement from templates: as published, and without undecidable words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from syncattn import _validation as check
from syncattn._typing import Bool, Int, Tensor

__all__ = ["NOUNS", "PREPOSITIONS", "VERBS", "AgreementSplit", "AgreementTask"]

NOUNS = (
    "actor baker bird boy brother car cat chair clerk coach cook dancer doctor dog driver farmer "
    "father friend girl guard guest horse judge king lawyer leader nurse owner painter parent "
    "pilot player poet prince queen rider robot sailor singer sister soldier student teacher "
    "tiger tree uncle winner worker"
).split()
_UNDECIDABLE = ("fish", "deer")
_DECIDABLE = ("writer", "neighbor")
VERBS = (
    "answer arrive begin call come dance eat enter fall grow help jump laugh learn leave listen "
    "move play read rest run see sing sit sleep smile speak stay walk work"
).split()
PREPOSITIONS = "near behind beside above below with by".split()
_SPECIAL = ("<pad>", "<bos>", "<eos>", "the", ".")
_LENGTH = 9


class AgreementSplit(NamedTuple):
    """Sentences with the question whether the verb agrees with its subject.

    Attributes:
        input_ids: Words, padded on the right.
        attention_mask: True where a word is real.
        verb: Place of the verb in each sentence.
        label: 1 when the verb agrees with the subject.
        hard: True where a noun of the other number stands between subject and verb.
    """

    input_ids: Int[Tensor, "sentences length"]
    attention_mask: Bool[Tensor, "sentences length"]
    verb: Int[Tensor, " sentences"]
    label: Int[Tensor, " sentences"]
    hard: Bool[Tensor, " sentences"]


@dataclass(frozen=True)
class AgreementTask:
    """Forty percent "the N V .", sixty "the N preposition the N2 V ."; half of them agree.

    Fifty nouns, thirty verbs and seven prepositions. In the published form two nouns have one form
    for both numbers, so that the number of four percent of the subjects cannot be known; the
    corrected form replaces those two.

    Attributes:
        corrected: Whether every subject shows its number.

    References:
        | Attention by Synchronization in Coupled Oscillator Networks (arXiv 2606.12059), the
          agreement corpus; the words are ours
    """

    corrected: bool = False

    @property
    def nouns(self) -> tuple[tuple[str, str], ...]:
        """Singular and plural of every noun."""
        regular = tuple((noun, noun + "s") for noun in NOUNS)
        if self.corrected:
            return regular + tuple((noun, noun + "s") for noun in _DECIDABLE)
        return regular + tuple((noun, noun) for noun in _UNDECIDABLE)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every word once; its place is its number."""
        words = [*_SPECIAL, *PREPOSITIONS]
        for singular, plural in self.nouns:
            words += [singular, plural] if singular != plural else [singular]
        for verb in VERBS:
            words += [_third_person(verb), verb]
        return tuple(words)

    @property
    def ceiling(self) -> float:
        """Largest accuracy that any reader can expect: half of the undecidable are guessed."""
        undecidable = sum(singular == plural for singular, plural in self.nouns)
        return 1 - undecidable / len(self.nouns) / 2

    def split(self, size: int, seed: int) -> AgreementSplit:
        """Returns sentences drawn from a seed.

        Args:
            size: How many.
            seed: Of the draw.

        Returns:
            The sentences.

        Raises:
            TypeError: If `size` is not an integer.
            ValueError: If `size` is below 1.
        """
        check.require_integer(size, "size", minimum=1)
        number_of = {word: i for i, word in enumerate(self.vocabulary)}
        noun = torch.tensor([[number_of[w] for w in pair] for pair in self.nouns])
        verb = torch.tensor([[number_of[_third_person(v)], number_of[v]] for v in VERBS])
        preposition = torch.tensor([number_of[p] for p in PREPOSITIONS])
        generator = torch.Generator().manual_seed(seed)

        def draw(count: int) -> Tensor:
            return torch.randint(count, (size,), generator=generator)

        long = torch.rand(size, generator=generator) < 0.6
        plural, other_plural, label = draw(2), draw(2), draw(2)
        subject = noun[draw(len(noun)), plural]
        other = noun[draw(len(noun)), other_plural]
        spoken = verb[draw(len(verb)), torch.where(label == 1, plural, 1 - plural)]
        the, stop = number_of["the"], number_of["."]
        begin, end = number_of["<bos>"], number_of["<eos>"]
        short_form = _columns(size, begin, the, subject, spoken, stop, end, 0, 0, 0)
        long_form = _columns(
            size, begin, the, subject, preposition[draw(len(preposition))], the, other, spoken,
            stop, end,
        )  # fmt: skip
        ids = torch.where(long[:, None], long_form, short_form)
        return AgreementSplit(
            ids, ids != 0, torch.where(long, 6, 3), label, long & (plural != other_plural)
        )


def _third_person(verb: str) -> str:
    return verb + "s"


def _columns(size: int, *words: int | Tensor) -> Tensor:
    """Returns sentences of the given words, one column each."""
    assert len(words) == _LENGTH
    full = [w if isinstance(w, Tensor) else torch.full((size,), w) for w in words]
    return torch.stack(full, 1)
