"""A second harmonic on the circle: where oscillators go, and which have two places to go to."""

from __future__ import annotations

import math

import torch

from syncattn._typing import Bool, Float, Tensor
from syncattn.simulation.theory import astroid_is_bistable, largest_on_circle

__all__ = ["bistable", "harmonic_flow", "local_rate", "locks", "velocity"]

Circle = Float[Tensor, "*batch 2"]
_STEPS = 400
_TIME_CONSTANTS = 80.0


def _polar(x: Circle) -> tuple[Tensor, Tensor]:
    return torch.linalg.vector_norm(x, dim=-1), torch.atan2(x[..., 1], x[..., 0])


def bistable(drive: Circle, second: Circle) -> Bool[Tensor, "*batch"]:
    r"""Returns which oscillators have two stable phases: those inside an astroid.

    .. math:: |K \cos\delta|^{2/3} + |K \sin\delta|^{2/3} < (2 K_2)^{2/3},
        \qquad \delta = \psi - \psi_2

    None is when :math:`K > 2 K_2`, all are when :math:`K < K_2`.

    Args:
        drive: :math:`K e^{i\psi}` as two components.
        second: :math:`K_2 e^{2 i \psi_2}` as two components.

    Returns:
        True where the phase reached depends on the start.
    """
    strength, phase = _polar(drive)
    second_strength, twice = _polar(second)
    return astroid_is_bistable(strength, phase - twice / 2, second_strength)


def velocity(
    phase: Float[Tensor, "*batch"],
    drive: Circle,
    second: Circle,
    frequency: Float[Tensor, "*#batch"],
) -> Float[Tensor, "*batch"]:
    r"""Returns how fast a phase turns.

    Args:
        phase: :math:`\theta`.
        drive: :math:`K e^{i\psi}`.
        second: :math:`K_2 e^{2 i \psi_2}`.
        frequency: :math:`\omega`.

    Returns:
        :math:`\omega + K \sin(\psi - \theta) + K_2 \sin 2(\psi_2 - \theta)`.
    """
    first = drive[..., 1] * phase.cos() - drive[..., 0] * phase.sin()
    twice = second[..., 1] * (2 * phase).cos() - second[..., 0] * (2 * phase).sin()
    return frequency + first + twice


def locks(
    drive: Circle, second: Circle, frequency: Float[Tensor, "*#batch"]
) -> Bool[Tensor, "*batch"]:
    r"""Returns which oscillators have a place to settle: whose velocity changes sign on the circle.

    Without a second harmonic that is :math:`|\omega| < K`.

    Args:
        drive: :math:`K e^{i\psi}`.
        second: :math:`K_2 e^{2 i \psi_2}`.
        frequency: :math:`\omega`.

    Returns:
        True where the velocity has a stable zero, wherever the oscillator is.
    """
    one, two = (torch.stack((x[..., 1], -x[..., 0]), -1) for x in (drive, second))
    most, least = largest_on_circle(one, two), -largest_on_circle(-one, -two)
    return (frequency + most > 0) & (frequency + least < 0)


def local_rate(state: Circle, drive: Circle, second: Circle) -> Float[Tensor, "*batch"]:
    r"""Returns the rate at which a small deviation from a state decays.

    Args:
        state: Unit vectors.
        drive: :math:`K e^{i\psi}`.
        second: :math:`K_2 e^{2 i \psi_2}`.

    Returns:
        :math:`K \cos(\psi - \theta) + 2 K_2 \cos 2(\psi_2 - \theta)`; negative where it grows.
    """
    phase = torch.atan2(state[..., 1], state[..., 0])
    doubled = torch.stack([(2 * phase).cos(), (2 * phase).sin()], -1)
    return (state * drive).sum(-1) + 2 * (doubled * second).sum(-1)


def harmonic_flow(
    drive: Circle,
    second: Circle,
    start: Circle,
    *,
    time: Tensor | float = math.inf,
    frequency: Tensor | float = 0.0,
) -> Circle:
    r"""Returns the state of :math:`\dot\theta = \omega + K \sin(\psi - \theta) + K_2 \sin 2(\psi_2
    - \theta)` after a time.

    There is no closed form: fourth-order Runge–Kutta, 400 steps. An oscillator is followed for at
    most 80 of its own time constants, :math:`1 / (K + 2 K_2 + |\omega|)`.

    Args:
        drive: :math:`K e^{i\psi}`.
        second: :math:`K_2 e^{2 i \psi_2}`.
        start: Unit vectors.
        time: One time, or one per oscillator; infinite for as long as it is followed.
        frequency: :math:`\omega`, broadcastable.

    Returns:
        Unit vectors.
    """  # noqa: D205
    h, other, x = drive.double(), second.double(), start.double()
    omega = torch.as_tensor(frequency, dtype=h.dtype, device=h.device)
    rate = _polar(h)[0] + 2 * _polar(other)[0] + omega.abs()
    limit = _TIME_CONSTANTS / rate.clamp(min=1e-30)
    span = torch.minimum(torch.as_tensor(time, dtype=h.dtype, device=h.device), limit)
    step = span / _STEPS
    phase = torch.atan2(x[..., 1], x[..., 0]).expand(rate.shape).clone()
    for _ in range(_STEPS):
        one = velocity(phase, h, other, omega)
        two = velocity(phase + step / 2 * one, h, other, omega)
        three = velocity(phase + step / 2 * two, h, other, omega)
        four = velocity(phase + step * three, h, other, omega)
        phase = phase + step / 6 * (one + 2 * two + 2 * three + four)
    return torch.stack([phase.cos(), phase.sin()], -1).to(start.dtype)
