"""Scores of the benchmark over seeds: means, paired intervals, and what changed between two."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.controls import CONTROLS
from syncattn.benchmarks.records import Record, by_seed
from syncattn.benchmarks.tables import Statistic, statistic

__all__ = ["Change", "Interval", "ScoreRow", "ScoreTable", "compare_scores", "paired_interval",
           "score_tables"]  # fmt: skip

BASELINE = "softmax"

# 0.975 quantiles of Student's t for 1 to 29 degrees of freedom.
_T = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157,
      2.228139, 2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922,
      2.093024, 2.085963, 2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529, 2.051831,
      2.048407, 2.045230)  # fmt: skip


class Interval(NamedTuple):
    """A mean difference over the seeds that two rows share.

    Attributes:
        mean: The mean.
        low: Lower end of the 95 percent t interval; None for one seed.
        high: Its upper end.
        seeds: Number of seeds.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; False for one seed, which tells nothing."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class ScoreRow:
    """An arm under a control, over its seeds.

    Attributes:
        arm: The arm.
        control: The control, or "none".
        by_seed: Score on the test split of every seed that ended well.
        groups: Mean scores of the groups of targets.
        groups_by_seed: Scores of the groups of targets, by group and seed.
        score: Mean and deviation over seeds; None when no seed ended well.
        to_baseline: Difference to softmax; None for softmax and where no seed is shared.
        to_arm: Difference of a control to the arm itself.
        failed: Runs that did not end well.
        not_learned: Runs that ended well below the task's threshold of having learned.
        parameters: Number of parameters.
        flops_per_token: Of the matrix products.
        learning_rate: The peak rate.
        tokens: Tokens seen in training.
        seconds: Mean wall time.
        peak_memory_bytes: Mean.
    """

    arm: str
    control: str
    by_seed: dict[int, float] = field(default_factory=dict[int, float])
    groups: dict[str, float] = field(default_factory=dict[str, float])
    groups_by_seed: dict[str, dict[int, float]] = field(default_factory=dict[str, dict[int, float]])
    score: Statistic | None = None
    to_baseline: Interval | None = None
    to_arm: Interval | None = None
    failed: int = 0
    not_learned: int = 0
    parameters: int | None = None
    flops_per_token: float | None = None
    learning_rate: float | None = None
    tokens: int | None = None
    seconds: float | None = None
    peak_memory_bytes: float | None = None


@dataclass(frozen=True)
class ScoreTable:
    """The rows that may be compared: one task, one data, one recipe.

    Attributes:
        task: The task.
        data: Identity of the data.
        metric: What the scores are.
        recipe: What all share.
        rows: Arms and controls.
        ceiling: Best expected score, where it is known.
    """

    task: str
    data: dict[str, Any]
    metric: str
    recipe: dict[str, Any]
    rows: list[ScoreRow]
    ceiling: float | None = None

    @property
    def title(self) -> str:
        """Task, data with the first digits of its hash, and whether it is whole."""
        extent = self.data.get("extent") or ("whole" if self.data["whole"] else "part")
        scale = self.recipe.get("scale")
        ending = f", scale {scale}" if scale else ""
        return f"{self.task}: {self.data['name']} ({extent}, {self.data['sha256'][:8]}){ending}"


def paired_interval(differences: Sequence[float]) -> Interval:
    """Returns the mean of paired differences and its 95 percent t interval.

    For n differences of mean m and sample deviation s it reaches from m - t s / sqrt(n) to
    m + t s / sqrt(n), where t is the 0.975 quantile of Student's distribution with n - 1 degrees of
    freedom: 12.7 for two, 4.30 for three, 2.78 for five. Of normal differences 95 percent of such
    intervals hold the true mean, however few they are. One difference has no interval.

    Args:
        differences: One difference per seed.

    Returns:
        The interval.
    """
    n, mean = len(differences), statistics.fmean(differences)
    if n < 2:
        return Interval(mean, None, None, n)
    half = _student(n - 1) * statistics.stdev(differences) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def _student(freedom: int) -> float:
    """Returns the 0.975 quantile of Student's t."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    # Cornish and Fisher's expansion about the normal quantile, here right to 1e-5.
    z = statistics.NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def score_tables(records: Iterable[Record]) -> list[ScoreTable]:
    """Groups records by task, data and recipe, then by arm and control over seeds.

    Different data, a whole and a part, or different recipes never share a table. A seed that ran
    twice counts once, as in `by_seed`.

    Args:
        records: Records of the benchmark, earlier ones first; others are passed over.

    Returns:
        Tables in the order of first appearance.
    """
    tables: dict[tuple[str, ...], dict[tuple[str, str], list[Record]]] = {}
    for record in records:
        if not record.recipe:
            continue
        # What was drawn or cut where, and by which sizes, tells two tables apart.
        settings = json.dumps([record.data, record.recipe], sort_keys=True)
        rows = tables.setdefault((record.task, record.metric, settings), {})
        rows.setdefault((record.arm, record.control), []).append(record)
    return [
        _table(task, metric, {name: by_seed(runs) for name, runs in rows.items()})
        for (task, metric, _), rows in tables.items()
    ]


def _table(
    task: str, metric: str, rows: Mapping[tuple[str, str], Mapping[int, Record]]
) -> ScoreTable:
    scores = {
        name: {seed: r.test_score for seed, r in sorted(runs.items()) if r.test_score is not None}
        for name, runs in rows.items()
    }
    first = next(iter(next(iter(rows.values())).values()))
    # Runs end in any order; what this package does not know stands last, as it came.
    arms = list(dict.fromkeys([*ARMS, *(arm for arm, _ in rows)]))
    controls = list(dict.fromkeys([*CONTROLS, *(control for _, control in rows)]))
    ordered = sorted(rows, key=lambda name: (arms.index(name[0]), controls.index(name[1])))
    ceilings = [r.scores["ceiling"] for runs in rows.values() for r in runs.values()
                if "ceiling" in r.scores]  # fmt: skip
    return ScoreTable(
        task, first.data, metric, first.recipe,
        [_row(arm, control, rows[arm, control], scores) for arm, control in ordered],
        ceilings[0] if ceilings else None,
    )  # fmt: skip


def _row(
    arm: str,
    control: str,
    runs: Mapping[int, Record],
    scores: Mapping[tuple[str, str], Mapping[int, float]],
) -> ScoreRow:
    good = [record for record in runs.values() if record.status == "ok"]
    own = dict(scores[arm, control])
    groups = _groups_by_seed(runs)
    return ScoreRow(
        arm=arm,
        control=control,
        by_seed=own,
        groups={name: statistics.fmean(values.values()) for name, values in groups.items()},
        groups_by_seed=groups,
        score=statistic(own.values()),
        to_baseline=_difference(own, scores, (BASELINE, "none"), (arm, control)),
        to_arm=_difference(own, scores, (arm, "none"), (arm, control)),
        failed=sum(record.status == "failed" for record in runs.values()),
        not_learned=sum(bool(record.scores.get("failed_to_learn")) for record in good),
        parameters=next((r.parameters for r in good), None),
        flops_per_token=next((r.flops_per_token for r in good), None),
        learning_rate=next((r.learning_rate for r in runs.values()), None),
        tokens=next((r.tokens for r in good), None),
        seconds=_mean(r.wall_seconds for r in good),
        peak_memory_bytes=_mean(r.peak_memory_bytes for r in good),
    )


def _difference(
    own: Mapping[int, float],
    scores: Mapping[tuple[str, str], Mapping[int, float]],
    other: tuple[str, str],
    name: tuple[str, str],
) -> Interval | None:
    if other == name:
        return None
    theirs = scores.get(other, {})
    shared = sorted(own.keys() & theirs.keys())
    return paired_interval([own[s] - theirs[s] for s in shared]) if shared else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _groups_by_seed(runs: Mapping[int, Record]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for seed, record in sorted(runs.items()):
        if record.status == "ok":
            for name, value in record.scores.get("by_group", {}).items():
                found.setdefault(name, {})[seed] = value
    return found


@dataclass(frozen=True)
class Change:
    """What became of one row between two sets of records.

    Attributes:
        title: Task and data.
        arm: The arm.
        control: The control.
        before: Score in the first set.
        after: Score in the second.
        difference: Second minus first, over the seeds both have.
        beyond_spread: Whether it is larger than the spread that two runs of different seeds have;
            None when neither set tells, with one seed each.
        changed: What else differs: versions, device, commit.
    """

    title: str
    arm: str
    control: str
    before: Statistic
    after: Statistic
    difference: Interval | None
    beyond_spread: bool | None
    changed: tuple[str, ...]


def compare_scores(
    before: Sequence[Record], after: Sequence[Record]
) -> tuple[list[Change], list[str]]:
    """Compares two sets of records row by row.

    Args:
        before: The first set.
        after: The second.

    Returns:
        A change for every row that both have, and a line for every table with rows that only one
        has: the rows themselves where both have the table, their number where one alone has it.
    """
    old, new = _by_name(score_tables(before)), _by_name(score_tables(after))
    changes = [
        _change(name, old[name], new[name], _conditions(before), _conditions(after))
        for name in old
        if name in new and old[name].score and new[name].score
    ]
    return changes, [*_lonely("first", old, new), *_lonely("second", new, old)]


_Name = tuple[str, str, str]


def _lonely(
    which: str, rows: Mapping[_Name, ScoreRow], others: Mapping[_Name, ScoreRow]
) -> list[str]:
    found: dict[str, dict[str, list[str]]] = {}
    for title, arm, control in (name for name in rows if name not in others):
        found.setdefault(title, {}).setdefault(arm, []).append(control)
    shared = {title for title, _, _ in others}
    lines: list[str] = []
    for title, arms in found.items():
        # Of a table that both have, the rows; of another one, how much there is of it.
        told = f"rows: {sum(map(len, arms.values()))}"
        if title in shared:
            told = "; ".join(_arm_with_controls(arm, arms[arm]) for arm in arms)
        lines.append(f"only in the {which}: {title}: {told}")
    return lines


def _arm_with_controls(arm: str, controls: Sequence[str]) -> str:
    if "none" not in controls:
        return f"{arm} with {', '.join(controls)}"
    others = [control for control in controls if control != "none"]
    return f"{arm}, also with {', '.join(others)}" if others else arm


def _by_name(tables: Sequence[ScoreTable]) -> dict[_Name, ScoreRow]:
    found: dict[_Name, ScoreRow] = {}
    for table in tables:
        # Recipes that differ make other rows; the number tells them apart where a title does not.
        sizes = {k: v for k, v in table.recipe.items() if k != "scale"}
        title = f"{table.title}, recipe {_short(sizes)}"
        found |= {(title, row.arm, row.control): row for row in table.rows}
    return found


def _short(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True)
    return f"{random.Random(text).getrandbits(24):06x}"


def _conditions(records: Sequence[Record]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"commit": set(), "device": set()}
    for record in records:
        found["commit"].add(str(record.commit))
        found["device"].add(record.device)
        for package, version in record.versions.items():
            found.setdefault(package, set()).add(version)
    return found


def _change(
    name: _Name,
    old: ScoreRow,
    new: ScoreRow,
    before: dict[str, set[str]],
    after: dict[str, set[str]],
) -> Change:
    assert old.score is not None and new.score is not None
    shared = sorted(old.by_seed.keys() & new.by_seed.keys())
    difference, moved = None, new.score.mean - old.score.mean
    if shared:
        # Seeds that only one has would move the mean without any change.
        difference = paired_interval([new.by_seed[s] - old.by_seed[s] for s in shared])
        moved = difference.mean
    spreads = [s for s in (old.score.deviation, new.score.deviation) if s is not None]
    # Two runs of different seeds differ by both deviations; where one is unknown it is the other.
    beyond = abs(moved) > math.hypot(spreads[0], spreads[-1]) if spreads else None
    changed = tuple(
        f"{key}: {', '.join(sorted(before.get(key, set())))} -> "
        f"{', '.join(sorted(after.get(key, set())))}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )
    return Change(*name, old.score, new.score, difference, beyond, changed)
