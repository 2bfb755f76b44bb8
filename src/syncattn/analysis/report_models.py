"""What the report shows of one model: its matrices, its phases, and the pictures of its kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from markupsafe import Markup

from syncattn._typing import Tensor
from syncattn.analysis.coupling import CouplingFunctions, FrustrationParts
from syncattn.analysis.distributions import head_divergence
from syncattn.analysis.heads import MEASURES, measure_heads
from syncattn.analysis.locking import LockingCurves
from syncattn.analysis.observation import Observation
from syncattn.analysis.report_charts import TURN, Frame, Line, chart
from syncattn.analysis.report_payload import chosen, matrix_payload, phase_payload
from syncattn.analysis.synchrony import SynchronyDiagnostics
from syncattn.analysis.text_table import TextTable
from syncattn.functional.oscillator_diagnostics import SettlingDiagnostics

__all__ = ["Model", "Panel", "Panels", "measure_table", "model_panels", "model_view"]

_Layer = TypeVar("_Layer")

_SMALL = (210, 128)
_MOST_COORDINATES = 64
# Colours of the lines by delay, and the quantiles that tell how drives spread.
_TINTS = (1, 2, 3, 4)
_DECILES = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)


@dataclass(frozen=True)
class Model:
    """A trained model and what it did with the report's text.

    Attributes:
        name: Its name in the tables.
        legend: What R and *locked* mean for it.
        observation: What it did.
        details: Anything to say about it, such as its seed.
    """

    name: str
    legend: str
    observation: Observation
    details: str = ""


class Panel(NamedTuple):
    """A small chart with its own title and notes."""

    title: str
    picture: Markup
    notes: Sequence[str]


@dataclass(frozen=True)
class Panels:
    """Small charts of one kind.

    Attributes:
        title: What they are.
        caption: How to read them.
        panels: The charts.
        legend: Names of the lines, with the number of their colour.
    """

    title: str
    caption: str
    panels: list[Panel]
    legend: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])


def model_view(model: Model, *, budget: int) -> dict[str, Any]:
    """Returns what the page draws of a model.

    Args:
        model: The model.
        budget: Most weights to pack; beyond it layers, then heads, are left out.

    Returns:
        `matrix` and `film` (or None) for the script, `heads`, a description of each head by layer,
        `left_out`, a sentence or nothing.
    """
    seen = model.observation
    heads_of, tokens = seen.layers[0].weights.shape[:2]
    heads = chosen(heads_of, max(1, budget // tokens**2))
    layers = chosen(len(seen.layers), max(1, budget // (len(heads) * tokens**2)))
    film = seen.film
    coordinates = 0 if film is None else min(film.phase.shape[-1], _MOST_COORDINATES)
    cuts = [
        f"{len(some)} of {whole} {name}"
        for some, whole, name in (
            (layers, len(seen.layers), "layers"),
            (heads, heads_of, "heads"),
            (range(coordinates), 0 if film is None else film.phase.shape[-1], "coordinates"),
        )
        if len(some) < whole
    ]
    return {
        "matrix": matrix_payload(seen, layers, heads),
        "film": None if film is None else phase_payload(film, heads, coordinates),
        "heads": [[_head_words(m, head) for head in heads] for m in _measures(seen, layers)],
        "left_out": f"To keep the page small, {' and '.join(cuts)} are here." if cuts else "",
    }


def measure_table(model: Model) -> TextTable:
    """Returns every measure of a model by layer: the mean over heads, and the range.

    Args:
        model: The model.
    """
    seen = model.observation
    measures = _measures(seen, range(len(seen.layers)))
    names = list(measures[0])
    rows = [
        [f"layer {n + 1}", *(_range(m[name]) for name in names), _diversity(layer.weights)]
        for n, (m, layer) in enumerate(zip(measures, seen.layers, strict=True))
    ]
    return TextTable(
        f"What the heads of {model.name} do with the text",
        ["layer", *(MEASURES[name] for name in names), "head diversity (nats)"],
        rows,
        "Mean over heads and tokens, with the smallest and the largest head. Head diversity is the "
        "mean Jensen–Shannon divergence of two heads: 0 when all agree, 0.69 when none share a "
        "key.",
    )


def model_panels(model: Model) -> list[Panels]:
    """Returns the pictures that only this kind of model has.

    Args:
        model: The model.
    """
    seen = model.observation
    found = [_coupling(seen), _frustration(seen), _harmonics(seen), _locking(seen), _drive(seen)]
    return [panels for panels in found if panels is not None and panels.panels]


def _measures(seen: Observation, layers: Sequence[int]) -> list[dict[str, Tensor]]:
    return [measure_heads(seen.layers[n], visible=seen.visible) for n in layers]


def _head_words(measures: dict[str, Tensor], head: int) -> str:
    words: list[str] = []
    order, locked = measures.get("order_parameter"), measures.get("locked_fraction")
    if order is not None and math.isfinite(float(order[head])):
        words.append(f"R {float(order[head]):.2f}")
    if locked is not None:
        words.append(f"{float(locked[head]):.0%} locked")
    return ", ".join(words or [f"{float(measures['effective_neighbours'][head]):.1f} neighbours"])


def _range(values: Tensor) -> str:
    known = values[torch.isfinite(values)]
    if not known.numel():
        return "–"
    digits = 1 if float(known.max()) > 2 else 2
    mean, low, high = (float(x) for x in (known.mean(), known.min(), known.max()))
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _diversity(weights: Tensor) -> str:
    found = head_divergence(weights)
    a, b = torch.triu_indices(*found.shape, offset=1)
    mean = float(found[a, b].nanmean())
    return "–" if math.isnan(mean) else f"{mean:.2f}"


class _Drawing(NamedTuple):
    """What a panel shows: lines in a frame, and notes; without lines the picture is empty."""

    lines: list[Line]
    frame: Frame
    notes: list[str]


def _by_head(
    what: str, seen: Observation, layers: Sequence[_Layer], draw: Callable[[_Layer, int], _Drawing]
) -> list[Panel]:
    """Returns a panel for every head of every layer; what it shows is also said in words."""
    panels: list[Panel] = []
    for number, layer in enumerate(layers, start=1):
        for head in range(seen.layers[0].weights.shape[0]):
            lines, frame, notes = draw(layer, head)
            title = f"layer {number}, head {head + 1}"
            words = f"{what} {title}: {'; '.join(notes)}."
            picture = chart(lines, frame, description=words) if lines else Markup("")
            panels.append(Panel(title, picture, notes))
    return panels


def _coupling(seen: Observation) -> Panels | None:
    if not seen.coupling:
        return None
    limit = max(
        1.05 * max(float(f.upper.max()), -float(f.lower.min())) for f in seen.coupling
    ) or 1.0  # fmt: skip
    frame = Frame("φ", "Γ(φ)", (-math.pi, math.pi), (-limit, limit), TURN, (0.0,), _SMALL)
    delays = seen.coupling[0].pull.shape[1]
    names = ["the token seen", "its successor", *(f"the {s}th after" for s in range(2, delays))]
    names = names[:delays]

    def draw(found: CouplingFunctions, head: int) -> _Drawing:
        x = found.phase_difference.tolist()
        lines = [
            Line(x, found.pull[head, s].tolist(), _TINTS[s % len(_TINTS)],
                 found.lower[head, s].tolist(), found.upper[head, s].tolist())
            for s in range(delays)
        ]  # fmt: skip
        notes = [
            _angles(name, found.sakaguchi_angle[head, s], found.harmonic_share[head, s])
            for s, name in enumerate(names)
        ]
        return _Drawing(lines, frame, notes)

    return Panels(
        "Coupling functions",
        "How a token's phase is pulled, in radians, by the difference φ to the phase it reads: "
        "above zero at φ > 0 attracts. α is the frustration angle of the first harmonic, in "
        "radians; beyond a quarter turn it repels. The percentages are the harmonics in the "
        "strength. Bands hold the middle 80 percent of the head's coordinates.",
        _by_head("Coupling function of", seen, seen.coupling, draw),
        [(name, _TINTS[s % len(_TINTS)]) for s, name in enumerate(names)],
    )


def _angles(name: str, angle: Tensor, shares: Tensor) -> str:
    if not bool(torch.isfinite(shares).all()):
        return f"{name}: none"
    listed = ", ".join(f"{share:.0%} m = {m + 1}" for m, share in enumerate(shares.tolist()))
    return f"{name}: α {_signed(angle)}; {listed}"


def _signed(angle: Tensor | float) -> str:
    # Zero has no sign, whichever side it was rounded from.
    return f"{round(float(angle), 2) + 0.0:+.2f}"


def _frustration(seen: Observation) -> Panels | None:
    if not seen.frustration:
        return None
    return Panels(
        "Frustration of the delayed term: the kernel's part and the data's",
        "Shaded: how often a token's phase turns by δ from one token to the next, which is the "
        "data's part. Upright line: the kernel's own angle α. The coupling to the successor turns "
        "by α + δ, in radians. R is the concentration: 1 when all angles are alike, 0 when they "
        "spread over the circle.",
        _by_head("Frustration of", seen, seen.frustration, _frustration_of),
    )


def _frustration_of(parts: FrustrationParts, head: int) -> _Drawing:
    count = parts.transition_count[head].double()
    share = (count / count.sum().clamp(min=1)).tolist()
    static = float(parts.static_angle[head])
    middle = ((parts.bin_edges[1:] + parts.bin_edges[:-1]) / 2).tolist()
    notes = [
        f"kernel: α {_signed(static)}, R {float(parts.static_concentration[head]):.2f}",
        f"data: δ {_signed(parts.transition_angle[head])}, "
        f"R {float(parts.transition_concentration[head]):.2f}",
    ]
    limits = (0.0, 1.1 * max(*share, 1e-6))
    frame = Frame("δ", "share", (-math.pi, math.pi), limits, TURN, (static,), _SMALL)
    return _Drawing([Line(middle, share, 7, filled=True, solid=True)], frame, notes)


def _harmonics(seen: Observation) -> Panels | None:
    found = seen.order_by_head
    if found is None:
        return None
    depths, heads, harmonics = found.shape
    frame = Frame("layers passed", "R", None, (0.0, 1.0), [(n, str(n)) for n in range(depths)],
                  size=_SMALL)  # fmt: skip
    panels: list[Panel] = []
    for head in range(heads):
        lines = [
            Line(range(depths), found[:, head, m].tolist(), m, dots=True) for m in range(harmonics)
        ]
        ends = [f"R{m + 1} {float(found[-1, head, m]):.2f}" for m in range(harmonics)]
        title = f"head {head + 1}"
        words = f"Order parameter of {title} through depth; after the last layer {', '.join(ends)}."
        panels.append(
            Panel(title, chart(lines, frame, description=words), [f"at last {', '.join(ends)}"])
        )
    return Panels(
        "Order parameter by layer, head and harmonic",
        "How far the phases of all tokens agree, averaged over the head's coordinates: R of the "
        "m-th harmonic is 1 when m times all phases agree. As many independent random phases would "
        f"give about {math.sqrt(math.pi / 4 / len(seen.text)):.2f}.",
        panels,
        [(f"harmonic {m + 1}", m) for m in range(harmonics)],
    )


def _locking(seen: Observation) -> Panels | None:
    if not seen.curves:
        return None
    layers = list(zip(seen.curves, seen.locking, strict=True))
    return Panels(
        "Synchronization by detuning",
        "The synchronization S of two tokens by the difference of their natural frequencies, at "
        "the mean order parameter of the text. Beyond the cutoff, the upright line, a pair does "
        "not lock and its weight is exactly 0. The last figure is the share that would lock if "
        "frequencies were independent and Gaussian.",
        _by_head("Synchronization by detuning,", seen, layers, _locking_of),
    )


def _locking_of(layer: tuple[LockingCurves, SynchronyDiagnostics], head: int) -> _Drawing:
    curve, locking = layer
    cutoff = float(curve.cutoff[head])
    notes = [
        f"cutoff {cutoff:.2f} at R {float(locking.order_parameter[head]):.2f}",
        f"{float(locking.locked_fraction[head]):.0%} lock, clusters: "
        f"{float(locking.connected_components[head]):.0f}; "
        f"{float(locking.predicted_locked_fraction[head]):.0%} if independent",
    ]
    line = Line(curve.detuning.tolist(), curve.synchronization[head].tolist(), 2, solid=True)
    frame = Frame("detuning", "S", None, (0.0, 1.0), None, (cutoff,), _SMALL)
    return _Drawing([line], frame, notes)


def _drive(seen: Observation) -> Panels | None:
    if not seen.settling:
        return None
    return Panels(
        "Drive and settling",
        "The share of a head's free oscillators within 0.01 radians of their equilibrium, by time "
        "in the inverse unit of the couplings. The drive is the rate at which they settle: the "
        "median over tokens, with the tenth and the ninetieth percentile. One hardly driven has "
        "pulls that nearly cancel, and its equilibrium should not be trusted.",
        _by_head("Settling of", seen, seen.settling, _drive_of),
    )


def _drive_of(layer: SettlingDiagnostics, head: int) -> _Drawing:
    settled = layer.settling_time[head].double()
    free = layer.coupled[head]
    known = settled[torch.isfinite(settled) & free].sort().values
    count = int(free.sum())
    low, middle, high = layer.drive[head].double().quantile(_DECILES).tolist()
    notes = [
        f"drive {middle:.3g} ({low:.3g} to {high:.3g})",
        f"{int(layer.near_degenerate[head].sum())} of {count} hardly driven",
    ]
    if not known.numel():
        return _Drawing([], Frame(), [*notes, "no oscillator settles"])
    # The share that has settled rises by one step at each oscillator's own time.
    last = 1.05 * float(known.quantile(0.95)) or 1.0
    times = torch.linspace(0, last, 80, dtype=torch.float64)
    share = (known[None] <= times[:, None]).double().sum(1) / max(count, 1)
    # Those that never settle are among the half that have not.
    half = (count + 1) // 2
    notes.append(
        f"half have settled at {float(known[half - 1]):.3g}"
        if len(known) >= half
        else f"only {len(known)} of {count} settle"
    )
    frame = Frame("time", "share settled", (0.0, last), (0.0, 1.0), None, (), _SMALL)
    return _Drawing([Line(times.tolist(), share.tolist(), 1, solid=True)], frame, notes)
