"""What selective synchronization computes from: arguments checked, hidden tokens blanked."""

from __future__ import annotations

from typing import NamedTuple

import torch

from syncattn import _validation as check
from syncattn import reference
from syncattn._masks import Visibility
from syncattn._typing import Float, Tensor
from syncattn.functional.oscillators import visible_order_parameter, widest
from syncattn.kernels import EDGE_FLOOR

PerHead = Float[Tensor, " #heads"] | Float[Tensor, ""] | float | int

_STRANGE = 1e6
_SMALLEST = 1e-30
_HALF = ({torch.bfloat16}, {torch.float16})


class Options(NamedTuple):
    """The keywords of `selective_synchronization` that its companions share, as passed."""

    coupling_strength: Tensor | float | int
    coupling_decay: Tensor | float | int
    order_parameter: Tensor | None = None
    attn_mask: Tensor | None = None
    key_mask: Tensor | None = None
    cu_seqlens: Tensor | None = None
    is_causal: bool = False
    self_pairs: bool | None = None
    position_coordinate: int | None = None
    unbiased_order_parameter: bool = False
    top_k: int | None = None
    smoothing: float = 0.0
    edge_floor: float = EDGE_FLOOR
    empty_rows: str = "zero"
    variant: str = "default"


class Inputs(NamedTuple):
    """What every backend computes from, in float32 at least.

    Attributes:
        query_frequency: ``(batch, heads, queries, dim)``, the origin moved near the tokens.
        key_frequency: ``(batch, heads, keys, dim)``, moved alike.
        order_parameter: ``(batch, heads, queries)``.
        coupling_strength: ``(heads,)``.
        coupling_decay: ``(heads,)``.
        visibility: Who may see whom.
        self_pairs: Whether query i is key ``i + keys - queries``.
        options: The keywords as passed.
        point_dtype: Half precision if both frequencies came in it and were not moved, else the
            dtype of the above.
    """

    query_frequency: Tensor
    key_frequency: Tensor
    order_parameter: Tensor
    coupling_strength: Tensor
    coupling_decay: Tensor
    visibility: Visibility
    self_pairs: bool
    options: Options
    point_dtype: torch.dtype

    def scaled(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns dimensionless frequencies of both sides and 1 / (2 a c²) of each row.

        The last is finite also where the coherence is 0 and only equals lock.
        """
        stretch = (2 * self.coupling_decay).sqrt()[:, None, None]
        c = self.coupling_strength[:, None] * self.order_parameter
        inverse_threshold = 1 / (2 * self.coupling_decay[:, None] * c.square()).clamp(min=_SMALLEST)
        return stretch * self.query_frequency, stretch * self.key_frequency, inverse_threshold

    def dense(self) -> Tensor:
        """Returns the synchronization of every pair by the definition."""
        options = self.options
        mask = self.visibility.dense(self.query_frequency.device)
        arguments = (self.query_frequency, self.key_frequency, self.order_parameter)
        if options.variant == "paper":
            return reference.paper_synchronization(
                *arguments, coupling_strength=self.coupling_strength,
                coupling_decay=self.coupling_decay, mask=mask, top_k=options.top_k,
            )  # fmt: skip
        return reference.synchronization(
            *arguments, coupling_strength=self.coupling_strength,
            coupling_decay=self.coupling_decay, mask=mask, top_k=options.top_k,
            smoothing=options.smoothing, edge_floor=options.edge_floor,
        )  # fmt: skip


def checked(
    query_frequency: Tensor, key_frequency: Tensor, phase: Tensor | None, options: Options
) -> Inputs:
    """Checks the arguments and returns what every backend computes from.

    Args:
        query_frequency: ``(batch, heads, queries, dim)``.
        key_frequency: ``(batch, heads, keys, dim)``.
        phase: ``(batch, heads, keys, phase_dim)`` or None.
        options: The keywords.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit or values are out of range.
    """
    check.require_tensor(query_frequency, "query_frequency", "batch heads queries dim")
    check.require_tensor(key_frequency, "key_frequency", "batch heads keys dim")
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (-1, "coordinates")):
        check.require_same(
            query_frequency, "query_frequency", key_frequency, "key_frequency", axis, name
        )
    check.require_coordinates(key_frequency, "key_frequency")
    _require_together(query_frequency, key_frequency, phase, options)
    expected = tuple(key_frequency.shape[:3])
    if phase is not None and tuple(phase.shape[:3]) != expected:
        raise ValueError(
            f"`phase` must have shape ({', '.join(map(str, expected))}, phase_dim), one row per "
            f"key; got {tuple(phase.shape)}. Pass the phases of all keys."
        )
    _check_options(options, query_frequency.shape[-1])
    visibility = check.require_visibility(
        query_frequency, key_frequency, attn_mask=options.attn_mask, key_mask=options.key_mask,
        cu_seqlens=options.cu_seqlens, is_causal=options.is_causal,
    )  # fmt: skip
    self_pairs = _self_pairs(query_frequency, key_frequency, options.self_pairs)
    dtype = widest(query_frequency, key_frequency)
    omega_i, omega_j = query_frequency.to(dtype), key_frequency.to(dtype)
    seen = visibility.seen_keys()
    if seen is not None:
        omega_j = torch.where(seen, omega_j, 0.0)
        phase = None if phase is None else torch.where(seen, phase, 0.0)
    omega_i = _without_blind_rows(omega_i, omega_j, visibility, self_pairs, options.self_pairs)
    check.require_finite(omega_i, "query_frequency")
    check.require_finite(omega_j, "key_frequency")
    r = _order_parameter(
        phase, options.order_parameter, visibility, omega_i, options.unbiased_order_parameter
    )
    strength = _per_head(options.coupling_strength, "coupling_strength", omega_i)
    decay = _per_head(options.coupling_decay, "coupling_decay", omega_i)
    _require_reach(strength, decay)
    half = {query_frequency.dtype, key_frequency.dtype} in _HALF and omega_j.device.type == "cuda"
    # Kernels for accelerators multiply half precision as it is, which a shift would round again.
    origin = omega_j.new_zeros(1, 1, 1, 1) if half else _origin(omega_j, visibility)
    return Inputs(
        omega_i - origin,
        omega_j - origin,
        r,
        strength,
        decay,
        visibility,
        self_pairs,
        options,
        key_frequency.dtype if half else omega_j.dtype,
    )


def _require_together(query: Tensor, key: Tensor, phase: Tensor | None, options: Options) -> None:
    """Refuses tensors on different devices; a number on the CPU goes anywhere."""
    together = {"query_frequency": query, "key_frequency": key}
    for name, axes, x in (
        ("phase", "batch heads keys phase_dim", phase),
        ("order_parameter", "batch heads queries", options.order_parameter),
    ):
        if x is not None:
            check.require_tensor(x, name, axes)
            together[name] = x
    for name in ("coupling_strength", "coupling_decay"):
        x = getattr(options, name)
        if isinstance(x, Tensor) and x.device.type != "cpu":
            together[name] = x
    check.require_together(together)


def _check_options(options: Options, dim: int) -> None:
    if options.top_k is not None:
        check.require_integer(options.top_k, "top_k", minimum=1)
    check.require_number(options.smoothing, "smoothing", minimum=0.0, maximum=1e6)
    check.require_number(options.edge_floor, "edge_floor", minimum=0.0)
    check.require_choice(options.variant, "variant", ("default", "paper"))
    check.require_choice(options.empty_rows, "empty_rows", ("zero", "nearest", "mean"))
    if options.variant == "paper" and options.smoothing > 0:
        raise ValueError(
            f"`smoothing` must be 0 with `variant` 'paper', which has none; got "
            f"{options.smoothing}. Drop one of the two."
        )
    place = options.position_coordinate
    if place is not None:
        check.require_integer(place, "position_coordinate", minimum=-dim)
        if place >= dim:
            raise ValueError(
                f"`position_coordinate` must be one of the {dim} coordinates of the frequency; "
                f"got {place}. Count from 0, or from -1 backwards."
            )


def _self_pairs(query: Tensor, key: Tensor, told: bool | None) -> bool:
    if told and query.shape[2] > key.shape[2]:
        raise ValueError(
            f"`self_pairs` must come with at most as many queries as keys; got {query.shape[2]} "
            f"and {key.shape[2]}. Pass all keys, or False for queries that are other tokens."
        )
    if told is None:
        return _same_tokens(query, key)
    check.require_flag(told, "self_pairs")
    return told


def _same_tokens(query: Tensor, key: Tensor) -> bool:
    """True when the queries are the keys, or a view of their last rows."""
    if query is key:
        return True
    if torch.compiler.is_compiling():
        return False
    offset = key.shape[2] - query.shape[2]
    return (
        offset >= 0
        and query.dtype == key.dtype
        and query.stride() == key.stride()
        and query.data_ptr() == key[:, :, offset:].data_ptr()
    )


def _without_blind_rows(
    omega_i: Tensor,
    omega_j: Tensor,
    visibility: Visibility,
    self_pairs: bool,
    told: bool | None,
) -> Tensor:
    """Returns the queries with those at 0 that see nothing or are padding.

    A row may see others and be seen by none: such a row is a query like others, unless what it
    holds can lock to nothing.
    """
    if visibility.attn_mask is not None:
        omega_i = torch.where(visibility.attn_mask.any(-1, keepdim=True), omega_i, 0.0)
    seen = visibility.seen_keys()
    if seen is None or visibility.offset < 0 or told is False:
        return omega_i
    # What lies this far out, or is NaN, would spoil the rounding of its neighbours.
    size = omega_j.detach().abs().flatten(2)
    limit = _STRANGE * (1 + (size.amax(-1) if size.shape[-1] else size.sum(-1)))
    near = (omega_i.detach().abs() <= limit[..., None, None]).all(-1, keepdim=True)
    blind = ~seen[:, :, visibility.offset :] & ~near
    if self_pairs and visibility.key_mask is not None:
        blind = blind | ~visibility.key_mask[:, None, visibility.offset :, None]
    return torch.where(blind, 0.0, omega_i)


def _order_parameter(
    phase: Tensor | None,
    order_parameter: Tensor | None,
    visibility: Visibility,
    like: Tensor,
    unbiased: bool,
) -> Tensor:
    if order_parameter is not None:
        if phase is not None:
            raise ValueError(
                "`order_parameter` must come without `phase`, which it would be computed from; "
                "got both. Pass one of them."
            )
        if order_parameter.shape != like.shape[:3]:
            raise ValueError(
                f"`order_parameter` must have shape {tuple(like.shape[:3])}, batch, heads and "
                f"queries; got {tuple(order_parameter.shape)}. Expand it to one value a row."
            )
        check.require_finite(order_parameter, "order_parameter")
        check.require_share(order_parameter, "order_parameter")
        return order_parameter.to(like.dtype)
    if phase is None:
        return like.new_ones(like.shape[:3])
    check.require_coordinates(phase, "phase")
    check.require_finite(phase, "phase")
    return visible_order_parameter(phase, visibility, unbiased=unbiased).to(like.dtype)


def _per_head(coupling: Tensor | float | int, name: str, like: Tensor) -> Tensor:
    if not isinstance(coupling, Tensor):
        check.require_number(coupling, name)
    elif coupling.is_complex() or coupling.dtype == torch.bool:
        raise TypeError(
            f"`{name}` must be real; got {coupling.dtype}. Pass a floating tensor or a number."
        )
    coupling = torch.as_tensor(coupling, dtype=like.dtype, device=like.device)
    if coupling.dim() > 1 or (coupling.dim() == 1 and coupling.shape[0] not in {1, like.shape[1]}):
        raise ValueError(
            f"`{name}` must be a number or one per head, ({like.shape[1]},); "
            f"got shape {tuple(coupling.shape)}. Reduce it to one value per head."
        )
    check.require_positive(coupling, name)
    return coupling.expand(like.shape[1])


def _require_reach(strength: Tensor, decay: Tensor) -> None:
    """Refuses couplings whose scale is lost in rounding, where looking is free."""
    if torch.compiler.is_compiling() or strength.device.type != "cpu" or not strength.numel():
        return
    scale = 2 * decay.detach() * strength.detach().square()
    lowest, highest = scale.min().item(), scale.max().item()
    if not _SMALLEST <= lowest <= highest <= 1 / _SMALLEST:
        raise ValueError(
            f"`coupling_decay` times the square of `coupling_strength` must lie between "
            f"{_SMALLEST:g} and {1 / _SMALLEST:g}; got from {lowest / 2:g} to {highest / 2:g}. "
            f"Express the frequencies in another unit of time."
        )


def _origin(omega: Tensor, visibility: Visibility) -> Tensor:
    """Returns a frequency to subtract everywhere: distances stay, rounding shrinks.

    Under causality it must not depend on the future, not even through rounding: there it is the
    first visible token of each sequence; otherwise the mean of the visible tokens.
    """
    omega = omega.detach()
    key_mask = visibility.key_mask
    if omega.shape[2] == 0:
        return omega.new_zeros(1, 1, 1, 1)
    if visibility.segment is not None:
        return omega[:, :, torch.searchsorted(visibility.segment, visibility.segment)]
    if visibility.attn_mask is not None:
        # A key that every query sees; 0 where there is none.
        common = visibility.attn_mask.expand(-1, -1, -1, visibility.num_keys).all(-2)
        common = common.expand(*omega.shape[:2], -1)
        if visibility.is_causal:
            common = common & (
                torch.arange(omega.shape[2], device=omega.device) <= visibility.offset
            )
        first = common.int().argmax(-1)[..., None, None].expand(-1, -1, 1, omega.shape[-1])
        return omega.gather(2, first) * common.any(-1)[..., None, None]
    if visibility.is_causal:
        if key_mask is None:
            return omega[:, :, :1]
        first = key_mask.int().argmax(-1)
        return omega[torch.arange(len(first), device=first.device), :, first].unsqueeze(2)
    if key_mask is None:
        return omega.mean(2, keepdim=True)
    count = key_mask.sum(-1).clamp(min=1)[:, None, None, None]
    return omega.sum(2, keepdim=True) / count
