"""Oscillator attention as a device would do it: program, settle, read."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from syncattn import _validation as check
from syncattn._typing import Bool, Float, Tensor
from syncattn.functional.oscillator_settling import Settle
from syncattn.functional.oscillator_settling import settle as settle_exactly
from syncattn.simulation import device_noise as noise
from syncattn.simulation import sensitivity
from syncattn.simulation.device_flow import detuned_flow, rotation_generator, turned
from syncattn.simulation.device_harmonics import (
    bistable,
    harmonic_flow,
    local_rate,
    locks,
    velocity,
)
from syncattn.simulation.device_random import Draws
from syncattn.simulation.devices import Device
from syncattn.simulation.theory_sphere import lohe_equilibrium, von_mises_fisher_mean

__all__ = ["Settled", "device_weights", "predicted_angle", "program", "settle"]

Coupling = Float[Tensor, "batch heads queries keys"]
Anchor = Float[Tensor, "*#batch keys oscillator_dim"]
State = Float[Tensor, "batch heads queries oscillator_dim"]
_TINY = 1e-30
_AT_REST = 1e-3


class Settled(NamedTuple):
    """Oscillators at the moment they are read.

    Attributes:
        state: Unit vectors; 0 where nothing drives and nothing turns.
        rate: Rate at which a small deviation decays; 0 where it does not.
        unlocked: Whether the detuning is stronger than the drive and leaves no place to settle,
            wherever the oscillator is; None without detuning.
        bistable: Whether there are two places to settle; None without a second harmonic.
        hold: What thermal noise works against: the rate at rest; where an oscillator is not at
            rest the strength of its drive, :math:`K`, with harmonics :math:`K + 2 K_2`. The rate
            when None.
    """

    state: State
    rate: Float[Tensor, "batch heads queries"]
    unlocked: Bool[Tensor, "batch heads queries"] | None = None
    bistable: Bool[Tensor, "batch heads queries"] | None = None
    hold: Float[Tensor, "batch heads queries"] | None = None


def program(
    coupling: Coupling, anchor: Anchor, device: Device, draws: Draws
) -> tuple[Coupling, Anchor]:
    """Returns the couplings and anchors as the device holds them.

    Args:
        coupling: Couplings asked for, 0 where there is no link.
        anchor: Anchors asked for.
        device: The device.
        draws: Its random numbers.

    Returns:
        Couplings, 0 where they were 0, and anchors of the lengths they had.
    """
    batch, W, r = coupling.shape[0], coupling, anchor
    if device.coupling_bits is not None:
        W = noise.quantised_couplings(W, device.coupling_bits, device.coupling_range)
    if device.coupling_mismatch:
        eta = draws.built("coupling", batch, tuple(W.shape[1:])).to(W.dtype)
        W = W * torch.exp(device.coupling_mismatch * eta)
    if device.gain_control:
        W = W / W.sum(-1, keepdim=True).clamp(min=_TINY)
    if device.on_couplings is not None:
        W = torch.where(coupling > 0, device.on_couplings(W, draws.generator), 0.0)
    if device.anchor_phase_error:
        r = _misplaced(r, device.anchor_phase_error, draws, batch)
    if device.on_anchors is not None:
        r = device.on_anchors(r, draws.generator)
    return W, r


def _misplaced(anchor: Tensor, error: float, draws: Draws, batch: int) -> Tensor:
    kick = draws.built("anchor", batch, tuple(anchor.shape[1:])).to(anchor.dtype)
    length = torch.linalg.vector_norm(anchor, dim=-1, keepdim=True)
    unit = anchor / length.clamp(min=_TINY)
    tangent = error * (kick - (kick * unit).sum(-1, keepdim=True) * unit)
    angle = torch.linalg.vector_norm(tangent, dim=-1, keepdim=True)
    return length * (angle.cos() * unit + angle.sin() / angle.clamp(min=_TINY) * tangent)


def _rotated(x: Tensor, angle: float) -> Tensor:
    """Returns vectors turned in the plane of their first two coordinates."""
    first, second, rest = x[..., :1], x[..., 1:2], x[..., 2:]
    c, s = math.cos(angle), math.sin(angle)
    return torch.cat([c * first - s * second, s * first + c * second, rest], -1)


def _second_drive(coupling: Tensor, anchor: Tensor, device: Device) -> Tensor:
    length = torch.linalg.vector_norm(anchor, dim=-1, keepdim=True)
    x, y = anchor[..., :1], anchor[..., 1:]
    doubled = torch.cat([x * x - y * y, 2 * x * y], -1) / length.clamp(min=_TINY)
    second = device.second_harmonic * (coupling @ doubled)
    injection = torch.tensor([device.injection_strength, 0.0]).to(second)
    return second + injection


def settle(coupling: Coupling, anchor: Anchor, device: Device, draws: Draws) -> Settled:
    """Returns the oscillators when they are read.

    Args:
        coupling: Couplings as the device holds them.
        anchor: Anchors as the device holds them.
        device: The device.
        draws: Its random numbers.

    Returns:
        States, rates, and which are unlocked or bistable.

    Raises:
        ValueError: If a second harmonic is asked for above the circle.
    """
    h = coupling @ anchor
    if device.phase_lag:
        h = _rotated(h, -device.phase_lag)
    dim = h.shape[-1]
    skew = None
    if device.natural_frequency_spread:
        shape = (*h.shape[1:-1], dim * (dim - 1) // 2)
        normal = draws.built("frequency", h.shape[0], shape).to(h.dtype)
        skew = rotation_generator(device.natural_frequency_spread * normal, dim)
    if device.has_harmonics:
        if dim != 2:
            raise ValueError(
                f"`second_harmonic` and `injection_strength` must be 0 above the circle; got "
                f"oscillators of {dim} components. Leave them off, or train with "
                f"`oscillator_dim=2`."
            )
        return _with_harmonics(h, _second_drive(coupling, anchor, device), skew, device, draws)
    if skew is not None:
        return _detuned(h, skew, device, draws)
    rate = torch.linalg.vector_norm(h, dim=-1)
    if device.settling_time is None:
        return Settled(h / rate.unsqueeze(-1).clamp(min=_TINY), rate)
    start = _start(h, draws)
    if device.start == "random":
        return Settled(settle_exactly(h, Settle(device.settling_time), start), rate)
    state = start[:, :, 0]
    chain: list[Tensor] = []
    for token in range(h.shape[2]):
        state = settle_exactly(h[:, :, token], Settle(device.settling_time), state)
        chain.append(state)
    return Settled(torch.stack(chain, 2), rate)


def _start(drive: Tensor, draws: Draws) -> Tensor:
    shape = tuple(drive.shape)
    return noise.uniform_directions(shape, generator=draws.generator, dtype=drive.dtype)


def _with_harmonics(
    h: Tensor, second: Tensor, skew: Tensor | None, device: Device, draws: Draws
) -> Settled:
    omega = torch.zeros_like(h[..., 0]) if skew is None else skew[..., 1, 0].expand(h.shape[:-1])
    time = math.inf if device.settling_time is None else device.settling_time
    state = harmonic_flow(h, second, _start(h, draws), time=time, frequency=omega)
    strength = torch.linalg.vector_norm(h, dim=-1) + 2 * torch.linalg.vector_norm(second, dim=-1)
    locked = strength > 0 if skew is None else locks(h, second, omega)
    rate = torch.where(locked, local_rate(state, h, second).clamp(min=0), 0.0)
    speed = velocity(torch.atan2(state[..., 1], state[..., 0]), h, second, omega).abs()
    at_rest = (rate > 0) & (speed <= _AT_REST * strength)
    hold = torch.where(at_rest, rate, strength)
    return Settled(state, rate, None if skew is None else ~locked, bistable(h, second), hold)


def _detuned(h: Tensor, skew: Tensor, device: Device, draws: Draws) -> Settled:
    rest, rate = lohe_equilibrium(h.double(), skew.double().expand(*h.shape, h.shape[-1]))
    locked = rate.isfinite()
    strength = torch.linalg.vector_norm(h, dim=-1)
    hold = torch.where(locked, rate.to(h.dtype), strength)
    rest, rate = rest.to(h.dtype), rate.nan_to_num(nan=0.0).to(h.dtype)
    start = _start(h, draws)
    if device.settling_time is None:
        state = rest
        if not bool(locked.all()):
            # What never rests is read at a random moment of many turns.
            turn = torch.linalg.matrix_norm(skew.double()).clamp(min=_TINY)
            moment = torch.rand(h.shape[:-1], generator=draws.generator, device=h.device)
            moment = moment.double() * 200 * math.pi / turn
            drift = turned(detuned_flow(h, skew, moment), start)
            state = torch.where(locked.unsqueeze(-1), rest, drift)
        return Settled(state, rate, ~locked, hold=hold)
    maps = detuned_flow(h, skew, device.settling_time)
    if device.start == "random":
        return Settled(turned(maps, start), rate, ~locked, hold=hold)
    state = start[:, :, 0]
    chain: list[Tensor] = []
    for token in range(h.shape[2]):
        state = turned(maps[:, :, token], state)
        chain.append(state)
    return Settled(torch.stack(chain, 2), rate, ~locked, hold=hold)


def _readings(settled: Settled, device: Device, draws: Draws) -> Tensor:
    """Returns the states as one reading of the instrument finds them."""
    x, dim = settled.state, settled.state.shape[-1]
    if device.thermal_noise:
        # Where nothing rests there is no stationary law around a place; this one is right for
        # little noise, which moves what is read by little.
        hold = settled.rate if settled.hold is None else settled.hold
        kappa = hold / device.thermal_noise
        if device.thermal_readout == "mean":
            x = x * von_mises_fisher_mean(dim, kappa).to(x.dtype).unsqueeze(-1)
        else:
            x = noise.von_mises_fisher(x, kappa, generator=draws.generator)
    if device.phase_lag and device.lag_calibrated:
        x = _rotated(x, device.phase_lag)
    if device.on_states is not None:
        x = device.on_states(x, draws.generator)
    if device.readout == "state":
        if device.read_noise:
            x = noise.noisy_reading(x, device.read_noise, generator=draws.generator)
        if device.converter_bits is not None:
            x = noise.quantised_state(x, device.converter_bits)
    return x


def device_weights(
    coupling: Coupling,
    anchor: Anchor,
    device: Device,
    draws: Draws,
    *,
    mask: Bool[Tensor, "*#batch #queries #keys"] | None = None,
    readout_power: int = 1,
    readout_gain: Tensor | float = 1.0,
) -> tuple[Coupling, State, Settled]:
    r"""Returns the weights that a device reads out.

    Args:
        coupling: Couplings asked for, 0 where there is no link.
        anchor: Anchors asked for.
        device: The device.
        draws: Its random numbers.
        mask: True where oscillator i reads anchor j.
        readout_power: :math:`p` of :math:`(1 + x \cdot r)^p`.
        readout_gain: Factor of the cosine, broadcastable to the weights.

    Returns:
        The weights, rows of sum 1 (0 for a row that sees nothing); the mean reading of the states;
        the oscillators before they were read.

    Raises:
        ValueError: If the device needs oscillators on the circle and these are not, or what it does
            overflows.
    """
    W, r = program(coupling, anchor, device, draws)
    settled = settle(W, r, device, draws)
    seen = (r if device.readout == "cosine" else anchor).mT
    state, cosine = torch.zeros_like(settled.state), torch.zeros_like(coupling)
    for _ in range(device.num_readout_samples):
        x = _readings(settled, device, draws)
        state = state + x / device.num_readout_samples
        if device.readout == "state":
            continue
        reading = x @ seen
        if device.read_noise:
            kick = draws.fresh(tuple(reading.shape)).to(reading.dtype)
            reading = reading + device.read_noise * kick
        if device.converter_bits is not None:
            reading = noise.quantised_cosine(reading, device.converter_bits)
        cosine = cosine + reading / device.num_readout_samples
    cosine = state @ seen if device.readout == "state" else cosine
    if device.on_cosines is not None:
        cosine = device.on_cosines(cosine, draws.generator)
    weights = (1 + readout_gain * cosine).clamp(min=0) ** readout_power
    weights = weights if mask is None else torch.where(mask, weights, 0.0)
    total = weights.sum(-1, keepdim=True)
    weights = weights / torch.where(total > 0, total, 1.0)
    check.require_computed(weights, "device")
    return weights, state, settled


def predicted_angle(
    coupling: Coupling, anchor: Anchor, device: Device
) -> Float[Tensor, "batch heads queries"]:
    """Returns the rms angle by which theory expects the states to be read wrongly, in first order.

    Independent effects add in squares; hooks are not known to it. The settling is that of random
    starts: with `start="previous"` oscillators begin nearer and come nearer.

    Args:
        coupling: Couplings asked for.
        anchor: Anchors asked for.
        device: The device.

    Returns:
        Radians.
    """
    h = coupling @ anchor
    dim, n = h.shape[-1], device.num_readout_samples
    rate = torch.linalg.vector_norm(h, dim=-1)
    e = h / rate.unsqueeze(-1).clamp(min=_TINY)
    if device.gain_control:
        rate = rate / coupling.sum(-1).clamp(min=_TINY)
    square = sensitivity.coupling_mismatch_angle(coupling, anchor, device.coupling_mismatch) ** 2
    if device.coupling_bits is not None:
        square = (
            square
            + sensitivity.coupling_quantisation_angle(
                coupling, anchor, device.coupling_bits, device.coupling_range
            ).square()
        )
    square = (
        square
        + sensitivity.anchor_error_angle(coupling, anchor, device.anchor_phase_error).square()
    )
    spread = device.natural_frequency_spread
    square = square + sensitivity.detuning_spread_angle(rate, spread, dim) ** 2
    if device.phase_lag and not device.lag_calibrated:
        chord = torch.linalg.vector_norm(_rotated(e, -device.phase_lag) - e, dim=-1)
        square = square + (2 * torch.asin((chord / 2).clamp(max=1))) ** 2
    if device.has_harmonics:
        held = coupling
        if device.gain_control:
            held = coupling / coupling.sum(-1, keepdim=True).clamp(min=_TINY)
        second = _second_drive(held, anchor, device)
        twice = torch.stack([e[..., 0] ** 2 - e[..., 1] ** 2, 2 * e[..., 0] * e[..., 1]], -1)
        across = second[..., 1] * twice[..., 0] - second[..., 0] * twice[..., 1]
        square = square + (across / rate.clamp(min=_TINY)) ** 2
    if device.thermal_readout == "sample":
        square = square + sensitivity.thermal_angle(rate, device.thermal_noise, dim) ** 2 / n
    if device.settling_time is not None:
        square = square + sensitivity.settling_angle(rate, device.settling_time, dim) ** 2
    if device.readout == "state":
        square = square + sensitivity.read_noise_angle(device.read_noise, dim) ** 2 / n
        if device.converter_bits is not None:
            square = square + sensitivity.converter_angle(device.converter_bits, dim) ** 2
    return square.sqrt()
