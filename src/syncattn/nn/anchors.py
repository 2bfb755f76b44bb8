"""Where the fixed oscillators of a layer come from: a table of places, tokens, or a rotation."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Float, Int, Tensor
from syncattn.functional.oscillators import at_least_float32
from syncattn.nn.decay import without_decay

Stream = Float[Tensor, "batch length width"]
Places = Int[Tensor, "*batch length"]
AnchorRows = Float[Tensor, "anchor_batch heads length oscillator_dim"]

TABLES = ("ball", "unit", "free")
KINDS = (*TABLES, "content", "rotary", "rotary-content")
UNLIMITED = ("content", "rotary", "rotary-content")
"""Kinds of anchors that take sequences of any length."""

PERIODS = (4.0, 512.0)
"""Shortest and longest period of a rotation at first, in tokens."""

_STRETCH = 4096


@runtime_checkable
class Anchors(Protocol):
    """What every kind of anchors offers.

    Attributes:
        bounded: Whether the norm of every anchor is at most 1.
        max_positions: Number of places; None for no limit.
    """

    bounded: bool
    max_positions: int | None

    def __call__(self, hidden_states: Stream, place: Places) -> AnchorRows:
        """Returns one anchor per token in float32 or float64.

        The shape is ``(batch | 1, heads, length, oscillator_dim)``.

        Args:
            hidden_states: The tokens that the anchors sit on, ``(batch, length, hidden_size)``.
            place: The place of each in its sequence, ``(length,)`` or ``(batch, length)``.
        """
        ...

    def reset_parameters(self) -> None:
        """Draws the parameters again."""
        ...


def build_anchors(
    kind: str,
    hidden_size: int,
    num_heads: int,
    oscillator_dim: int,
    *,
    max_positions: int | None = None,
) -> nn.Module:
    """Returns the anchors of a kind, an `Anchors`.

    Args:
        kind: ``"ball"``, ``"unit"``, ``"free"``, ``"content"``, ``"rotary"`` or
            ``"rotary-content"``.
        hidden_size: Width of the stream that the anchors sit on.
        num_heads: Number of heads.
        oscillator_dim: Coordinates of an anchor.
        max_positions: Places of a table; read by the first three kinds alone.

    Raises:
        ValueError: If the kind is unknown or a table has no size.
        TypeError: If `max_positions` is not an integer.
    """
    check.require_choice(kind, "anchors", KINDS)
    if kind == "content":
        return ContentAnchors(hidden_size, num_heads, oscillator_dim)
    if kind == "rotary":
        return RotaryAnchors(num_heads, oscillator_dim)
    if kind == "rotary-content":
        return RotaryAnchors(num_heads, oscillator_dim, hidden_size=hidden_size)
    if max_positions is None:
        raise ValueError(
            f"`max_positions` must be given with `anchors` {kind!r}, a table with a row per place; "
            f"got None. Pass the longest length, or use {_unlimited()}, which have no limit."
        )
    return TableAnchors(num_heads, max_positions, oscillator_dim, norm=kind)


def in_ball(x: Float[Tensor, "*shape oscillator_dim"]) -> Float[Tensor, "*shape oscillator_dim"]:
    r"""Returns :math:`x / \sqrt{1 + |x|^2}`, in the open unit ball: norm 1 goes to 0.71.

    Args:
        x: Any vectors, float32 or float64.
    """
    # theory: OA-14
    return x * (1 + x.square().sum(-1, keepdim=True)).rsqrt()


class TableAnchors(nn.Module):
    r"""A learned anchor per head and place; places beyond the table are refused.

    Args:
        num_heads: Number of heads.
        max_positions: Number of places.
        oscillator_dim: Coordinates of an anchor.
        norm: ``"ball"`` (norm below 1), ``"unit"`` (as in the paper's statement) or ``"free"`` (as
            in the published code, where anchors leave the sphere in training).

    Raises:
        ValueError: If `max_positions` is smaller than 1 or `norm` unknown.
        TypeError: If `max_positions` is not an integer.
    """

    def __init__(
        self, num_heads: int, max_positions: int, oscillator_dim: int, *, norm: str = "ball"
    ) -> None:
        super().__init__()
        check.require_integer(max_positions, "max_positions", minimum=1)
        check.require_choice(norm, "anchors", TABLES)
        self.norm = norm
        self.bounded = norm != "free"
        self.max_positions = max_positions
        self.raw_anchor = nn.Parameter(torch.empty(num_heads, max_positions, oscillator_dim))
        without_decay(self, "raw_anchor")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the anchors uniformly on the sphere, once; the ball starts at norm 0.71."""
        _draw_on_sphere(self.raw_anchor)

    def forward(self, hidden_states: Stream, place: Places) -> AnchorRows:
        """Returns the anchors of the places.

        Args:
            hidden_states: Of no account.
            place: ``(length,)`` or ``(batch, length)``.

        Returns:
            ``(batch | 1, heads, length, oscillator_dim)``.

        Raises:
            ValueError: If a vector of the places has length 0 where only its direction counts.
        """
        raw = at_least_float32(self.raw_anchor)
        checked = self.norm == "unit" and raw.device.type == "cpu"
        if checked and not torch.compiler.is_compiling():
            short = int((raw.detach()[:, place.unique()] == 0).all(-1).sum())
            if short:
                raise ValueError(
                    f"`anchor` must have vectors of length above 0; got {short} of length 0 in the "
                    f"table. Call reset_parameters, or draw them from a normal distribution."
                )
        if self.norm == "unit":
            raw = _unit(raw)
        elif self.norm == "ball":
            raw = in_ball(raw)
        rows = raw[:, place]
        return rows.transpose(0, 1) if place.dim() == 2 else rows[None]


class ContentAnchors(nn.Module):
    r"""Anchors :math:`r_j = A u_j / \sqrt{1 + |A u_j|^2}` of the tokens themselves.

    No limit of length and no position; constant while the oscillators settle, so that all of the
    theory holds, but a device programs them anew for every token.

    Args:
        hidden_size: Width of the tokens.
        num_heads: Number of heads.
        oscillator_dim: Coordinates of an anchor.
    """

    bounded = True
    max_positions = None

    def __init__(self, hidden_size: int, num_heads: int, oscillator_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.anchor_proj = nn.Linear(hidden_size, num_heads * oscillator_dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the projection so that tokens of size 1 give coordinates of size 1."""
        with torch.no_grad():
            self.anchor_proj.weight.normal_(std=self.anchor_proj.in_features**-0.5)

    def forward(self, hidden_states: Stream, place: Places) -> AnchorRows:
        """Returns the anchors of the tokens.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.
            place: Of no account.

        Returns:
            ``(batch, heads, length, oscillator_dim)``.
        """
        raw = self.anchor_proj(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return in_ball(at_least_float32(raw))


class RotaryAnchors(nn.Module):
    r"""Anchors turned by their place: :math:`r_j = R(\omega j)\, r_0`, any length.

    Each plane of coordinates :math:`(2k, 2k + 1)` turns at its own learned rate; an odd coordinate
    is left alone. Only differences of place matter where the couplings know no others: turning all
    anchors of a head at once changes nothing.

    Args:
        num_heads: Number of heads.
        oscillator_dim: Coordinates of an anchor.
        hidden_size: Width of the tokens, whose content then gives :math:`r_0`; None for one learned
            :math:`r_0` per head.
    """

    bounded = True
    max_positions = None

    def __init__(
        self, num_heads: int, oscillator_dim: int, *, hidden_size: int | None = None
    ) -> None:
        super().__init__()
        self.num_planes = oscillator_dim // 2
        self.raw_anchor: nn.Parameter | None = None
        self.content: ContentAnchors | None = None
        if hidden_size is None:
            self.raw_anchor = nn.Parameter(torch.empty(num_heads, oscillator_dim))
        else:
            self.content = ContentAnchors(hidden_size, num_heads, oscillator_dim)
        self.rate = nn.Parameter(torch.empty(num_heads, self.num_planes))
        without_decay(self, "raw_anchor", "rate")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Spreads the periods from 4 to 512 tokens over planes and heads."""
        if self.content is not None:
            self.content.reset_parameters()
        if self.raw_anchor is not None:
            _draw_on_sphere(self.raw_anchor)
        shortest, longest = (math.log(period) for period in PERIODS)
        with torch.no_grad():
            # Neighbours on the ladder go to different heads, so that each head spans all of it.
            ladder = torch.linspace(shortest, longest, self.rate.numel(), device=self.rate.device)
            period = ladder.exp().view(self.num_planes, -1).mT
            self.rate.copy_(2 * torch.pi / period)

    def forward(self, hidden_states: Stream, place: Places) -> AnchorRows:
        """Returns the anchors of the places, and of the tokens where content gives them.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.
            place: ``(length,)`` or ``(batch, length)``.

        Returns:
            ``(batch | 1, heads, length, oscillator_dim)``.
        """
        if self.content is None:
            assert self.raw_anchor is not None
            r = in_ball(at_least_float32(self.raw_anchor))[None, :, None]
        else:
            r = self.content(hidden_states, place)
        rate = at_least_float32(self.rate)
        where = place if place.dim() == 2 else place[None]
        # (batch | 1, heads, length, planes)  theory: OA-15
        angle = _angle(where[:, None, :, None], rate[:, None, :])
        cos, sin = angle.cos(), angle.sin()
        a, b = r[..., : 2 * self.num_planes].unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
        rest = r[..., 2 * self.num_planes :]
        rest = rest.expand(*turned.shape[:-1], rest.shape[-1])
        return torch.cat([turned, rest], -1)


def require_places(anchors: Anchors, kind: str, length: int) -> None:
    """Refuses a sequence longer than the table of anchors.

    Args:
        anchors: The anchors.
        kind: Their kind.
        length: Tokens of the sequence.

    Raises:
        ValueError: If there are fewer anchors than places.
    """
    limit = anchors.max_positions
    if limit is not None and length > limit:
        raise ValueError(
            f"`max_positions` must be at least the length of the sequence; got {limit} anchors "
            f"({kind!r}) and {length} tokens. Build it with more, or with `anchors` {_unlimited()},"
            f" which have no limit."
        )


def _draw_on_sphere(parameter: nn.Parameter) -> None:
    with torch.no_grad():
        parameter.normal_()
        parameter.div_(parameter.norm(dim=-1, keepdim=True))


def _unit(x: Tensor) -> Tensor:
    """Returns vectors of length 1 in the same directions, of vectors of any length above 0."""
    short = x.detach().square().sum(-1, keepdim=True) < 1e-12
    # Their squares would underflow.
    size = torch.where(short, x.detach().abs().amax(-1, keepdim=True), 1.0)
    x = x / torch.where(size > 0, size, 1.0)
    return x * x.square().sum(-1, keepdim=True).clamp(min=1e-12).rsqrt()


def _angle(place: Tensor, rate: Tensor) -> Tensor:
    """Returns place times rate up to whole turns, as accurate far out as within one stretch."""
    far = place // _STRETCH
    whole = _STRETCH * rate
    turns = (whole / (2 * math.pi)).round().detach()
    # The first part of a turn has so few bits that its multiples are exact.
    whole = (whole - 6.28125 * turns) - (2 * math.pi - 6.28125) * turns
    return (place - _STRETCH * far).to(rate.dtype) * rate + far.to(rate.dtype) * whole


def _unlimited() -> str:
    return ", ".join(repr(kind) for kind in UNLIMITED[:-1]) + f" or {UNLIMITED[-1]!r}"
