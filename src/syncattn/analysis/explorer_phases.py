"""Phases as a film: free oscillators that settle, phases through depth, pairs that lock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from syncattn import _validation as check
from syncattn import reference
from syncattn._typing import Bool, Float, Tensor
from syncattn.analysis.coupling import _kernel
from syncattn.functional.oscillator_diagnostics import _angle
from syncattn.functional.oscillator_settling import Settle, initial_oscillators, settle
from syncattn.functional.oscillators import visible_order_parameter
from syncattn.nn import OscillatorAttention, SelectiveSynchronization
from syncattn.nn.heads import split_heads
from syncattn.nn.phase_coupling import PhaseCoupling

__all__ = ["Film", "depth_film", "locking_film", "settling_film", "strongest_coordinate"]

FRAMES = 41
"""Moments of a film in time."""
SETTLED = 0.01
"""Angle in radians from the equilibrium that counts as settled."""


@dataclass(frozen=True)
class Film:
    """Dots on a circle, moment after moment.

    Attributes:
        axis: What passes between two moments: ``"time"`` or ``"layers passed"``.
        moments: Where on that axis.
        angle: Radians, not wrapped, so that moments can be joined by straight lines,
            ``(moments, dots)``.
        meaning: What a dot is and where angle 0 lies, in sentences.
        locked: True for a dot that comes to rest; None where that has no meaning.
        weights: What the chosen token reads at each moment, ``(moments, keys)``; None where it
            does not change.
        coordinate: Which coordinate of the head is shown; None where all are.
    """

    axis: str
    moments: list[float]
    angle: Float[Tensor, "moments dots"]
    meaning: str
    locked: Bool[Tensor, " dots"] | None = None
    weights: Float[Tensor, "moments keys"] | None = None
    coordinate: int | None = None

    @property
    def coherence(self) -> Float[Tensor, " moments"]:
        """How far the dots agree at each moment, in [0, 1]."""
        return torch.hypot(self.angle.cos().mean(-1), self.angle.sin().mean(-1))


@torch.no_grad()
def settling_film(
    layer: OscillatorAttention,
    stream: Float[Tensor, "one length width"],
    *,
    head: int,
    query: int,
) -> Film:
    r"""Returns how the free oscillators of a head settle, from their usual starts.

    Each one moves on the great circle through its start and its equilibrium, so that its angle
    :math:`\theta` from the equilibrium says all: :math:`\tan(\theta / 2)` decays at the rate of
    the drive.

    Args:
        layer: The layer.
        stream: What its `forward` gets, one causal sequence.
        head: Which head.
        query: Whose read-out is followed.

    Returns:
        One dot per token, until nine in ten have settled.
    """
    star = layer.couplings(stream, is_causal=True)
    anchor = star.anchor[0, head]
    drive = star.coupling[0, head] @ anchor
    length = stream.shape[1]
    place = torch.arange(length, device=stream.device)
    start = initial_oscillators(place, layer.num_heads, anchor.shape[-1])[head].to(drive)
    rate = torch.linalg.vector_norm(drive, dim=-1)
    far = (_angle(start, drive).double() / 2).tan() / math.tan(SETTLED / 2)
    time = far.log().clamp(min=0) / rate.clamp(min=1e-30)
    time = time[(rate > 0) & time.isfinite()]
    last = float(time.quantile(0.9)) if time.numel() else 1.0
    moments = _moments(last)
    states = [settle(drive, Settle(t), start) for t in moments]
    gain = 1.0 if layer.readout_gain is None else float(layer.readout_gain[head])
    seen = slice(0, query + 1)
    rows = [
        reference.oscillator_attention_weights(
            x[None, None, query : query + 1], anchor[None, None, seen],
            readout_power=layer.readout_power, readout_gain=gain,
        )[0, 0, 0]
        for x in states
    ]  # fmt: skip
    return Film(
        "time",
        moments,
        torch.stack([_angle(x, drive) for x in states]).double().cpu(),
        "A dot is the free oscillator of one token. The angle is its distance from its own "
        "equilibrium among the anchors, which lies at 0, to the right: settled dots gather there.",
        weights=torch.stack(rows).double().cpu(),
    )


@torch.no_grad()
def depth_film(
    streams: Sequence[Float[Tensor, "one length width"]],
    *,
    num_heads: int,
    head: int,
    coordinate: int,
) -> Film:
    """Returns the phases of all tokens in one coordinate of a head, through the layers.

    Args:
        streams: The phases before every layer and after the last.
        num_heads: Number of heads.
        head: Which head.
        coordinate: Which of its coordinates.

    Returns:
        One dot per token and one moment per layer passed.

    Raises:
        TypeError: If the coordinate is not an integer.
        ValueError: If there is no such coordinate.
    """
    theta = torch.stack([split_heads(x, num_heads)[0, head] for x in streams]).double().cpu()
    check.require_integer(coordinate, "coordinate", minimum=0)
    if coordinate >= theta.shape[-1]:
        raise ValueError(
            f"`coordinate` must be at most {theta.shape[-1] - 1}; got {coordinate}. The head has "
            f"{theta.shape[-1]}."
        )
    return Film(
        "layers passed",
        [float(n) for n in range(len(streams))],
        theta[..., coordinate],
        f"A dot is the phase of one token in coordinate {coordinate + 1} of the head: its state, "
        f"which every layer turns. Dots that gather have synchronized. Between two layers the "
        f"film joins the phases by straight lines.",
        coordinate=coordinate,
    )


@torch.no_grad()
def strongest_coordinate(layer: PhaseCoupling, head: int) -> int:
    """Returns the coordinate of a head that its coupling moves most.

    Args:
        layer: A torus layer.
        head: Which head.
    """
    return int(_kernel(layer)[head].abs().sum((0, 1)).argmax())


@torch.no_grad()
def locking_film(
    layer: SelectiveSynchronization,
    stream: Float[Tensor, "one length width"],
    *,
    head: int,
    query: int,
) -> Film:
    r"""Returns how the chosen token and those it sees lock, or drift apart, pair by pair.

    .. math:: \dot\varphi_j = \rho_j - T_j \sin\varphi_j, \qquad T_j = K R\, e^{-a \rho_j^2}

    from :math:`\varphi_j = 0`: the phase difference of two oscillators with detuning
    :math:`\rho_j` comes to rest at :math:`\arcsin(\rho_j / T_j)` where that exists, and turns
    forever elsewhere. Solved exactly.

    Args:
        layer: The layer.
        stream: What its `forward` gets, one causal sequence.
        head: Which head.
        query: The token.

    Returns:
        One dot per token up to and with the chosen one.

    References:
        | A study of locking phenomena in oscillators (Adler, 1946)
    """
    omega = layer.natural_frequency(stream)[0, head, : query + 1].double()
    phase = layer.phase(stream)
    seen = check.require_visibility(phase, phase, is_causal=True)
    unbiased: Any = layer.options["unbiased_order_parameter"]
    order = visible_order_parameter(phase, seen, unbiased=unbiased)[0, head, query].double()
    rho = torch.linalg.vector_norm(omega - omega[query], dim=-1)
    K, a = layer.coupling_strength[head].double(), layer.coupling_decay[head].double()
    threshold = K * order * torch.exp(-a * rho.square())
    rate = (threshold.square() - rho.square()).abs().sqrt()
    locked = rho < threshold
    moving = rate[locked & (rho > 0)]
    moving = rate[rho > 0] if moving.numel() == 0 else moving
    last = 8.0 / max(float(moving.median()), 1e-6) if moving.numel() else 1.0
    moments = _moments(last)
    angle = torch.stack([_locking_angle(rho, threshold, t) for t in moments])
    return Film(
        "time",
        moments,
        angle.cpu(),
        "A dot is the phase of one token the chosen one sees, relative to it. Angle 0, to the "
        "right, is in phase. Dots of locked pairs come to rest within a quarter turn; the others, "
        "drawn hollow, are detuned too far and go round.",
        locked=locked.cpu(),
    )


def _locking_angle(rho: Tensor, threshold: Tensor, time: float) -> Tensor:
    """Returns the phase difference at a time, not wrapped."""
    rate = (threshold.square() - rho.square()).abs().sqrt()
    # Exactly on the edge both closed forms tend to the same line.
    half = rate.clamp(min=1e-12) * time / 2
    rate = rate.clamp(min=1e-12)
    rest = torch.tanh(half)
    settled = 2 * torch.atan2(rho * rest, rate + threshold * rest)
    turned = torch.atan2(rho * half.sin(), rate * half.cos() + threshold * half.sin())
    # The angle stays within a quarter turn of `half`, which counts the rounds.
    away = torch.remainder(turned - half + math.pi, 2 * math.pi) - math.pi
    return torch.where(rho < threshold, settled, 2 * (half + away))


def _moments(last: float) -> list[float]:
    return [last * n / (FRAMES - 1) for n in range(FRAMES)]
