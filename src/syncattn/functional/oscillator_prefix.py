"""The affine read-out by running sums: no matrix of weights, no cache of values."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from syncattn._masks import Visibility
from syncattn._typing import Float, Int, Tensor

Sums = Float[Tensor, "batch heads features value_features"]

CHUNK = 64


def anchor_sums(
    anchor: Float[Tensor, "*#batch keys oscillator_dim"],
    value: Float[Tensor, "batch heads keys value_dim"],
    real: Float[Tensor, "batch 1 keys 1"] | None = None,
) -> Sums:
    r"""Returns :math:`\sum_j [1, r_j] \otimes [v_j, 1]`, all that the read-out needs of the keys.

    Args:
        anchor: :math:`r_j`.
        value: :math:`v_j`.
        real: 1 where a key counts, else 0.

    Returns:
        ``(batch, heads, oscillator_dim + 1, value_dim + 1)``.
    """
    return _with_one(anchor, first=True).mT @ _weighted(_with_one(value), real)


def prefix_readout(
    oscillator: Float[Tensor, "batch heads queries oscillator_dim"],
    anchor: Float[Tensor, "*#batch keys oscillator_dim"],
    value: Float[Tensor, "batch heads keys value_dim"],
    *,
    gain: Tensor | float = 1.0,
    visibility: Visibility,
    before: Sums | None = None,
    chunk: int = CHUNK,
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Returns the affine read-out in time linear in the length.

    .. math::
        o_i = \frac{[1, g x_i] \cdot S_i^v}{[1, g x_i] \cdot S_i^1}, \qquad
        S_i = \sum_{j \le i} [1, r_j] \otimes [v_j, 1]

    Exact where no weight :math:`1 + g\, x_i \cdot r_j` is negative. Inside a chunk the weights are
    formed; sums carry what lies in other chunks. Memory grows with the length times `chunk`.

    Args:
        oscillator: :math:`x_i`.
        anchor: :math:`r_j`.
        value: :math:`v_j`, 0 where a key is hidden.
        gain: :math:`g`, a number or one per head.
        visibility: Who reads whom; without `attn_mask` and `exclude_self`.
        before: Sums over what every query reads besides, as `anchor_sums` returns them.
        chunk: Tokens of a chunk.

    Returns:
        The read-out; 0 in rows that read nothing.
    """
    g = gain[:, None, None] if isinstance(gain, Tensor) else gain
    x = _with_one(g * oscillator, first=True)
    real = visibility.key_mask
    real = None if real is None else real[:, None, :, None].to(value.dtype)
    if visibility.num_keys and (visibility.is_causal or visibility.segment is not None):
        out = _chunked(x, anchor, value, real, visibility, chunk)
    else:
        out = x @ anchor_sums(anchor, value, real)
    if before is not None:
        out = out + x @ before.to(x.dtype)
    total = out[..., -1:]
    some = total > 0
    return torch.where(some, out[..., :-1] / torch.where(some, total, 1.0), 0.0)  # theory: OA-12


def _chunked(
    x: Tensor,
    anchor: Tensor,
    value: Tensor,
    real: Tensor | None,
    visibility: Visibility,
    chunk: int,
) -> Tensor:
    keys = visibility.num_keys
    chunk = min(chunk, keys)
    fill = -keys % chunk
    # Queries are the last of the keys: one row per key, those before them idle.
    rows = pad(x, (0, 0, visibility.offset, fill)).unflatten(2, (-1, chunk))
    one = torch.ones_like(value[:, :, :, :1])
    u = torch.cat([value, one], -1)
    u = pad(_weighted(u, real), (0, 0, 0, fill)).unflatten(2, (-1, chunk))
    f = pad(_with_one(anchor, first=True), (0, 0, 0, fill)).unflatten(2, (-1, chunk))
    segment = visibility.segment
    segment = torch.zeros(keys, dtype=torch.long, device=x.device) if segment is None else segment
    # The filling belongs to the last sequence and holds zeros.
    segment = torch.cat([segment, segment[-1:].expand(fill)]).unflatten(0, (-1, chunk))
    inside = (segment[:, :, None] == segment[:, None, :]).to(x.dtype)
    if visibility.is_causal:
        inside = inside.tril()
    out = (rows @ f.mT * inside) @ u
    out = out + _carried(rows, f, u, segment)
    if not visibility.is_causal:
        after = _carried(rows.flip(2), f.flip(2), u.flip(2), segment.flip(0), first=-1)
        out = out + after.flip(2)
    return out.flatten(2, 3)[:, :, visibility.offset : keys]


def _carried(
    rows: Tensor, f: Tensor, u: Tensor, segment: Int[Tensor, "chunks chunk"], first: int = 0
) -> Tensor:
    """Returns what earlier chunks add: those of the sequence that reaches into each chunk.

    Args:
        rows: ``(batch, heads, chunks, chunk, features)``.
        f: Features of the keys.
        u: Features of the values.
        segment: Sequence of every token.
        first: Which token of a chunk borders on the earlier chunk.
    """
    # Only one sequence crosses a border: that of the first token behind it.
    owner = segment[:, first]
    leaving = (segment[:-1] == owner[1:, None]).to(f.dtype)[..., None]
    tail = (f[:, :, :-1] * leaving).mT @ u[:, :, :-1]
    chunks = len(owner)
    earlier = torch.ones(chunks, chunks - 1, dtype=torch.bool, device=f.device).tril(-1)
    reach = (earlier & (owner[:, None] == owner[None, 1:])).to(f.dtype)
    carry = (reach @ tail.flatten(3)).unflatten(3, tail.shape[3:])
    return (rows @ carry) * (segment == owner[:, None]).to(rows.dtype)[..., None]


def _with_one(x: Tensor, first: bool = False) -> Tensor:
    one = torch.ones_like(x[..., :1])
    return torch.cat([one, x] if first else [x, one], -1)


def _weighted(x: Tensor, real: Tensor | None) -> Tensor:
    return x if real is None else x * real
