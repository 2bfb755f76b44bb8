"""Where detuned oscillators among pinned anchors are after a time, exactly."""

from __future__ import annotations

import math

import torch

from syncattn._typing import Float, Tensor

__all__ = ["detuned_flow", "rotation_generator", "turned"]

Drive = Float[Tensor, "*batch dim"]
_MOST_SQUARINGS = 40


def rotation_generator(normal: Float[Tensor, "*batch pairs"], dim: int) -> Tensor:
    r"""Returns skew matrices :math:`\Omega` from their entries above the diagonal.

    Args:
        normal: ``dim (dim - 1) / 2`` entries; on the circle one, the frequency itself.
        dim: Components :math:`m`.

    Returns:
        ``(*batch, dim, dim)``; on the circle a positive frequency turns from the first component
        to the second.
    """
    row, column = torch.triu_indices(dim, dim, 1, device=normal.device).unbind(0)
    out = torch.zeros(*normal.shape[:-1], dim, dim, dtype=normal.dtype, device=normal.device)
    out[..., row, column] = -normal
    out[..., column, row] = normal
    return out


def detuned_flow(drive: Drive, generator: Tensor, time: Tensor | float) -> Tensor:
    r"""Returns the map of :math:`\dot x = \Omega x + (I - x x^\top) h` over a time, as a matrix.

    The flow is a Möbius map of the sphere, hence linear in :math:`(x, 1)` up to a factor:

    .. math:: (y, s) = \exp\left(t \begin{bmatrix} \Omega & h \\ h^\top & 0 \end{bmatrix}\right)
        (x_0, 1), \qquad x(t) = y / s

    It is squared up from a short time and rescaled on the way, so that no length of time and no
    strength of drive overflows.

    Args:
        drive: :math:`h`.
        generator: :math:`\Omega`, broadcastable ``(*batch, dim, dim)``.
        time: One time, or one per oscillator.

    Returns:
        ``(*batch, dim + 1, dim + 1)`` in float64, for `turned`.
    """
    h = drive.double()
    dim = h.shape[-1]
    whole = torch.zeros(*h.shape[:-1], dim + 1, dim + 1, dtype=h.dtype, device=h.device)
    whole[..., :dim, :dim] = generator
    whole[..., :dim, dim] = h
    whole[..., dim, :dim] = h
    span = torch.as_tensor(time, dtype=h.dtype, device=h.device)
    whole = whole * span.expand(h.shape[:-1])[..., None, None]
    longest = float(torch.linalg.matrix_norm(whole).max()) if whole.numel() else 0.0
    squarings = min(_MOST_SQUARINGS, max(0, math.ceil(math.log2(max(longest, 1.0)))))
    out = torch.linalg.matrix_exp(whole / 2**squarings)
    for _ in range(squarings):
        out = out @ out
        out = out / out.abs().amax((-2, -1), keepdim=True).clamp(min=1e-300)
    return out


def turned(matrix: Tensor, start: Drive) -> Drive:
    """Returns unit vectors moved by a map of `detuned_flow`.

    Args:
        matrix: The map.
        start: Unit vectors.

    Returns:
        Unit vectors in the dtype of `start`.
    """
    x = start.double()
    whole = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    moved = (matrix @ whole.unsqueeze(-1)).squeeze(-1)[..., :-1]
    norm = torch.linalg.vector_norm(moved, dim=-1, keepdim=True)
    # Right at the antipode the map has nothing left to divide by: it stays.
    moved = torch.where(norm > 1e-280, moved / norm.clamp(min=1e-300), x)
    return moved.to(start.dtype)
