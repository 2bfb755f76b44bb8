"""Itemised operation counts of softmax and of oscillator hardware, as published and beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from syncattn import _validation as check

__all__ = ["SPLITS", "CostItem", "CostReport", "Workload", "operation_counts"]

SPLITS = ("softmax", "digital", "physical equilibration", "physical equilibration and readout")
"""Who does what: nothing physical, nothing physical, the settling, the settling and the cosines."""

_NONLINEARITY = {"relu": 1, "elu": 10, "softplus": 10}
_EXPONENTIAL = 10


@dataclass(frozen=True)
class Workload:
    r"""One sequence through one attention layer, as the operation counts need it.

    Attributes:
        length: Tokens :math:`T`.
        num_heads: Heads :math:`H`.
        oscillator_dim: Components :math:`m` of an oscillator.
        is_causal: Whether a token sees the past alone: :math:`P = T(T+1)/2` pairs, else
            :math:`T^2`.
        coupling: Non-linearity of the couplings; ``"relu"`` counts 1, ``"softplus"`` and ``"elu"``
            10 multiply-adds, as an exponential does.
        head_dim: Width of a head's scores and values; 0 leaves the front end out.
        hidden_size: Width of the stream that is projected; 0 leaves the projections out.
        num_readout_samples: Readings of an oscillator that are averaged.
        settling_time: Time the oscillators run, dimensionless (couplings times time).
        num_layers: Layers of this kind.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If a count is out of its range or the coupling is unknown.
    """

    length: int
    num_heads: int
    oscillator_dim: int
    is_causal: bool = False
    coupling: str = "softplus"
    head_dim: int = 0
    hidden_size: int = 0
    num_readout_samples: int = 1
    settling_time: float = 10.0
    num_layers: int = 1

    def __post_init__(self) -> None:
        """Checks every count."""
        for name in ("length", "num_heads", "num_readout_samples", "num_layers"):
            check.require_integer(getattr(self, name), name, minimum=1)
        check.require_integer(self.oscillator_dim, "oscillator_dim", minimum=2)
        check.require_integer(self.head_dim, "head_dim", minimum=0)
        check.require_integer(self.hidden_size, "hidden_size", minimum=0)
        check.require_choice(self.coupling, "coupling", _NONLINEARITY)
        check.require_number(self.settling_time, "settling_time", minimum=0.0)

    @property
    def num_pairs(self) -> int:
        """Pairs of a token and an anchor that it sees, per head."""
        return self.length * (self.length + 1) // 2 if self.is_causal else self.length**2


class CostItem(NamedTuple):
    """One line of a cost report.

    Attributes:
        name: What is done.
        number: How often; for ``oscillator`` the number of oscillators that run.
        unit: A key of `device_prices.UNITS`.
        published: Whether the paper's operation count charges it.
        note: The formula.
    """

    name: str
    number: int
    unit: str
    published: bool
    note: str


@dataclass(frozen=True)
class CostReport:
    """The itemised cost of one workload on one split; an estimate, never a measurement.

    Attributes:
        workload: What is done.
        split: Who does it, one of `SPLITS`.
        items: The lines.
    """

    workload: Workload
    split: str
    items: tuple[CostItem, ...]
    measured: bool = False

    @property
    def published_total(self) -> int:
        """Multiply-adds that the paper charges: its table entry."""
        return sum(item.number for item in self.items if item.published)

    def as_dict(self) -> dict[str, Any]:
        """Returns the report as plain values that JSON can hold."""
        return {
            "measured": self.measured,
            "kind": "estimate from operation counts",
            "split": self.split,
            "workload": vars(self.workload) | {"num_pairs": self.workload.num_pairs},
            "published_multiply_adds": self.published_total,
            "items": [item._asdict() for item in self.items],
        }


def operation_counts(workload: Workload, split: str) -> CostReport:
    r"""Returns the itemised operation counts of one split.

    With :math:`P` pairs and the weight :math:`w` of the coupling's non-linearity, the paper charges

    .. math::
        10 H P + 2 H T \;(\text{softmax}), \quad w H P + 2 H P m + 4 H T \;(\text{digital}), \quad
        w H P + H P m + 2 H T, \quad w H P + 2 H T

    the last two with a physical equilibration, and with a physical read-out besides. What it does
    not charge (writing the couplings, converters, front end, values, running oscillators) stands
    in lines of its own with ``published=False``.

    Args:
        workload: What is done.
        split: One of `SPLITS`.

    Returns:
        The report.

    Raises:
        TypeError: If it is no workload.
        ValueError: If the split is unknown.

    References:
        | Attention by Synchronization in Coupled Oscillator Networks (arXiv 2606.12059), Table 7
    """
    check.require_instance(workload, "workload", Workload, "Build one from its sizes.")
    check.require_choice(split, "split", SPLITS)
    items = [*_published(workload, split), *_front_end(workload)]
    if split.startswith("physical"):
        items += _hardware(workload, cosines=split == SPLITS[3])
    scaled = (item._replace(number=item.number * workload.num_layers) for item in items)
    return CostReport(workload, split, tuple(item for item in scaled if item.number))


def _published(w: Workload, split: str) -> list[CostItem]:
    H, P, T, m = w.num_heads, w.num_pairs, w.length, w.oscillator_dim

    def line(name: str, count: int, note: str) -> CostItem:
        return CostItem(name, count, "multiply_add", True, note)

    normalise = line("normalise rows", 2 * H * T, "2 H T")
    if split == "softmax":
        return [line("exponentials", _EXPONENTIAL * H * P, "10 H P"), normalise]
    weight = _NONLINEARITY[w.coupling]
    coupling = line(f"coupling ({w.coupling})", weight * H * P, f"{weight} H P")
    drive = [
        line("drive", H * P * m, "H P m"),
        line("normalise oscillators", 2 * H * T, "2 H T"),
    ]
    readout = line("cosines of the read-out", H * P * m, "H P m")
    return [
        coupling,
        *(drive if split == "digital" else []),
        *([] if split == SPLITS[3] else [readout]),
        normalise,
    ]


def _front_end(w: Workload) -> list[CostItem]:
    H, P, T = w.num_heads, w.num_pairs, w.length

    def line(name: str, count: int, note: str) -> CostItem:
        return CostItem(name, count, "multiply_add", False, note)

    inner = H * w.head_dim
    return [
        line("projections", 4 * T * w.hidden_size * inner, "4 T d H d_h, alike for all"),
        line("scores of the pairs", P * inner, "H P d_h, alike for all"),
        line("values", P * inner, "H P d_h, alike for all"),
    ]


def _hardware(w: Workload, *, cosines: bool) -> list[CostItem]:
    H, P, T, m, n = w.num_heads, w.num_pairs, w.length, w.oscillator_dim, w.num_readout_samples
    channels = 1 if m == 2 else m
    conversions = H * P * n if cosines else H * T * channels * n
    note = "H P readings" if cosines else f"H T x {channels} readings"
    return [
        CostItem("convert couplings", H * P, "dac_conversion", False, "H P, once per input"),
        CostItem("write couplings", H * P, "coupling_write", False, "H P, once per input"),
        CostItem("read out", conversions, "adc_conversion", False, f"{note} x {n}"),
        CostItem("free oscillators", H * T, "oscillator", False, "H T, while they settle"),
        CostItem("anchor oscillators", H * T, "oscillator", False, "H T, while the free settle"),
    ]
