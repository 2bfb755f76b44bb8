"""Oscillator attention through Triton: the drive, which nothing normalises, and the read-out."""

from __future__ import annotations

from syncattn._masks import Visibility
from syncattn._typing import Float, Keys, Queries, Tensor
from syncattn.kernels.pairwise_operator_triton import Kernel, pair_sums

__all__ = ["oscillator_drive", "oscillator_readout"]


def oscillator_drive(
    query: Queries,
    key: Keys,
    anchor: Float[Tensor, "*#batch keys oscillator_dim"],
    *,
    scale: float,
    coupling: str,
    visibility: Visibility,
) -> tuple[
    Float[Tensor, "batch heads queries oscillator_dim"], Float[Tensor, "batch heads queries"]
]:
    r"""Returns :math:`h_i = \sum_j \sigma(s\,q_i \cdot k_j) r_j` and the sum of the couplings.

    Args:
        query: One row per free oscillator; products are of its dtype.
        key: One row per anchor, in the same dtype.
        anchor: Anchors, one batch for all or as many as keys have.
        scale: :math:`s`.
        coupling: ``"softplus"``, ``"relu"`` (plus 1e-3) or ``"elu"`` (plus 1).
        visibility: Who may see whom.

    Returns:
        Both in float32, for norms of drives span nine decades.
    """
    anchor = anchor.expand(key.shape[0], -1, -1, -1)
    return pair_sums(query, key, anchor, Kernel(coupling, scale=scale), visibility)


def oscillator_readout(
    oscillator: Float[Tensor, "batch heads queries oscillator_dim"],
    anchor: Float[Tensor, "*#batch keys oscillator_dim"],
    value: Float[Tensor, "batch heads keys value_dim"],
    *,
    readout_power: int,
    visibility: Visibility,
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Returns the average of the values with weights :math:`\max(0, 1 + x_i \cdot r_j)^p`.

    Args:
        oscillator: :math:`x_i`, times the gain of the read-out where there is one; float32.
        anchor: Anchors, one batch for all or as many as values have.
        value: Values, in any dtype that the kernels take.
        readout_power: :math:`p`: 1, 2 or 4.
        visibility: Who may see whom.
    """
    anchor = anchor.expand(value.shape[0], -1, -1, -1).to(oscillator.dtype)
    kernel = Kernel("readout", power=readout_power)
    return pair_sums(oscillator, anchor, value, kernel, visibility)[0]
