"""What a trained language model does with one text: pictures, phases, couplings, settling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from syncattn._typing import Bool, Float, Tensor
from syncattn.analysis.coupling import (
    CouplingFunctions,
    FrustrationParts,
    coupling_functions,
    frustration_parts,
    order_by_head,
)
from syncattn.analysis.locking import LockingCurves, locking_curves
from syncattn.analysis.synchrony import SynchronyDiagnostics, diagnose
from syncattn.functional.oscillator_diagnostics import SettlingDiagnostics
from syncattn.functional.oscillators import wrap_phase
from syncattn.models import SyncAttnForCausalLM
from syncattn.nn import (
    FrustratedSynchronization,
    KuramotoAttention,
    OscillatorAttention,
    SelectiveSynchronization,
    Synchrony,
)
from syncattn.nn.block import EuclideanBlock, PhaseBlock
from syncattn.nn.heads import split_heads

__all__ = ["Observation", "PhaseFilm", "observe"]

ANGLE = 0.01
"""Distance in radians from the equilibrium at which an oscillator counts as settled."""
TIMES = 8
"""Moments of settling drawn per layer, after the start."""


@dataclass(frozen=True)
class PhaseFilm:
    """Phases on circles, moment after moment.

    Attributes:
        phase: Radians in (−π, π], ``(moments, heads, tokens, coordinates)``; NaN for an
            oscillator that has no phase then.
        moments: The name of every moment.
        meaning: What a circle shows, one or two sentences.
    """

    phase: Float[Tensor, "moments heads tokens coordinates"]
    moments: list[str]
    meaning: str


@dataclass(frozen=True)
class Observation:
    """What one model does with one text; all tensors are on the CPU, without the batch axis.

    Attributes:
        mechanism: The model's mechanism.
        text: The bytes it read.
        layers: The picture of every layer.
        visible: True where a query may see a key, ``(tokens, tokens)``.
        film: The phases through depth, or in settling; None without oscillators.
        order_by_head: See `order_by_head`; None off the torus.
        coupling: The coupling functions of every layer on the torus.
        frustration: Static and data-driven frustration of every layer with a delayed term.
        settling: How the free oscillators of every layer of oscillator attention settle.
        locking: What the oscillators of every layer of selective synchronization do.
        curves: The synchronization by detuning of every such layer, at its mean order parameter.
    """

    mechanism: str
    text: bytes
    layers: list[Synchrony]
    visible: Bool[Tensor, "tokens tokens"]
    film: PhaseFilm | None = None
    order_by_head: Float[Tensor, "depths heads harmonics"] | None = None
    coupling: list[CouplingFunctions] = field(default_factory=list[CouplingFunctions])
    frustration: list[FrustrationParts] = field(default_factory=list[FrustrationParts])
    settling: list[SettlingDiagnostics] = field(default_factory=list[SettlingDiagnostics])
    locking: list[SynchronyDiagnostics] = field(default_factory=list[SynchronyDiagnostics])
    curves: list[LockingCurves] = field(default_factory=list[LockingCurves])


@torch.no_grad()
def observe(model: SyncAttnForCausalLM, text: bytes) -> Observation:
    """Returns what a language model over bytes does with a text.

    Args:
        model: The model.
        text: At least two bytes, at most the model's context.

    Returns:
        The observation.

    Raises:
        ValueError: If the model reads no bytes, or the text does not fit its context.
    """
    config = model.config
    limit = config.max_position_embeddings
    if config.vocab_size < 256:
        raise ValueError(
            f"`model` must read bytes, 256 tokens; got a vocabulary of {config.vocab_size}. Use a "
            f"model that `syncattn compare` trained."
        )
    if not 2 <= len(text) <= limit:
        raise ValueError(
            f"`text` must have from 2 to {limit} bytes, the model's context; got {len(text)}. "
            f"Choose another text."
        )
    model.eval()
    ids = torch.tensor([list(text)], device=model.device)
    states = list(model.model(ids, output_hidden_states=True).hidden_states)
    attentions = [layer.attention for layer in _blocks(model)]
    strict = bool(getattr(attentions[0], "exclude_self", False))
    return Observation(
        mechanism=config.mechanism,
        text=text,
        layers=[_one(layer) for layer in model.synchrony(ids)],
        visible=torch.ones(len(text), len(text), dtype=torch.bool).tril(-1 if strict else 0),
        **_oscillators(_blocks(model), states, config.num_attention_heads),
    )


def _blocks(model: SyncAttnForCausalLM) -> list[EuclideanBlock | PhaseBlock]:
    return list(model.model.layers)  # pyright: ignore[reportReturnType]


def _one(layer: Synchrony) -> Synchrony:
    """Returns the picture of the only sequence of a batch, on the CPU."""
    return Synchrony(*(None if part is None else part[0].cpu() for part in layer))  # pyright: ignore[reportArgumentType]


def _oscillators(
    blocks: Sequence[EuclideanBlock | PhaseBlock], states: list[Tensor], num_heads: int
) -> dict[str, Any]:
    """Returns what is particular to a mechanism, by the names of an `Observation`."""
    kind = blocks[0].attention
    if isinstance(kind, KuramotoAttention | FrustratedSynchronization):
        return _on_the_torus(blocks, states, num_heads)
    if not isinstance(kind, SelectiveSynchronization | OscillatorAttention):
        return {}
    streams = [
        block.attention_norm(x)
        for block, x in zip(blocks, states, strict=False)
        if isinstance(block, EuclideanBlock)
    ]
    layers: list[Any] = [block.attention for block in blocks]
    if isinstance(kind, OscillatorAttention):
        found = [
            layer.diagnostics(s, angle=ANGLE, is_causal=True)
            for layer, s in zip(layers, streams, strict=True)
        ]
        settling = [SettlingDiagnostics(*(x[0].cpu() for x in layer)) for layer in found]
        return {"settling": settling, "film": _settling_film(settling)}
    phase = torch.cat([layer.phase(s) for layer, s in zip(layers, streams, strict=True)])
    film = PhaseFilm(
        wrap_phase(phase.float()).cpu(),
        [f"layer {n + 1}" for n in range(len(layers))],
        "A dot is the phase of one token in one coordinate of the head. Every layer reads phases "
        "of its own from the stream; between two layers the dots take the shorter way.",
    )
    locking = [diagnose(layer, s, is_causal=True) for layer, s in zip(layers, streams, strict=True)]
    curves = [
        locking_curves(layer, found.order_parameter)
        for layer, found in zip(layers, locking, strict=True)
    ]
    return {"film": film, "locking": locking, "curves": curves}


def _on_the_torus(
    blocks: Sequence[EuclideanBlock | PhaseBlock], states: list[Tensor], num_heads: int
) -> dict[str, Any]:
    phase = torch.cat([split_heads(x, num_heads) for x in states])
    film = PhaseFilm(
        wrap_phase(phase.float()).cpu(),
        ["embedding", *(f"after layer {n + 1}" for n in range(len(blocks)))],
        "A dot is the phase of one token in one coordinate of the head: the state itself, which "
        "every layer turns. Between two layers the dots take the shorter way.",
    )
    layers: list[Any] = [block.attention for block in blocks]
    frustration = [
        frustration_parts(layer, x)
        for layer, x in zip(layers, states, strict=False)
        if isinstance(layer, FrustratedSynchronization)
        and layer.coupling_kernel.signed_amplitude.shape[1] > 1
    ]
    return {
        "film": film,
        "order_by_head": order_by_head(states, num_heads),
        "coupling": [coupling_functions(layer, num_points=61) for layer in layers],
        "frustration": frustration,
    }


def _settling_film(settling: Sequence[SettlingDiagnostics]) -> PhaseFilm:
    r"""Returns the angle to the equilibrium, :math:`\tan(\theta/2)` decaying at the rate K."""
    frames, moments = [], []
    for number, layer in enumerate(settling):
        time, drive = layer.settling_time.double(), layer.drive.double()
        # From the time it takes to come within the angle, back to where it began.
        start = math.tan(ANGLE / 2) * (drive * time).exp()
        start = torch.where(torch.isfinite(time) & layer.coupled, start, torch.nan)
        known = time[torch.isfinite(time)]
        last = float(known.quantile(0.9)) if known.numel() else 1.0
        for step in range(TIMES + 1):
            now = last * step / TIMES
            frames.append(2 * torch.atan(start * (-drive * now).exp())[..., None])
            moments.append(f"layer {number + 1}, time {now:.2g}")
    return PhaseFilm(
        torch.stack(frames).float(),
        moments,
        "A dot is the free oscillator of one token: its angle from the equilibrium, which lies at "
        "0, to the right. In every layer it begins anew and settles at the rate of its drive, "
        "until nine in ten have settled.",
    )
