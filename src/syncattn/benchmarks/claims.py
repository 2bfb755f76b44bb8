"""The claims ledger: each published claim that can be checked, our figure, and a verdict."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from syncattn.benchmarks.records import Record
from syncattn.benchmarks.scores import ScoreRow, ScoreTable, score_tables

__all__ = ["CLAIMS", "Claim", "Measured", "Unchecked", "judge", "known_claims", "register_claim"]

Verdict = Literal["holds", "holds in part", "does not hold", "not checked"]


class Measured(NamedTuple):
    """What a claim came to.

    Attributes:
        verdict: The verdict.
        figure: Our figure, or why there is none.
    """

    verdict: Verdict
    figure: str


class Unchecked(Exception):
    """There is nothing to judge a claim by; the text says why."""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes:
        name: Its name in commands.
        claim: What is claimed, with the published figure.
        source: Where.
        command: What reproduces our figure.
        consequence: What we did about it.
        measure: Measures it in seconds; None where that takes a trained model.
        from_records: Judges it by records of the benchmark; None where none can tell.
        documented: A figure of an earlier measurement with the page of the documentation that has
            it; taken when nothing else judges.
        why_not: Why it is not checked, where nothing can judge it.
    """

    name: str
    claim: str
    source: str
    command: str
    consequence: str = ""
    measure: Callable[[], Measured] | None = None
    from_records: Callable[[Sequence[ScoreTable]], Measured] | None = None
    documented: tuple[Verdict, str, str] | None = None
    why_not: str = ""


CLAIMS: dict[str, Claim] = {}
"""Every claim by name."""


def register_claim(claim: Claim) -> None:
    """Adds a claim under its name.

    Args:
        claim: The claim.

    Raises:
        ValueError: If the name is taken, or nothing can ever judge the claim and no reason stands.
    """
    judges = (claim.measure, claim.from_records, claim.documented)
    if claim.name in CLAIMS or (not any(judges) and not claim.why_not):
        raise ValueError(
            f"`claim` must have a new name and a way to be judged, or say why not; got "
            f"{claim.name!r}. Add `why_not`."
        )
    CLAIMS[claim.name] = claim


def known_claims() -> dict[str, Claim]:
    """Returns all claims, those of the three papers among them."""
    # The claims register themselves when their modules are read.
    for name in ("selective", "oscillator", "phases"):
        importlib.import_module(f"syncattn.benchmarks.claims_{name}")
    return CLAIMS


def judge(claim: Claim, records: Sequence[Record], *, may_measure: bool) -> Measured:
    """Returns the verdict on a claim.

    Args:
        claim: The claim.
        records: Records of the benchmark; may be empty.
        may_measure: Whether seconds may be spent on measuring.

    Returns:
        By measurement, else by records, with the documented figure beside them, else by the
        documentation, else the reason why not.
    """
    if claim.measure is not None and may_measure:
        return claim.measure()
    if claim.from_records is not None:
        try:
            found = claim.from_records(score_tables(records))
            return found if claim.documented is None else _beside(found, *claim.documented)
        except Unchecked as missing:
            if claim.documented is None:
                return Measured("not checked", str(missing))
    if claim.documented is not None:
        verdict, figure, page = claim.documented
        return Measured(verdict, f"{figure} ({page})")
    if claim.measure is not None:
        return Measured("not checked", f"syncattn claims run {claim.name} measures it in seconds")
    return Measured("not checked", claim.why_not)


def _beside(found: Measured, verdict: str, figure: str, page: str) -> Measured:
    differs = "" if verdict == found.verdict else f"{verdict}: "
    return Measured(found.verdict, f"{found.figure}; in {page} {differs}{figure}")


def row_of(tables: Sequence[ScoreTable], task: str, arm: str, control: str = "none") -> ScoreRow:
    """Returns the row of an arm, from the table of a task with most seeds.

    Args:
        tables: Tables of records.
        task: Name of the task.
        arm: Name of the arm.
        control: Name of the control.

    Returns:
        The row.

    Raises:
        Unchecked: If no record has a score of it, smoke runs not counted.
    """
    rows = [
        row
        for table in tables
        if table.task == task and table.recipe.get("scale") != "smoke"
        for row in table.rows
        if (row.arm, row.control) == (arm, control) and row.by_seed
    ]
    if not rows:
        raise Unchecked(
            f"no record of {arm} on {task}: run the laptop preset, or name its folder with "
            f"--records"
        )
    return max(rows, key=lambda row: len(row.by_seed))


def made_of(tables: Sequence[ScoreTable], *rows: ScoreRow) -> str:
    """Returns what data and what scale some rows come from, such as "on a part, at laptop size".

    Args:
        tables: Tables of records.
        rows: Rows of theirs.

    Returns:
        Words; nothing about a whole set, or where the records do not tell.
    """
    found: dict[str, None] = {}
    for table in tables:
        if not any(row is other for row in rows for other in table.rows):
            continue
        extent, scale = table.data.get("extent"), table.recipe.get("scale")
        words = [f"on a {extent}"] if extent in {"part", "sample"} else []
        found[", ".join([*words, *([f"at {scale} size"] if scale else [])])] = None
    return "; ".join(words for words in found if words)


def told(row: ScoreRow, *, scale: float = 1.0, unit: str = "") -> str:
    """Returns a difference to softmax in words.

    Args:
        row: The row, whose difference is known.
        scale: Multiplies the figures.
        unit: After them.
    """
    gap = row.to_baseline
    if gap is None:
        raise Unchecked("no softmax run shares a seed with it")
    ends = ""
    if gap.low is not None and gap.high is not None:
        ends = f" [{scale * gap.low:+.2f}, {scale * gap.high:+.2f}]"
    return f"{scale * gap.mean:+.2f}{ends}{unit}, {gap.seeds} seeds"
