"""One description of an imperfect oscillator device; everything is off until it is switched on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch

from syncattn import _validation as check
from syncattn._typing import Tensor

__all__ = ["Device", "Hook"]

Hook = Callable[[Tensor, torch.Generator], Tensor]
"""A user's own imperfection: takes the tensor of a stage and a generator, returns a like tensor."""

_AMOUNTS = (
    "coupling_mismatch", "anchor_phase_error", "natural_frequency_spread", "second_harmonic",
    "injection_strength", "thermal_noise", "read_noise",
)  # fmt: skip
_MOST_BITS = 24.0


@dataclass(frozen=True)
class Device:
    r"""What a device does to :math:`h_i = \sum_j W_{ij} r_j` and to the oscillators it settles.

    Frequencies, noise intensities and times are in the units of the couplings: an oscillator
    settles at the rate :math:`K_i = |h_i|`, so what counts is :math:`\omega / K`, :math:`D / K` and
    :math:`K t`.

    Attributes:
        coupling_mismatch: :math:`s` of :math:`W e^{s \eta}`, one :math:`\eta` per link.
        coupling_bits: Bits with which a coupling is programmed; None programs it exactly.
        coupling_range: Largest coupling that can be programmed; ``"row"``, each oscillator's
            largest, which a gain per oscillator allows and which leaves the settled state alone;
            ``"layer"``, the largest of the layer for the sequence at hand; or a number.
        anchor_phase_error: Misplacement of an anchor in radians, in every direction along the
            sphere.
        natural_frequency_spread: Standard deviation of the detuning, absolute; on the circle one
            frequency per oscillator, above it one in every plane of two coordinates.
        phase_lag: :math:`\alpha` of :math:`\dot\theta = K \sin(\psi - \theta - \alpha)` in radians;
            above the circle the drive is turned by it in the plane of the first two coordinates.
        lag_calibrated: Whether the read-out turns the lag back.
        second_harmonic: Second harmonic of the coupling's waveform as a part of the first; circle
            only.
        injection_strength: Strength of a signal at twice the frequency, which locks phases to 0 or
            pi (left on from another use); circle only.
        thermal_noise: :math:`D` of :math:`dx = P_x h\,dt + \sqrt{2D}\,P_x \circ dB`. Exact for
            settled oscillators that are not detuned: von Mises–Fisher with :math:`\kappa = K/D`.
            With detuning, harmonics or a finite time the law is assumed around the state reached,
            as if that were where the oscillator rests: with the local rate for :math:`K` when it
            rests there, with the strength of the drive (:math:`K`, with harmonics
            :math:`K + 2 K_2`) when it is still moving or never locks. It holds for weak noise.
        thermal_readout: ``"sample"`` reads at an instant, ``"mean"`` the average over a long time,
            shorter than 1 by :math:`A_m(\kappa)`.
        num_readout_samples: Independent readings that are averaged.
        read_noise: Noise of the instrument per component, or per cosine.
        readout: ``"state"`` reads the oscillators and computes the cosines with the nominal
            anchors; ``"cosine"`` reads every cosine with the anchors as they were built.
        converter_bits: Bits of a reading: of the phase on the circle, of a component above it, of
            the cosine when these are read; None is exact.
        settling_time: When the oscillators are read; None waits for ever.
        start: ``"random"``, or ``"previous"``: each starts where the one before it ended, in a
            chain over the sequence.
        gain_control: Whether each oscillator's couplings are scaled to sum to 1, so that it settles
            at the rate :math:`\rho` instead of :math:`K`.
        draw: ``"chip"``: mismatch, misplacement and detuning belong to the chip and stay the same
            over a batch and from call to call; ``"inference"``: they are drawn every time. Noise
            and starts always are.
        on_couplings: Called with the programmed couplings, ``(batch, heads, queries, keys)``.
        on_anchors: Called with the anchors as built, ``(batch | 1, heads, keys, oscillator_dim)``.
        on_states: Called with the states before they are read, ``(batch, heads, queries,
            oscillator_dim)``.
        on_cosines: Called with the cosines that are read out, ``(batch, heads, queries, keys)``.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If an amount is negative, a choice unknown, or two do not go together.
    """

    coupling_mismatch: float = 0.0
    coupling_bits: int | None = None
    coupling_range: float | str = "row"
    anchor_phase_error: float = 0.0
    natural_frequency_spread: float = 0.0
    phase_lag: float = 0.0
    lag_calibrated: bool = False
    second_harmonic: float = 0.0
    injection_strength: float = 0.0
    thermal_noise: float = 0.0
    thermal_readout: str = "sample"
    num_readout_samples: int = 1
    read_noise: float = 0.0
    readout: str = "state"
    converter_bits: int | None = None
    settling_time: float | None = None
    start: str = "random"
    gain_control: bool = False
    draw: str = "chip"
    on_couplings: Hook | None = None
    on_anchors: Hook | None = None
    on_states: Hook | None = None
    on_cosines: Hook | None = None

    def __post_init__(self) -> None:
        """Checks every value."""
        for name in _AMOUNTS:
            check.require_number(getattr(self, name), name, minimum=0.0)
        check.require_number(self.phase_lag, "phase_lag")
        for name in ("coupling_bits", "converter_bits"):
            bits = getattr(self, name)
            if bits is not None:
                check.require_integer(bits, name, minimum=1)
                check.require_number(bits, name, minimum=1.0, maximum=_MOST_BITS)
        check.require_integer(self.num_readout_samples, "num_readout_samples", minimum=1)
        if self.settling_time is not None:
            check.require_number(self.settling_time, "settling_time", minimum=0.0)
        if isinstance(self.coupling_range, str):
            check.require_choice(self.coupling_range, "coupling_range", ("row", "layer"))
        else:
            check.require_number(
                self.coupling_range, "coupling_range", minimum=0.0, exclusive=True, maximum=1e30
            )
        check.require_choice(self.thermal_readout, "thermal_readout", ("sample", "mean"))
        check.require_choice(self.readout, "readout", ("state", "cosine"))
        check.require_choice(self.start, "start", ("random", "previous"))
        check.require_choice(self.draw, "draw", ("chip", "inference"))
        if self.has_harmonics and self.start == "previous":
            raise ValueError(
                "`start` must be 'random' with `second_harmonic` or `injection_strength`; got "
                "'previous', which would be integrated token by token. Switch one of them off."
            )

    @property
    def has_harmonics(self) -> bool:
        """True when the drive has a second harmonic."""
        return self.second_harmonic > 0 or self.injection_strength > 0

    def changes(self) -> dict[str, Any]:
        """Returns what is switched on, by name; functions by their names."""
        found = {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)
            if getattr(self, entry.name) != entry.default
        }
        return {
            name: getattr(value, "__name__", repr(value)) if callable(value) else value
            for name, value in found.items()
        }
