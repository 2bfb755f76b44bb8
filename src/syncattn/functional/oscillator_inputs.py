"""What oscillator attention computes from: arguments checked, hidden tokens blanked."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import elu, relu, softplus

from syncattn import _validation as check
from syncattn._masks import Visibility, segments
from syncattn._typing import Float, Int, Tensor
from syncattn.functional.oscillator_settling import (
    Equilibrium,
    SettlingMode,
    initial_oscillators,
    settling_mode,
)
from syncattn.functional.oscillators import at_least_float32, widest

Anchors = Float[Tensor, "*#batch keys oscillator_dim"]
Coupling = str | Callable[[Tensor], Tensor]
Gain = Float[Tensor, " heads"] | float | int

COUPLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "softplus": softplus,
    "relu": lambda score: relu(score) + 1e-3,
    "elu": lambda score: elu(score) + 1,
}
"""Positive functions of the scaled inner product, by name."""

_STRANGE = 1e6


class Options(NamedTuple):
    """The keywords of `oscillator_attention` that its companions share, as passed."""

    attn_mask: Tensor | None = None
    key_mask: Tensor | None = None
    cu_seqlens: Tensor | None = None
    is_causal: bool = False
    scale: float | None = None
    coupling: Coupling = "softplus"
    row_gain: bool = False
    mode: SettlingMode | str = "equilibrium"
    initial_oscillator: Tensor | None = None
    readout_power: int = 1
    readout_gain: Tensor | float | int = 1.0
    anchor_bounded: bool = False
    legacy_padding: bool = False


class Inputs(NamedTuple):
    """What every backend computes from, in float32 at least.

    Attributes:
        query: ``(batch, heads, queries, dim)``.
        key: ``(batch, heads, keys, dim)``.
        value: ``(batch, heads, keys, value_dim)``; None where only weights are asked for.
        anchor: ``(batch | 1, heads, keys, oscillator_dim)``.
        visibility: Who is coupled to whom.
        readable: Who reads whom; the same but for legacy padding.
        scale: Factor of the inner product of query and key.
        sigma: The coupling as a function.
        mode: How the oscillators settle.
        gain: ``(heads,)`` or a number.
        options: The keywords as passed.
        half: The half precision in which queries, keys and values came; None if they did not.
    """

    query: Tensor
    key: Tensor
    value: Tensor | None
    anchor: Tensor
    visibility: Visibility
    readable: Visibility
    scale: float
    sigma: Callable[[Tensor], Tensor]
    mode: SettlingMode
    gain: Tensor | float
    options: Options
    half: torch.dtype | None

    def initial(self) -> Tensor | None:
        """Returns where the oscillators begin, unit vectors; None where it does not matter."""
        if isinstance(self.mode, Equilibrium):
            return None
        shape = (*self.query.shape[:3], self.anchor.shape[-1])
        given = self.options.initial_oscillator
        if given is None:
            place = query_places(self.visibility, self.query.device)
            given = initial_oscillators(place, shape[1], shape[3])
        return unit(given.to(self.query.dtype)).expand(shape)

    @property
    def positive(self) -> bool:
        """True when every weight of the read-out is proven to be positive at equilibrium.

        Anchors are not looked at: how the past is computed must not hang on those of the future.
        """
        if not self.options.anchor_bounded or not isinstance(self.mode, Equilibrium):
            return False
        if not isinstance(self.gain, Tensor):
            return 0 <= self.gain <= 1
        if torch.compiler.is_compiling() or self.gain.device.type != "cpu":
            return False
        return bool(((self.gain >= 0) & (self.gain <= 1)).all())


def checked(
    query: Tensor, key: Tensor, value: Tensor | None, anchor: Tensor, options: Options
) -> Inputs:
    """Returns the arguments, checked, in float32 at least, hidden tokens blanked.

    Args:
        query: See `oscillator_attention`.
        key: See `oscillator_attention`.
        value: See `oscillator_attention`; None where only weights are asked for.
        anchor: See `oscillator_attention`.
        options: Its other keywords.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit, an anchor has length 0, or values are not finite.
    """
    _check_shapes(query, key, value, anchor, options.initial_oscillator)
    check.require_choice(options.readout_power, "readout_power", (1, 2, 4))
    if options.scale is not None:
        check.require_number(options.scale, "scale")
    if not callable(options.coupling):
        check.require_choice(options.coupling, "coupling", COUPLINGS)
    visibility = check.require_visibility(
        query, key, attn_mask=options.attn_mask, key_mask=options.key_mask,
        cu_seqlens=options.cu_seqlens, is_causal=options.is_causal,
    )  # fmt: skip
    readable = visibility._replace(key_mask=None) if options.legacy_padding else visibility
    coupling = options.coupling
    initial = options.initial_oscillator
    query = _blanked_rows(query, visibility, 0.0)
    key, value, anchor = _blanked_keys(key, value, anchor, visibility, readable)
    if initial is not None:
        initial = _blanked_rows(initial, visibility, 1.0)
        check.require_finite(initial, "initial_oscillator")
        _require_direction(initial)
        options = options._replace(initial_oscillator=at_least_float32(initial))
    for name, x in (("query", query), ("key", key), ("value", value), ("anchor", anchor)):
        if x is not None:
            check.require_finite(x, name)
    if not options.anchor_bounded:
        _require_length(anchor, readable)
    dtype = widest(query, key, anchor, *(() if value is None else (value,)))
    return Inputs(
        query=query.to(dtype),
        key=key.to(dtype),
        value=None if value is None else value.to(dtype),
        anchor=anchor.to(dtype),
        visibility=visibility,
        readable=readable,
        scale=query.shape[-1] ** -0.5 if options.scale is None else float(options.scale),
        sigma=COUPLINGS[coupling] if isinstance(coupling, str) else coupling,
        mode=settling_mode(options.mode),
        gain=_gain(options.readout_gain, query, dtype),
        options=options,
        half=_half(query, key, value),
    )


def _half(*tensors: Tensor | None) -> torch.dtype | None:
    """Returns the half precision that all tensors share, None where they do not."""
    dtypes = {x.dtype for x in tensors if x is not None}
    return dtypes.pop() if dtypes in ({torch.bfloat16}, {torch.float16}) else None


def query_places(visibility: Visibility, device: torch.device) -> Int[Tensor, "*batch queries"]:
    """Returns the place of every query among the real tokens of its sequence.

    Args:
        visibility: Who sees whom; queries are the last tokens of the keys.
        device: Where to count.
    """
    place = torch.arange(visibility.num_queries, device=device)
    if visibility.offset > 0:
        place = place + visibility.offset
    if visibility.segment is not None:
        return place - torch.searchsorted(visibility.segment, visibility.segment)
    if visibility.key_mask is not None and visibility.offset >= 0:
        return (visibility.key_mask.cumsum(-1) - 1).clamp(min=0)[:, visibility.offset :]
    return place


def token_places(
    length: int,
    key_mask: Tensor | None,
    cu_seqlens: Tensor | None,
    device: torch.device,
) -> Int[Tensor, "*batch length"]:
    """Returns the place of every token among the real ones of its sequence.

    Args:
        length: Number of tokens.
        key_mask: True where a token is real, ``(batch, length)``.
        cu_seqlens: Cumulative lengths of packed sequences.
        device: Where to count.
    """
    place = torch.arange(length, device=device)
    if cu_seqlens is not None:
        return place - cu_seqlens[segments(cu_seqlens, length)]
    if key_mask is not None:
        return (key_mask.cumsum(-1) - 1).clamp(min=0)
    return place


def unit(x: Tensor) -> Tensor:
    """Returns vectors of length 1 in the same directions.

    Args:
        x: ``(..., dim)``, not 0.
    """
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def _check_shapes(
    query: Tensor, key: Tensor, value: Tensor | None, anchor: Tensor, initial: Tensor | None
) -> None:
    check.require_tensor(query, "query", "batch heads queries dim")
    check.require_tensor(key, "key", "batch heads keys dim")
    check.require_tensor(anchor, "anchor", "batch heads keys oscillator_dim")
    check.require_coordinates(key, "key")
    check.require_coordinates(anchor, "anchor")
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (-1, "coordinates")):
        check.require_same(query, "query", key, "key", axis, name)
    for axis, name in ((1, "heads"), (2, "keys")):
        check.require_same(key, "key", anchor, "anchor", axis, name)
    if anchor.shape[0] not in (1, key.shape[0]):
        raise ValueError(
            f"`anchor` must have one batch for all or {key.shape[0]}, as many as `key`; got "
            f"{anchor.shape[0]}, shape {tuple(anchor.shape)}. Drop or expand its first axis."
        )
    together = {"query": query, "key": key, "anchor": anchor}
    if value is not None:
        check.require_tensor(value, "value", "batch heads keys value_dim")
        for axis, name in ((0, "sequences in the batch"), (1, "heads"), (2, "keys")):
            check.require_same(key, "key", value, "value", axis, name)
        together["value"] = value
    if initial is not None:
        check.require_floating(initial, "initial_oscillator")
        target = (*query.shape[:3], anchor.shape[-1])
        pairs = zip(initial.shape[:-1], target[:-1], strict=False)
        fits = initial.dim() == 4 and all(n in {1, m} for n, m in pairs)
        if not fits or initial.shape[-1] != target[-1]:
            raise ValueError(
                f"`initial_oscillator` must broadcast to {target}, batch, heads, queries and "
                f"coordinates of an anchor; got {tuple(initial.shape)}. Pass one unit vector per "
                f"query."
            )
        together["initial_oscillator"] = initial
    check.require_together(together)


def _gain(gain: Tensor | float, query: Tensor, dtype: torch.dtype) -> Tensor | float:
    if not isinstance(gain, Tensor):
        check.require_number(gain, "readout_gain")
        return float(gain)
    check.require_floating(gain, "readout_gain")
    check.require_together({"query": query, "readout_gain": gain})
    check.require_finite(gain, "readout_gain")
    if gain.shape != (query.shape[1],):
        raise ValueError(
            f"`readout_gain` must be a number or one per head, ({query.shape[1]},); got shape "
            f"{tuple(gain.shape)}. Expand it to the heads."
        )
    return gain.to(dtype)


def _blanked_rows(x: Tensor, visibility: Visibility, fill: float) -> Tensor:
    """Returns what belongs to queries, with whatever lies in padding replaced.

    In self-attention a row of padding may hold anything; in cross-attention of equal lengths the
    same row is a token of the other stream, and keeps any usual value.
    """
    real = visibility.key_mask
    if real is None or not visibility.num_queries == visibility.num_keys == x.shape[2]:
        return x
    strange = ~(x.detach().abs() < _STRANGE).all(-1, keepdim=True)
    return torch.where(strange & ~real[:, None, :, None], fill, x)


def _blanked_keys(
    key: Tensor,
    value: Tensor | None,
    anchor: Tensor,
    visibility: Visibility,
    readable: Visibility,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Returns the inputs with hidden keys set to 0, so that nothing stored there can leak."""
    seen, read = visibility.seen_keys(), readable.seen_keys()
    if seen is not None:
        key = torch.where(seen, key, 0.0)
    if read is not None:
        anchor = torch.where(read, anchor, 0.0)
        value = None if value is None else torch.where(read, value, 0.0)
    return key, value, anchor


def _require_direction(initial: Tensor) -> None:
    if torch.compiler.is_compiling() or initial.device.type != "cpu":
        return
    short = int((initial.detach() == 0).all(-1).sum())
    if short:
        raise ValueError(
            f"`initial_oscillator` must have vectors of length above 0; got {short} of length 0. "
            f"Draw them from a normal distribution."
        )


def _require_length(anchor: Tensor, readable: Visibility) -> None:
    """Refuses anchors of length 0 where looking is free: they pull nowhere and read 1 always."""
    if torch.compiler.is_compiling() or anchor.device.type != "cpu":
        return
    short = (anchor.detach() == 0).all(-1, keepdim=True)
    seen = readable.seen_keys()
    count = int((short if seen is None else short & seen).sum())
    if count:
        raise ValueError(
            f"`anchor` must have vectors of length above 0; got {count} of length 0. "
            f"Draw them from a normal distribution, or hide those keys with a mask."
        )
