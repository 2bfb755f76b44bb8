"""Couplings of a model switched off and turned up or down for as long as one looks."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Bool, Tensor
from syncattn.nn import (
    FrustratedSynchronization,
    KuramotoAttention,
    OscillatorAttention,
    SelectiveSynchronization,
    SoftmaxAttention,
)

__all__ = ["Changes", "Switch", "off_heads", "switched"]

SMALLEST, LARGEST = 0.05, 20.0
"""Factors of a coupling that are accepted."""
_UNCOUPLED = 1e-6
"""A coupling strength at which only equal frequencies lock; 0 itself is no coupling strength."""


@dataclass(frozen=True)
class Switch:
    """A coupling that is off.

    Attributes:
        layer: Counted from 0.
        head: Counted from 0; all heads of the layer when None.
        harmonic: Which harmonic of a coupling kernel, from 1; all when None.
        delay: Which delay of a coupling kernel, from 0; all when None.
    """

    layer: int
    head: int | None = None
    harmonic: int | None = None
    delay: int | None = None

    def __str__(self) -> str:
        named = [f"layer {self.layer + 1}"]
        named += [] if self.head is None else [f"head {self.head + 1}"]
        named += [] if self.harmonic is None else [f"harmonic {self.harmonic}"]
        named += [] if self.delay is None else [f"delay {self.delay}"]
        return ", ".join(named)

    @property
    def whole(self) -> bool:
        """True when no part of a coupling kernel is named."""
        return self.harmonic is None and self.delay is None


@dataclass(frozen=True)
class Changes:
    r"""What is changed in a model.

    Attributes:
        off: The couplings that are off.
        strength: Factor of the coupling strengths :math:`K` of selective synchronization.
        bandwidth: Factor of its cutoff radius: :math:`K` times b and :math:`a` over
            :math:`b^2` widen every cutoff b times, whatever the coherence.
    """

    off: tuple[Switch, ...] = ()
    strength: float = 1.0
    bandwidth: float = 1.0

    def __post_init__(self) -> None:
        for name in ("strength", "bandwidth"):
            check.require_number(getattr(self, name), name, minimum=SMALLEST, maximum=LARGEST)

    @property
    def any(self) -> bool:
        """True when something is changed."""
        return bool(self.off) or self.strength != 1 or self.bandwidth != 1


@contextmanager
def switched(attentions: Sequence[nn.Module], changes: Changes) -> Generator[None]:
    """Changes the attentions of a model inside the block, and restores them after it.

    A head of selective synchronization that is off locks only equal frequencies, each token with
    itself; one of oscillator attention is read out evenly, as if nothing drove its oscillators; one
    on the torus pulls no phase; one of softmax, which has no oscillators, is left out.

    Args:
        attentions: One per layer.
        changes: What to change.

    Yields:
        Nothing.

    Raises:
        ValueError: If a switch names what the model does not have.
    """
    for switch in changes.off:
        _require_existing(switch, attentions)
    with ExitStack() as stack:
        for number, attention in enumerate(attentions):
            here = [switch for switch in changes.off if switch.layer == number]
            if isinstance(attention, SelectiveSynchronization):
                _retune(stack, attention, here, changes)
            elif here:
                _change(stack, attention, here)
        yield


def off_heads(switches: Sequence[Switch], layer: int, num_heads: int) -> Bool[Tensor, " heads"]:
    """Returns which heads of a layer are off altogether.

    Args:
        switches: What is off.
        layer: Which layer.
        num_heads: How many heads it has.
    """
    return _off([switch for switch in switches if switch.layer == layer], num_heads)


def _off(here: Sequence[Switch], num_heads: int) -> Bool[Tensor, " heads"]:
    off = torch.zeros(num_heads, dtype=torch.bool)
    for switch in here:
        if switch.whole:
            off[slice(None) if switch.head is None else switch.head] = True
    return off


def _retune(
    stack: ExitStack, layer: SelectiveSynchronization, here: Sequence[Switch], changes: Changes
) -> None:
    if not here and changes.strength == changes.bandwidth == 1:
        return
    off = _off(here, layer.num_heads)
    strength = layer.coupling_strength.detach() * changes.strength * changes.bandwidth
    decay = layer.coupling_decay.detach() / changes.bandwidth**2
    raw = _inverse_softplus(torch.where(off, _UNCOUPLED, strength))
    _replace(stack, layer, "raw_coupling_strength", raw)
    _replace(stack, layer, "raw_coupling_decay", _inverse_softplus(decay))


def _change(stack: ExitStack, attention: nn.Module, here: Sequence[Switch]) -> None:
    heads: int = attention.num_heads  # pyright: ignore[reportAssignmentType]
    off = _off(here, heads)
    if isinstance(attention, OscillatorAttention):
        learned = attention.readout_gain
        gain = torch.ones(heads) if learned is None else learned.detach().clone()
        gain[off] = 0.0
        _replace(stack, attention, "readout_gain", gain)
    elif isinstance(attention, KuramotoAttention):
        step = attention.step_size.detach().clone()
        step[off] = 0.0
        _replace(stack, attention, "step_size", step)
    elif isinstance(attention, FrustratedSynchronization):
        kernel = attention.coupling_kernel
        kept = torch.ones_like(kernel.raw_amplitude)
        for switch in here:
            _zero(kept, switch)
        _replace(stack, kernel, "raw_amplitude", kernel.raw_amplitude.detach() * kept)
        _replace(stack, kernel, "fixed_amplitude", kernel.fixed_amplitude * kept)
    elif isinstance(attention, SoftmaxAttention):
        width = attention.o_proj.in_features // heads
        kept = (~off).to(attention.o_proj.weight.dtype).repeat_interleave(width)
        handle = attention.o_proj.register_forward_pre_hook(lambda _, given: (given[0] * kept,))
        stack.callback(handle.remove)


def _zero(kept: Tensor, switch: Switch) -> None:
    where = [
        slice(None) if index is None else slice(index, index + 1)
        for index in (
            switch.head, switch.delay, None if switch.harmonic is None else switch.harmonic - 1,
        )
    ]  # fmt: skip
    kept[tuple(where)] = 0.0


def _replace(stack: ExitStack, module: nn.Module, name: str, value: Tensor) -> None:
    old: Any = getattr(module, name)
    is_buffer = name in dict(module.named_buffers(recurse=False))
    setattr(module, name, value if is_buffer else nn.Parameter(value, requires_grad=False))
    stack.callback(setattr, module, name, old)


def _inverse_softplus(value: Tensor) -> Tensor:
    return value + torch.log(-torch.expm1(-value))


def _require_existing(switch: Switch, attentions: Sequence[nn.Module]) -> None:
    _require_below(switch.layer, "layer", 0, len(attentions))
    attention: Any = attentions[switch.layer]
    if switch.head is not None:
        _require_below(switch.head, "head", 0, attention.num_heads)
    if switch.whole:
        return
    if not isinstance(attention, FrustratedSynchronization):
        raise ValueError(
            f"`harmonic` and `delay` must be left out for a layer without a coupling kernel; got "
            f"{switch} of {type(attention).__name__}. Switch off the head."
        )
    kernel = attention.coupling_kernel
    if switch.harmonic is not None:
        _require_below(switch.harmonic, "harmonic", 1, kernel.num_harmonics + 1)
    if switch.delay is not None:
        _require_below(switch.delay, "delay", 0, kernel.num_delays)


def _require_below(index: int, name: str, first: int, end: int) -> None:
    check.require_integer(index, name, minimum=first)
    if index >= end:
        raise ValueError(f"`{name}` must be at most {end - 1}; got {index}. Choose a smaller one.")
