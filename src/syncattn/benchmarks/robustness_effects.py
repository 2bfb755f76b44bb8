"""The non-idealities that are swept, and the strengths at which they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from syncattn.simulation.devices import Device

__all__ = ["EFFECTS", "Effect", "effects_for"]


@dataclass(frozen=True)
class Effect:
    """One non-ideality and the strengths at which a trained model is run with it.

    Attributes:
        label: What the strength is, with its unit.
        values: The strengths, rising.
        device: From strength and median drive to a device.
        circle_only: Whether it exists for oscillators of two components alone.
        log: Whether strengths are spaced evenly in their logarithm.
    """

    label: str
    values: tuple[float, ...]
    device: Callable[[float, float], Device]
    circle_only: bool = False
    log: bool = True


_BITS = (2.0, 3.0, 4.0, 6.0, 8.0)

EFFECTS: dict[str, Effect] = {
    "coupling-mismatch": Effect(
        "coupling mismatch s (log-normal)",
        (0.05, 0.1, 0.2, 0.5, 1.0),
        lambda value, _: Device(coupling_mismatch=value),
    ),
    "coupling-bits": Effect(
        "bits of the couplings (range: each row)",
        _BITS,
        lambda value, _: Device(coupling_bits=int(value)),
        log=False,
    ),
    "anchor-error": Effect(
        "anchor misplacement per direction (rad)",
        (0.05, 0.1, 0.2, 0.5, 1.0),
        lambda value, _: Device(anchor_phase_error=value),
    ),
    "detuning": Effect(
        "detuning spread / median K",
        (0.003, 0.01, 0.03, 0.1, 0.3),
        lambda value, drive: Device(natural_frequency_spread=value * drive),
    ),
    "phase-lag": Effect(
        "phase lag α, not calibrated (rad)",
        (0.05, 0.1, 0.2, 0.5, 1.0),
        lambda value, _: Device(phase_lag=value),
    ),
    "second-harmonic": Effect(
        "second harmonic / first",
        (0.05, 0.1, 0.2, 0.5),
        lambda value, _: Device(second_harmonic=value),
        circle_only=True,
    ),
    "injection": Effect(
        "injection at twice the frequency / median K",
        (0.01, 0.03, 0.1, 0.3),
        lambda value, drive: Device(injection_strength=value * drive),
        circle_only=True,
    ),
    "thermal-noise": Effect(
        "thermal noise D / median K",
        (0.001, 0.003, 0.01, 0.03, 0.1),
        lambda value, drive: Device(thermal_noise=value * drive),
    ),
    "read-noise": Effect(
        "read noise s per component",
        (0.05, 0.1, 0.2, 0.5),
        lambda value, _: Device(read_noise=value),
    ),
    "converter-bits": Effect(
        "bits of the read-out",
        _BITS,
        lambda value, _: Device(converter_bits=int(value)),
        log=False,
    ),
}
"""Every effect by name; what is not on the axis is perfect."""

RELATIVE_TIMES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Settling times in units of the inverse median drive."""


def effects_for(oscillator_dim: int) -> dict[str, Effect]:
    """Returns the effects that exist for oscillators of so many components.

    Args:
        oscillator_dim: Number of components.

    Returns:
        The effects by name.
    """
    return {k: v for k, v in EFFECTS.items() if oscillator_dim == 2 or not v.circle_only}
