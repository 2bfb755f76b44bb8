"""Learning curves of several seeds as one: mean and deviation where all have a value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Curve", "CurveSummary", "summarize_curve", "summarize_curves"]


class Curve(NamedTuple):
    """The finite points of one seed, by rising tokens; `stopped` where one was not finite."""

    tokens: np.ndarray
    values: np.ndarray
    stopped: bool


class CurveSummary(NamedTuple):
    """The seeds of one arm: mean and sample deviation at the tokens that all of them have."""

    tokens: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray | None
    seeds: list[Curve]


def summarize_curve(name: str, points: Sequence[Mapping[str, Any]], value: str) -> CurveSummary:
    """Returns the mean curve of an arm.

    Args:
        name: The arm's name, for the error.
        points: Points with `tokens`, the value, and `seed` where there are several; those without
            the value are passed over.
        value: The key of the value.

    Returns:
        The summary; the deviation is None for one seed.

    Raises:
        ValueError: If no point has a finite value.
    """
    by_seed: dict[Any, list[Mapping[str, Any]]] = {}
    for point in points:
        if "tokens" in point and value in point:
            by_seed.setdefault(point.get("seed"), []).append(point)
    seeds = [_curve(run, value) for run in by_seed.values()]
    drawable = [seed for seed in seeds if seed.tokens.size]
    if not drawable:
        raise ValueError(
            f"`curves` must hold a point with `tokens` and a finite `{value}` for every mechanism; "
            f"got {len(points)} points and none such for {name!r}. Leave that mechanism out."
        )
    everywhere = set.intersection(*(set(seed.tokens.tolist()) for seed in drawable))
    shared = np.array(sorted(everywhere))
    values = np.array([seed.values[np.isin(seed.tokens, shared)] for seed in drawable])
    deviation = values.std(axis=0, ddof=1) if len(drawable) > 1 else None
    return CurveSummary(shared, values.mean(axis=0), deviation, seeds)


def summarize_curves(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], value: str
) -> dict[str, CurveSummary]:
    """Returns the mean curve of every arm that has one; damaged and empty ones are left out.

    Args:
        curves: Points by arm.
        value: The key of the value.

    Returns:
        Summaries by arm.
    """
    found: dict[str, CurveSummary] = {}
    for name, points in curves.items():
        try:
            found[name] = summarize_curve(name, points, value)
        except (TypeError, ValueError):
            continue
    return found


def _curve(points: Sequence[Mapping[str, Any]], value: str) -> Curve:
    # A run that was resumed may tell a point again: the last word counts.
    told = {
        float(point["tokens"]): math.nan if point[value] is None else float(point[value])
        for point in points
    }
    tokens = np.array(sorted(told))
    values = np.array([told[x] for x in tokens.tolist()])
    finite = np.isfinite(values)
    return Curve(tokens[finite], values[finite], not bool(finite.all()))
