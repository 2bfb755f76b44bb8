"""What oscillators receive from each other, how much at most, and how fast most of them turn."""

from __future__ import annotations

import torch

from syncattn._typing import Float, Tensor

__all__ = ["degree", "mixed", "most_of", "wide"]

_MOST = 0.9


def wide(value: float | Tensor) -> Tensor:
    """Returns a number or tensor in float64 on the CPU, without its gradient.

    Args:
        value: The number or tensor.
    """
    return torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()


def mixed(
    coupling: Float[Tensor, "*populations n n"] | None, values: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch received"]:
    """Returns what each oscillator receives; one number per population when all to all.

    Args:
        coupling: Who pulls whom, dense or sparse; None for all to all.
        values: What each one sends.
    """
    if coupling is None:
        return values.mean(-1, keepdim=True)
    if coupling.is_sparse:
        columns = values.reshape(-1, values.shape[-1]).mT
        return torch.sparse.mm(coupling, columns).mT.reshape(values.shape)
    if coupling.dim() == 2:
        return values @ coupling.mT
    return (coupling @ values[..., None]).squeeze(-1)


def degree(coupling: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n"]:
    """Returns what pulls each oscillator in all; its coupling to itself does not.

    Args:
        coupling: Who pulls whom, dense or sparse.
    """
    if coupling.is_sparse:
        entry = coupling.detach().coalesce()
        row, column = entry.indices()
        values = torch.where(row == column, 0.0, wide(entry.values()))
        return values.new_zeros(len(coupling)).index_add(0, row.cpu(), values)
    whole = wide(coupling)
    return whole.sum(-1) - whole.diagonal(dim1=-2, dim2=-1)


def most_of(rate: Float[Tensor, "*batch n"]) -> float:
    """Returns the rate that nine oscillators in ten do not exceed, in the fastest population.

    The few in the tails of a density turn too fast for a step to follow, and pull nobody for long.

    Args:
        rate: One per oscillator, at least 0.
    """
    ordered = wide(rate).sort(-1).values
    last = ordered.shape[-1] - 1
    return ordered[..., round(_MOST * last)].amax().item()
