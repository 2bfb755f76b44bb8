"""How free oscillators settle: to the equilibrium, for a time, by Euler steps or by a solver."""

from __future__ import annotations

import math
import re
from dataclasses import astuple, dataclass
from importlib import import_module
from typing import Any

import torch

from syncattn import _validation as check
from syncattn import reference
from syncattn._typing import Float, Int, Tensor

Oscillators = Float[Tensor, "*batch oscillator_dim"]


@dataclass(frozen=True)
class Equilibrium:
    """Forever: the closed form of the attractor, whatever the initial state."""

    def __str__(self) -> str:
        return "equilibrium"


@dataclass(frozen=True)
class Settle:
    """For a time: the exact solution of the flow, no solver.

    Attributes:
        time: At least 0, in the inverse unit of the couplings.
    """

    time: float

    def __post_init__(self) -> None:
        check.require_number(self.time, "time", minimum=0.0)

    def __str__(self) -> str:
        return _text(self)


@dataclass(frozen=True)
class Euler:
    """By steps along the tangent, renormalised after each.

    Attributes:
        num_steps: Number of steps, at least 1.
        step: Length of a step in the inverse unit of the couplings; times the largest drive at
            most 2, or the oscillators never come to rest.
    """

    num_steps: int
    step: float

    def __post_init__(self) -> None:
        check.require_integer(self.num_steps, "num_steps", minimum=1)
        check.require_number(self.step, "step", minimum=0.0, maximum=math.inf, exclusive=True)

    def __str__(self) -> str:
        return _text(self)


@dataclass(frozen=True)
class ODE:
    """For a time, by the adaptive solver dopri5 of torchdiffeq: an independent check, slow.

    Attributes:
        time: At least 0.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
    """

    time: float
    rtol: float = 1e-6
    atol: float = 1e-8

    def __post_init__(self) -> None:
        check.require_number(self.time, "time", minimum=0.0)
        check.require_number(self.rtol, "rtol", minimum=0.0, maximum=1.0, exclusive=True)
        check.require_number(self.atol, "atol", minimum=0.0, maximum=1.0, exclusive=True)

    def __str__(self) -> str:
        return _text(self)


SettlingMode = Equilibrium | Settle | Euler | ODE

MODES: dict[str, type[Any]] = {
    "equilibrium": Equilibrium,
    "settle": Settle,
    "euler": Euler,
    "ode": ODE,
}
"""Settling modes by the name that begins their text."""


def settling_mode(mode: SettlingMode | str) -> SettlingMode:
    """Returns the settling mode that a text names, or the mode itself.

    Args:
        mode: ``"equilibrium"``, ``"settle(time)"``, ``"euler(num_steps, step)"`` or
            ``"ode(time)"``, which also takes ``"ode(time, rtol, atol)"``.

    Returns:
        The mode; ``str`` gives the text back.

    Raises:
        TypeError: If it is neither a text nor a mode.
        ValueError: If the text is none of these or a number is out of range.

    Example:
        >>> settling_mode("settle(5)")
        Settle(time=5.0)
        >>> str(settling_mode("euler(20, 0.5)"))
        'euler(20, 0.5)'
    """
    if isinstance(mode, SettlingMode):
        return mode
    check.require_instance(mode, "mode", str, "Write it like 'settle(5.0)', or build a mode.")
    found = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\)\s*)?", mode)
    words = [] if found is None or not found[2] else found[2].split(",")
    try:
        assert found is not None
        numbers: list[Any] = [float(word) for word in words]
        if found[1] == "euler":
            numbers[0] = int(words[0])
        kind = MODES[found[1]]
        made: SettlingMode = kind(*numbers)
    except (AssertionError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f" ({error})" if str(error).startswith("`") else ""
        raise ValueError(
            f"`mode` must be 'equilibrium', 'settle(time)', 'euler(num_steps, step)' or "
            f"'ode(time)'; got {mode!r}{reason}. Write it like 'settle(5.0)' or 'euler(20, 0.1)'."
        ) from error
    return made


def initial_oscillators(
    place: Int[Tensor, "*batch queries"], num_heads: int, oscillator_dim: int, *, seed: int = 0
) -> Float[Tensor, "*batch heads queries oscillator_dim"]:
    """Returns initial states drawn uniformly on the sphere, the same ones in every call.

    The draw is a function of seed, head and place alone: it does not hang on the device, the
    batch, or how many tokens are computed at once, and is one graph under torch.compile.

    Args:
        place: Place of each token in its sequence, ``(queries,)`` or ``(batch, queries)``.
        num_heads: Number of heads.
        oscillator_dim: Coordinates of a state.
        seed: Another number gives another draw.

    Returns:
        Unit vectors in float64.

    Raises:
        TypeError: If the places or a number are not integers.
        ValueError: If `place` has another rank, or a number is too small.
    """
    check.require_counts(place, "place", "Count the tokens from 0.")
    if place.dim() not in {1, 2}:
        raise ValueError(
            f"`place` must have the axes (queries) or (batch, queries); got shape "
            f"{tuple(place.shape)}. Reshape it."
        )
    check.require_integer(num_heads, "num_heads", minimum=1)
    check.require_integer(oscillator_dim, "oscillator_dim", minimum=1)
    check.require_integer(seed, "seed", minimum=0)
    device = place.device
    head = torch.arange(num_heads, device=device)[:, None, None]
    # Two uniform numbers make one normal one.
    coordinate = torch.arange(2 * oscillator_dim, device=device)
    token = _scrambled(_scrambled(head + (seed << 8)) + place[..., None, :, None])
    bits = _scrambled(token + _scrambled(coordinate + 1))
    u, w = ((bits.double() + 0.5) / 2**32).chunk(2, -1)
    normal = (-2 * u.log()).sqrt() * (2 * torch.pi * w).cos()
    return normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)


def settle(
    drive: Oscillators, mode: SettlingMode | str = "equilibrium", initial: Oscillators | None = None
) -> Oscillators:
    r"""Returns the free oscillators after settling under a constant drive.

    All modes follow :math:`\dot x = (I - x x^\top) h`. At :math:`h = 0` the equilibrium is 0, which
    reads out uniformly; the other modes stay where they began.

    Args:
        drive: :math:`h`, float32 or float64.
        mode: See `settling_mode`.
        initial: Unit vectors; needed by all modes but ``"equilibrium"``.

    Returns:
        Unit vectors wherever the equilibrium is one.

    Raises:
        ValueError: If the initial states are missing, or a step is too long for the drive.
        ImportError: If the mode needs torchdiffeq and it is not installed.
    """
    mode = settling_mode(mode)
    check.require_floating(drive, "drive")
    if drive.dim() == 0:
        raise ValueError(
            "`drive` must have an axis of coordinates; got a single number. Pass vectors."
        )
    if isinstance(mode, Equilibrium):
        return reference.equilibrium(drive)
    if initial is None:
        raise ValueError(
            f"`initial` must be given with the mode '{mode}', which starts somewhere; got None. "
            f"Pass unit vectors, for example of `initial_oscillators`."
        )
    check.require_floating(initial, "initial")
    check.require_together({"drive": drive, "initial": initial})
    if initial.shape != drive.shape or initial.dtype != drive.dtype:
        raise ValueError(
            f"`initial` must have the shape and dtype of `drive`, {tuple(drive.shape)} in "
            f"{drive.dtype}; got {tuple(initial.shape)} in {initial.dtype}. Expand or convert it."
        )
    if isinstance(mode, Settle):
        out = _flow(drive, initial, mode.time)
    elif isinstance(mode, Euler):
        out = _euler(drive, initial, mode)
    else:
        out = _solve(drive, initial, mode)
    check.require_computed(out, "drive", "initial")
    return out


def _flow(h: Tensor, x: Tensor, time: float) -> Tensor:
    """Returns the exact flow as a Möbius translation by a = tanh(Kt/2) e: finite everywhere."""
    # Beyond this K t a start off the antipode has arrived to the last bit; one exactly on it stays,
    # with a gradient that grows like exp(K t) and must not overflow.
    longest = 200.0 if h.dtype == torch.float64 else 30.0
    small = torch.linalg.vector_norm(h.detach(), dim=-1, keepdim=True) * time < 1
    # Small K t: in powers of |h|², smooth at h = 0.
    z = torch.where(small, h, 0.0) * (time / 2)
    near = z * _tanh_over(z.square().sum(-1, keepdim=True))
    # Any other K t: what is left to the end, without a difference of near numbers.
    far = torch.where(small, torch.ones_like(h), h)
    K = torch.linalg.vector_norm(far, dim=-1, keepdim=True)
    e = far / K
    q = torch.exp(-(K * time).clamp(max=longest))
    gap = 2 * q / (1 + q)
    a = torch.where(small, near, e - gap * e)
    rest = torch.where(small, 1 - near.square().sum(-1, keepdim=True), gap * (2 - gap))
    y = torch.where(small, x + near, (x + e) - gap * e)
    return a + rest * y / y.square().sum(-1, keepdim=True)  # theory: OA-7


def _tanh_over(square: Tensor) -> Tensor:
    """Returns tanh(z)/z from z² below 1/4 by its continued fraction, exact to the last bit."""
    fraction = torch.full_like(square, 17.0)
    for odd in range(15, -1, -2):
        fraction = odd + square / fraction
    return 1 / fraction


def _euler(h: Tensor, x: Tensor, mode: Euler) -> Tensor:
    if not torch.compiler.is_compiling() and h.numel() and h.device.type != "meta":
        largest = torch.linalg.vector_norm(h.detach(), dim=-1).max().item()
        if mode.step * largest > 2 * (1 + 1e-6):
            raise ValueError(
                f"`step` times the largest drive must be at most 2, or the oscillators overshoot "
                f"forever; got {mode.step:g} times {largest:.4g}. Use a step of at most "
                f"{2 / largest:.3g}, or `row_gain`, which brings every drive to 1 or below."
            )
    for _ in range(mode.num_steps):
        x = x + mode.step * (h - (x * h).sum(-1, keepdim=True) * x)  # theory: OA-8
        x = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x


def _solve(h: Tensor, x: Tensor, mode: ODE) -> Tensor:
    try:
        odeint: Any = import_module("torchdiffeq").odeint
    except ModuleNotFoundError as error:
        raise ImportError(
            f"`mode` '{mode}' needs torchdiffeq, which is not installed. Install the extra: "
            f"pip install 'syncattn[ode]', or use 'settle({mode.time:g})', the exact solution."
        ) from error
    if mode.time == 0:
        return x
    # Tolerances below the rounding of float32 would stall the solver.
    wide, start = h.double(), x.double()

    def speed(_: Tensor, y: Tensor) -> Tensor:
        return wide - (y * wide).sum(-1, keepdim=True) * y

    ends = torch.tensor([0.0, mode.time], dtype=torch.float64, device=h.device)
    y = odeint(speed, start, ends, rtol=mode.rtol, atol=mode.atol, method="dopri5")[-1]
    return (y / torch.linalg.vector_norm(y, dim=-1, keepdim=True)).to(h.dtype)


def _scrambled(x: Tensor) -> Tensor:
    """Returns 32 bits in which every bit of the integer has a say."""
    x = x & 0xFFFFFFFF
    for _ in range(2):
        x = (((x >> 16) ^ x) * 0x45D9F3B) & 0xFFFFFFFF
    return (x >> 16) ^ x


def _text(mode: Any) -> str:
    numbers = astuple(mode)
    if isinstance(mode, ODE) and mode == ODE(mode.time):
        numbers = numbers[:1]
    return f"{type(mode).__name__.lower()}({', '.join(repr(n) for n in numbers)})"
