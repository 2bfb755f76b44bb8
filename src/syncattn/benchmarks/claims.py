"""The claims ledger: each published claim that can be checked, our figure, and a verdict."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from syncattn.benchmarks.records import Record
from syncattn.benchmarks.scores import (
    Interval,
    ScoreRow,
    ScoreTable,
    paired_interval,
    score_tables,
)

__all__ = ["CLAIMS", "Claim", "Measured", "Unchecked", "judge", "known_claims", "register_claim"]

Verdict = Literal[
    "holds", "holds in part", "not decided", "does not hold here", "does not hold", "not checked"
]


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
        documented_as_published: Whether that measurement is at the published settings: records of
            smaller ones then stand behind it.
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
    documented_as_published: bool = False
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
        By measurement, else by records, with the documented figure beside them, or behind it where
        it alone is at the published settings, else by the documentation, else the reason why not.
    """
    if claim.measure is not None and may_measure:
        return claim.measure()
    if claim.from_records is not None:
        try:
            found = claim.from_records(score_tables(records))
            if claim.documented is None:
                return found
            verdict, figure, page = claim.documented
            known = Measured(verdict, f"{figure} ({page})")
            if claim.documented_as_published and found.verdict not in {"holds", "does not hold"}:
                return _beside(known, found, "by records")
            return _beside(found, Measured(verdict, figure), f"in {page}")
        except Unchecked as missing:
            if claim.documented is None:
                return Measured("not checked", str(missing))
    if claim.documented is not None:
        verdict, figure, page = claim.documented
        return Measured(verdict, f"{figure} ({page})")
    if claim.measure is not None:
        return Measured("not checked", f"syncattn claims run {claim.name} measures it in seconds")
    return Measured("not checked", claim.why_not)


def _beside(found: Measured, other: Measured, where: str) -> Measured:
    differs = "" if other.verdict == found.verdict else f"{other.verdict}: "
    return Measured(found.verdict, f"{found.figure}; {where} {differs}{other.figure}")


def rows_of(
    tables: Sequence[ScoreTable], task: str, arms: Sequence[str]
) -> tuple[ScoreTable, dict[str, ScoreRow]]:
    """Returns the table of a task that has all wanted arms, the one with most seeds they share.

    Args:
        tables: Tables of records.
        task: Name of the task.
        arms: Names of the arms.

    Returns:
        The table, so that one recipe and one data are compared, and the rows by arm.

    Raises:
        Unchecked: If no table has them all, smoke runs not counted.
    """
    found: list[tuple[ScoreTable, dict[str, ScoreRow]]] = []
    seen: set[str] = set()
    for table in tables:
        if table.task != task or table.recipe.get("scale") == "smoke":
            continue
        rows = {row.arm: row for row in table.rows if row.control == "none" and row.arm in arms}
        seen |= rows.keys()
        if len(rows) == len(arms):
            found.append((table, rows))
    if found:
        return max(found, key=lambda pair: len(_shared(row.by_seed for row in pair[1].values())))
    missing = [arm for arm in arms if arm not in seen]
    what = f"record of {', '.join(missing)}" if missing else f"one recipe of {', '.join(arms)}"
    raise Unchecked(
        f"no {what} on {task}: run the laptop preset, or name its folder with --records"
    )


def _shared(scores: Iterable[Mapping[int, float]]) -> list[int]:
    return sorted(set.intersection(*(set(by_seed) for by_seed in scores)))


def between(first: Mapping[int, float], second: Mapping[int, float]) -> Interval | None:
    """Returns the difference of two scores over the seeds they share; None without one.

    Args:
        first: Scores by seed.
        second: Scores by seed, which are taken away.
    """
    seeds = _shared((first, second))
    return paired_interval([first[seed] - second[seed] for seed in seeds]) if seeds else None


def above(gap: Interval | None, margin: float = 0.0) -> bool | None:
    """Tells whether a difference is above a margin; None where its interval does not tell.

    Args:
        gap: The difference.
        margin: The margin.

    Returns:
        True where the whole interval lies above, False where it lies below, else None, as with one
        seed.
    """
    if gap is None or gap.low is None or gap.high is None or gap.low <= margin <= gap.high:
        return None
    return gap.low > margin


def below(gap: Interval | None, margin: float = 0.0) -> bool | None:
    """Tells whether a difference is below a margin; None where its interval does not tell.

    Args:
        gap: The difference.
        margin: The margin.
    """
    found = above(gap, margin)
    return None if found is None else not found


def concluded(parts: Sequence[bool | None], *tables: ScoreTable) -> Verdict:
    """Returns the verdict on a claim of several parts.

    Args:
        parts: Of every part whether it is shown; None where the seeds do not decide.
        tables: Where they come from.

    Returns:
        "holds" where all are shown at full scale; "holds in part" where some are and the others
        undecided, or the scale is another; "does not hold" where one is contradicted at full
        scale, "does not hold here" at another; else "not decided".
    """
    whole = all(
        table.recipe.get("scale") == "full" and table.data.get("extent") not in {"part", "sample"}
        for table in tables
    )
    if False in parts:
        return "does not hold" if whole else "does not hold here"
    if True not in parts:
        return "not decided"
    return "holds" if whole and None not in parts else "holds in part"


def made_of(*tables: ScoreTable) -> str:
    """Returns what data and what scale tables have, such as "on a part, at laptop size".

    Args:
        tables: The tables.

    Returns:
        Words; nothing about a whole set, or where the records do not tell.
    """
    found: dict[str, None] = {}
    for table in tables:
        extent, scale = table.data.get("extent"), table.recipe.get("scale")
        words = [f"on a {extent}"] if extent in {"part", "sample"} else []
        found[", ".join([*words, *([f"at {scale} size"] if scale else [])])] = None
    return "; ".join(words for words in found if words)


def told(gap: Interval | None, *, scale: float = 1.0, unit: str = "", digits: int = 2) -> str:
    """Returns a difference in words.

    Args:
        gap: The difference.
        scale: Multiplies the figures.
        unit: After them.
        digits: After the decimal point.

    Returns:
        Mean, interval where there is one, and number of seeds.

    Raises:
        Unchecked: If there is none.
    """
    if gap is None:
        raise Unchecked("no two runs to compare share a seed")
    ends = ""
    if gap.low is not None and gap.high is not None:
        ends = f" [{scale * gap.low:+.{digits}f}, {scale * gap.high:+.{digits}f}]"
    seeds = "1 seed" if gap.seeds == 1 else f"{gap.seeds} seeds"
    return f"{scale * gap.mean:+.{digits}f}{ends}{unit}, {seeds}"
