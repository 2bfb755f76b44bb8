"""Context parallelism: one sequence over several processes, whose partial sums add up."""

from __future__ import annotations

from typing import cast

import torch
from torch.distributed import ProcessGroup

from syncattn import _validation as check
from syncattn import kernels
from syncattn._masks import Visibility
from syncattn._typing import Float, KeyMask, Keys, Queries, Tensor, Values
from syncattn.functional import oscillator_inputs
from syncattn.functional.oscillator_settling import settle, settling_mode
from syncattn.functional.oscillators import at_least_float32, coherence
from syncattn.functional.ring import (
    Ring,
    Tensors,
    require_alike,
    require_equal_lengths,
    ring_of,
    ring_sums,
)
from syncattn.functional.selective_inputs import EDGE_FLOOR, Options, PerHead, checked

__all__ = [
    "context_parallel_oscillator_attention",
    "context_parallel_oscillator_drive",
    "context_parallel_selective_synchronization",
]

Phases = Float[Tensor, "batch heads keys phase_dim"]
Anchors = Float[Tensor, "batch heads keys oscillator_dim"]


def context_parallel_selective_synchronization(
    frequency: Keys,
    value: Values,
    phase: Phases | None = None,
    *,
    coupling_strength: PerHead,
    coupling_decay: PerHead,
    key_mask: KeyMask | None = None,
    is_causal: bool = True,
    unbiased_order_parameter: bool = False,
    smoothing: float = 0.0,
    edge_floor: float = EDGE_FLOOR,
    group: ProcessGroup | None = None,
) -> Values:
    r"""Returns the outputs for this process's part of a sequence that several processes share.

    .. math::
        o_i = \frac{\sum_p \sum_{j \in p} S_{ij} v_j}{\sum_p \sum_{j \in p} S_{ij}}

    Process :math:`p` holds the p-th of equally long parts. The strengths :math:`S_{ij}` are bounded
    and not normalised, so the sums of the parts add up as they are, with no running maximum to
    rescale by. The order parameter is that of the whole sequence: sums of cosines and sines of
    earlier parts (of all parts if not causal) precede those of this one. See `ring_sums` for what
    travels; a causal process skips the parts after its own, so the last one works longest.

    Self-attention alone. Gradients of the couplings are those of this process's rows: add them up
    over the processes, as those of every parameter that all of them hold.

    Args:
        frequency: Natural frequencies of this part, ``(batch, heads, tokens, dim)``.
        value: Its values, ``(batch, heads, tokens, value_dim)``.
        phase: Its phases in radians; None means full coherence.
        coupling_strength: See `selective_synchronization`; the same in every process.
        coupling_decay: See `selective_synchronization`; the same in every process.
        key_mask: True where a token of this part is real; in every process or in none.
        is_causal: Hide the future.
        unbiased_order_parameter: See `selective_synchronization`.
        smoothing: See `selective_synchronization`.
        edge_floor: See `selective_synchronization`.
        group: The processes, in the order of their parts; None for all.

    Returns:
        The outputs of this part in the dtype of `value`; 0 in rows that lock to nothing.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit, processes pass other arguments or parts of different
            lengths, or values are out of range.
        RuntimeError: If there is no process group.
    """
    ring = ring_of(group)
    check.require_tensor(value, "value", "batch heads tokens value_dim")
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (2, "tokens")):
        check.require_same(frequency, "frequency", value, "value", axis, name)
    check.require_together({"frequency": frequency, "value": value})
    # The same checks as for a whole sequence; its coherence and its origin are not this part's.
    inputs = checked(
        frequency, frequency, phase,
        Options(coupling_strength, coupling_decay, key_mask=key_mask, is_causal=is_causal,
                self_pairs=True, smoothing=smoothing, edge_floor=edge_floor),
    )  # fmt: skip
    require_equal_lengths(frequency.shape[2], "frequency", frequency.device, ring)
    given = {"frequency": frequency, "value": value, "phase": phase, "key_mask": key_mask}
    require_alike(given, is_causal, frequency.device, ring)
    omega = _blanked(at_least_float32(frequency), key_mask)
    omega = omega - _common_origin(omega, ring)
    r = _order_parameter(phase, key_mask, is_causal, unbiased_order_parameter, ring)
    r = omega.new_ones(omega.shape[:3]) if r is None else r.to(omega.dtype)
    query, key, inverse_threshold = inputs._replace(
        query_frequency=omega, key_frequency=omega, order_parameter=r
    ).scaled()

    def piece(rows: Tensors, columns: Tensors, source: int) -> Tensors | None:
        visibility = _visibility(columns, is_causal, source, ring)
        if visibility is None:
            return None
        out, total = kernels.selective_synchronization(
            rows[0], columns[0], columns[1], rows[1], visibility=visibility,
            self_pairs=source == ring.rank, smoothing=smoothing, edge_floor=max(edge_floor, 1e-12),
        )  # fmt: skip
        return out * total[..., None], total

    columns = (key, _blanked(at_least_float32(value), key_mask), *_travelling(key_mask))
    sums, total = ring_sums(piece, (query, inverse_threshold), columns, ring)
    return _quotient(sums, total).to(value.dtype)


def context_parallel_oscillator_drive(
    query: Queries,
    key: Keys,
    anchor: Anchors,
    *,
    key_mask: KeyMask | None = None,
    is_causal: bool = True,
    scale: float | None = None,
    coupling: str = "softplus",
    group: ProcessGroup | None = None,
) -> tuple[Anchors, Float[Tensor, "batch heads queries"]]:
    r"""Returns the drive of this process's oscillators by the anchors of all processes.

    .. math:: h_i = \sum_p \sum_{j \in p} \sigma(s\, q_i \cdot k_j)\, r_j

    Process :math:`p` holds the p-th of equally long parts of the sequence. The couplings are
    positive and not normalised, so the sums of the parts add up as they are.

    Args:
        query: Queries of this part, ``(batch, heads, tokens, dim)``.
        key: Its keys.
        anchor: Its anchors, ``(batch, heads, tokens, oscillator_dim)``.
        key_mask: True where a token of this part is real; in every process or in none.
        is_causal: Hide the future.
        scale: :math:`s`; the default is ``dim ** -0.5``.
        coupling: ``"softplus"``, ``"relu"`` (plus 1e-3) or ``"elu"`` (plus 1).
        group: The processes, in the order of their parts; None for all.

    Returns:
        The drive, and the sum of the couplings of every row, in float32 at least.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit, or processes pass other arguments or parts of different
            lengths.
        RuntimeError: If there is no process group.
    """
    ring = ring_of(group)
    check.require_choice(coupling, "coupling", kernels.COUPLING_KINDS)
    inputs = _oscillator_inputs(query, key, None, anchor, key_mask, is_causal, scale)
    require_equal_lengths(query.shape[2], "query", query.device, ring)
    given = {"query": query, "key": key, "anchor": anchor, "key_mask": key_mask}
    require_alike(given, is_causal, query.device, ring)

    def piece(rows: Tensors, columns: Tensors, source: int) -> Tensors | None:
        visibility = _visibility(columns, is_causal, source, ring)
        if visibility is None:
            return None
        return kernels.oscillator_drive(
            rows[0], columns[0], columns[1], scale=inputs.scale, coupling=coupling,
            visibility=visibility,
        )  # fmt: skip

    columns = (inputs.key, inputs.anchor, *_travelling(key_mask))
    drive, total = ring_sums(piece, (inputs.query,), columns, ring)
    return drive, total


def context_parallel_oscillator_attention(
    query: Queries,
    key: Keys,
    value: Values,
    anchor: Anchors,
    *,
    key_mask: KeyMask | None = None,
    is_causal: bool = True,
    scale: float | None = None,
    coupling: str = "softplus",
    readout_power: int = 1,
    readout_gain: oscillator_inputs.Gain = 1.0,
    group: ProcessGroup | None = None,
) -> Values:
    """Returns the values read out by this process's oscillators, settled among all anchors.

    Two rounds: the drive, then the read-out, whose weights are not negative and add up alike. At
    equilibrium alone.

    Args:
        query: See `context_parallel_oscillator_drive`.
        key: See `context_parallel_oscillator_drive`.
        value: Values of this part, ``(batch, heads, tokens, value_dim)``.
        anchor: See `context_parallel_oscillator_drive`.
        key_mask: See `context_parallel_oscillator_drive`.
        is_causal: See `context_parallel_oscillator_drive`.
        scale: See `context_parallel_oscillator_drive`.
        coupling: See `context_parallel_oscillator_drive`.
        readout_power: See `oscillator_attention`.
        readout_gain: See `oscillator_attention`.
        group: See `context_parallel_oscillator_drive`.

    Returns:
        The outputs of this part in the dtype of `value`; 0 in rows that see nothing.
    """
    drive, _ = context_parallel_oscillator_drive(
        query, key, anchor, key_mask=key_mask, is_causal=is_causal, scale=scale, coupling=coupling,
        group=group,
    )  # fmt: skip
    ring = ring_of(group)
    inputs = _oscillator_inputs(
        query, key, value, anchor, key_mask, is_causal, scale, readout_power, readout_gain
    )
    assert inputs.value is not None
    x = settle(drive, settling_mode("equilibrium"), None)
    gain = inputs.gain[:, None, None] if isinstance(inputs.gain, Tensor) else inputs.gain

    def piece(rows: Tensors, columns: Tensors, source: int) -> Tensors | None:
        visibility = _visibility(columns, is_causal, source, ring)
        if visibility is None:
            return None
        # The kernel's public face divides by the total, which has to wait for the other parts.
        found = torch.ops.syncattn.product_sums(
            rows[0], columns[0], columns[1], visibility.key_mask, None, None,
            visibility.is_causal, "readout", 1.0, readout_power,
        )  # fmt: skip
        return cast("Tensors", tuple(found))

    columns = (inputs.anchor, inputs.value, *_travelling(key_mask))
    sums, total = ring_sums(piece, (gain * x,), columns, ring)
    return _quotient(sums, total).to(value.dtype)


def _oscillator_inputs(
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    anchor: Tensor,
    key_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    readout_power: int = 1,
    readout_gain: oscillator_inputs.Gain = 1.0,
) -> oscillator_inputs.Inputs:
    """Returns the checked arguments of one part, every batch with anchors of its own."""
    check.require_same(query, "query", key, "key", 2, "tokens")
    inputs = oscillator_inputs.checked(
        query, key, value, anchor,
        oscillator_inputs.Options(
            key_mask=key_mask, is_causal=is_causal, scale=scale, readout_power=readout_power,
            readout_gain=readout_gain,
        ),
    )  # fmt: skip
    return inputs._replace(anchor=inputs.anchor.expand(key.shape[0], -1, -1, -1))


def _order_parameter(
    phase: Tensor | None, key_mask: Tensor | None, is_causal: bool, unbiased: bool, ring: Ring
) -> Tensor | None:
    """Returns the coherence of what every row sees in all parts; None without phases."""
    if phase is None:
        return None
    theta = _blanked(at_least_float32(phase), key_mask)
    count = _blanked(torch.ones_like(theta[:, :1, :, :1]), key_mask)
    cosine, sine = theta.cos() * count, theta.sin() * count
    totals = tuple(x.sum(2, keepdim=True) for x in (cosine, sine, count))

    def piece(_: Tensors, columns: Tensors, source: int) -> Tensors | None:
        if source == ring.rank:
            return tuple(0.0 * x for x in columns)
        return None if is_causal and source > ring.rank else tuple(1.0 * x for x in columns)

    others = ring_sums(piece, (), totals, ring)
    inside = (x.cumsum(2) if is_causal else x.sum(2, keepdim=True) for x in (cosine, sine, count))
    c, s, n = (x + other for x, other in zip(inside, others, strict=True))
    return coherence(n, c, s, unbiased).expand(phase.shape[:3])


def _common_origin(omega: Tensor, ring: Ring) -> Tensor:
    """Returns the first frequency of the sequence, to subtract everywhere: rounding shrinks."""
    origin = omega.detach()[:, :, :1].contiguous()

    def piece(_: Tensors, columns: Tensors, source: int) -> Tensors | None:
        return tuple(x if source == 0 else 0.0 * x for x in columns)

    return ring_sums(piece, (), (origin,), ring)[0]


def _visibility(columns: Tensors, is_causal: bool, source: int, ring: Ring) -> Visibility | None:
    """Returns who sees whom between this part and another, None for nobody."""
    if is_causal and source > ring.rank:
        return None
    length = columns[0].shape[2]
    key_mask = columns[2].bool() if len(columns) > 2 else None
    return Visibility(length, length, is_causal and source == ring.rank, key_mask)


def _travelling(key_mask: Tensor | None) -> Tensors:
    """Returns the mask in a dtype that every communication library carries; nothing for None."""
    return () if key_mask is None else (key_mask.to(torch.uint8),)


def _blanked(x: Tensor, key_mask: Tensor | None) -> Tensor:
    return x if key_mask is None else torch.where(key_mask[:, None, :, None], x, 0.0)


def _quotient(sums: Tensor, total: Tensor) -> Tensor:
    some = (total > 0)[..., None]
    return torch.where(some, sums / torch.where(some, total[..., None], 1.0), 0.0)
