"""Energy of an operation count, from prices that the user supplies with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from syncattn import _validation as check
from syncattn.simulation.costs import SPLITS, CostItem, CostReport, Workload, operation_counts

__all__ = ["UNITS", "BreakEven", "EnergyReport", "Price", "break_even", "cost_table", "energy"]

UNITS = {
    "multiply_add": "J",
    "coupling_write": "J",
    "dac_conversion": "J",
    "adc_conversion": "J",
    "oscillator": "W",
    "coupling_rate": "1/s",
}
"""What can be priced, and the unit of its price: joules per operation, watts per oscillator, and
the rate in 1/s that turns the dimensionless settling time into seconds."""


@dataclass(frozen=True)
class Price:
    """What one unit costs, and who says so.

    Attributes:
        value: The price, at least 0.
        unit: As in `UNITS`: ``"J"``, ``"W"`` or ``"1/s"``.
        source: Where the number comes from: a paper, a data sheet, a measurement.

    Raises:
        TypeError: If the value is not a number.
        ValueError: If the value is negative, the unit unknown, or the source empty.
    """

    value: float
    unit: str
    source: str

    def __post_init__(self) -> None:
        """Refuses a price without a source."""
        check.require_number(self.value, "value", minimum=0.0)
        check.require_choice(self.unit, "unit", tuple(dict.fromkeys(UNITS.values())))
        check.require_instance(self.source, "source", str, "Name a paper or a data sheet.")
        if not self.source.strip():
            raise ValueError(
                f"`source` must say where the price comes from; got {self.source!r}. Name a paper, "
                f"a data sheet or a measurement."
            )


@dataclass(frozen=True)
class EnergyReport:
    """Joules of a cost report at the user's prices; an estimate, never a measurement.

    Attributes:
        costs: The operation counts.
        prices: The prices that were given.
        joules: Joules by line, None where a price is missing.
        unpriced: Names of what has no price.
        measured: Always False.
    """

    costs: CostReport
    prices: Mapping[str, Price]
    joules: tuple[float | None, ...]
    unpriced: tuple[str, ...]
    measured: bool = False

    @property
    def total(self) -> float | None:
        """Joules in all; None while anything is unpriced."""
        return None if self.unpriced else sum(joule or 0.0 for joule in self.joules)

    def as_dict(self) -> dict[str, Any]:
        """Returns the report as plain values that JSON can hold."""
        items = [
            item._asdict() | {"joules": joule}
            for item, joule in zip(self.costs.items, self.joules, strict=True)
        ]
        return self.costs.as_dict() | {
            "kind": "estimate from operation counts and the user's prices",
            "items": items,
            "prices": {name: vars(price) for name, price in self.prices.items()},
            "unpriced": list(self.unpriced),
            "total_joules": self.total,
        }


def energy(report: CostReport, prices: Mapping[str, Price]) -> EnergyReport:
    """Returns the joules of every line that has a price.

    No price is built in. The energy of the oscillators needs their power (``oscillator``) and the
    rate that makes seconds of the settling time (``coupling_rate``).

    Args:
        report: Operation counts.
        prices: Prices by unit, see `UNITS`.

    Returns:
        The report; without a total while a line is unpriced.

    Raises:
        ValueError: If a name is unknown, or a price has the wrong unit.
    """
    _require_prices(prices)
    joules = tuple(_joules(report, item, prices) for item in report.items)
    missing: dict[str, None] = {}
    for item, joule in zip(report.items, joules, strict=True):
        if joule is None:
            names = ("oscillator", "coupling_rate") if item.unit == "oscillator" else (item.unit,)
            missing |= dict.fromkeys(name for name in names if name not in prices)
    return EnergyReport(report, dict(prices), joules, tuple(missing))


def _joules(report: CostReport, item: CostItem, prices: Mapping[str, Price]) -> float | None:
    if item.unit not in prices:
        return None
    value = prices[item.unit].value
    if item.unit != "oscillator":
        return item.number * value
    if "coupling_rate" not in prices:
        return None
    return item.number * value * report.workload.settling_time / prices["coupling_rate"].value


def _require_prices(prices: Mapping[str, Price]) -> None:
    check.require_instance(prices, "prices", Mapping, "Pass a dictionary from units to prices.")
    for name, price in prices.items():
        check.require_choice(name, "prices", UNITS)
        check.require_instance(price, "prices", Price, "Build each with its unit and source.")
        if price.unit != UNITS[name]:
            raise ValueError(
                f"`prices` must give {name!r} in {UNITS[name]}; got {price.unit}. Convert it."
            )
    rate = prices.get("coupling_rate")
    if rate is not None and rate.value == 0:
        raise ValueError(
            "`prices` must give a 'coupling_rate' above 0; got 0, at which nothing ever settles. "
            "Give the coupling's rate in 1/s."
        )


class BreakEven(NamedTuple):
    """Where oscillator hardware loses to digital softmax.

    Attributes:
        energy_per_oscillator: Power times settling time in joules that one oscillator may spend
            before the hardware costs more than softmax; negative when it loses with oscillators
            that run for nothing; None while a price is missing.
        unpriced: The prices that are missing.
    """

    energy_per_oscillator: float | None
    unpriced: tuple[str, ...]


def break_even(
    workload: Workload, split: str, prices: Mapping[str, Price], *, published_only: bool = False
) -> BreakEven:
    """Returns the oscillators' power times time at which a physical split costs what softmax does.

    Args:
        workload: What is done.
        split: A physical one of `SPLITS`.
        prices: Prices by unit; those of the oscillators are not needed.
        published_only: Charge what the paper charges alone.

    Returns:
        The threshold.

    Raises:
        ValueError: If the split has no oscillators, or a price is of the wrong unit.
    """
    check.require_choice(split, "split", SPLITS[2:])
    totals: list[float] = []
    missing: dict[str, None] = {}
    oscillators = 0
    for name in ("softmax", split):
        report = operation_counts(workload, name)
        oscillators = sum(i.number for i in report.items if i.unit == "oscillator")
        kept = tuple(
            item
            for item in report.items
            if item.unit != "oscillator" and (item.published or not published_only)
        )
        priced = energy(CostReport(workload, name, kept), prices)
        missing |= dict.fromkeys(priced.unpriced)
        totals.append(sum(joule or 0.0 for joule in priced.joules))
    if missing:
        return BreakEven(None, tuple(missing))
    return BreakEven((totals[0] - totals[1]) / oscillators, ())


def cost_table(workload: Workload, prices: Mapping[str, Price] | None = None) -> str:
    """Returns a Markdown table of all splits, line by line, with joules where there are prices.

    Args:
        workload: What is done.
        prices: Prices by unit; counts alone when None.

    Returns:
        The table, with the sources of the prices below it.

    Raises:
        ValueError: If a price is of the wrong unit.
    """
    reports = [energy(operation_counts(workload, split), prices or {}) for split in SPLITS]
    w = workload
    lines = [
        f"Estimate from operation counts; nothing was measured. {w.length} tokens, {w.num_heads} "
        f"heads, m = {w.oscillator_dim}, {w.num_layers} layers, {w.coupling} coupling, "
        f"{'causal' if w.is_causal else 'bidirectional'}.",
        "",
        "| split | item | count | unit | charged by the paper | formula | joules |",
        "| --- | --- | ---: | --- | --- | --- | ---: |",
    ]
    for report in reports:
        for item, joule in zip(report.costs.items, report.joules, strict=True):
            shown = "unpriced" if joule is None else f"{joule:.3g}"
            charged = "yes" if item.published else "no"
            lines.append(
                f"| {report.costs.split} | {item.name} | {item.number:,} | {item.unit} | {charged} "
                f"| {item.note} | {shown} |"
            )
        shown = "no total" if report.total is None else f"{report.total:.3g}"
        lines.append(
            f"| **{report.costs.split}** | **in all (count: the paper's; joules: all lines)** "
            f"| **{report.costs.published_total:,}** | multiply_add | | | **{shown}** |"
        )
    lines += _footnotes(reports, prices or {})
    return "\n".join([*lines, *_thresholds(workload, prices or {})]) + "\n"


def _footnotes(reports: list[EnergyReport], prices: Mapping[str, Price]) -> list[str]:
    notes = [
        f"- {name}: {price.value:g} {price.unit} ({price.source})" for name, price in prices.items()
    ]
    missing = dict.fromkeys(name for report in reports for name in report.unpriced)
    if missing:
        notes.append(f"- without a price, hence no joules: {', '.join(missing)}")
    return ["", *notes] if notes else []


def _thresholds(workload: Workload, prices: Mapping[str, Price]) -> list[str]:
    """Returns a line per physical split: what an oscillator may spend before softmax is cheaper."""
    notes: list[str] = []
    for split in SPLITS[2:]:
        found = break_even(workload, split, prices).energy_per_oscillator
        if found is None:
            continue
        verdict = (
            f"cheaper than softmax while an oscillator spends less than {found:.3g} J on a sequence"
            if found > 0
            else f"dearer than softmax even if the oscillators run for nothing, by {-found:.3g} J "
            f"per oscillator and sequence"
        )
        notes.append(f"- {split}: {verdict} (power times settling time)")
    return notes
