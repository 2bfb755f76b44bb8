"""Free oscillators settle among fixed anchors; affine read-out of the cosines."""

from collections.abc import Callable

import torch
from torch.nn.functional import softplus

from syncattn._typing import Bool, Float, Tensor


def drive(
    query: Float[Tensor, "batch heads queries dim"],
    key: Float[Tensor, "batch heads keys dim"],
    anchor: Float[Tensor, "*#batch keys oscillator_dim"],
    *,
    scale: float,
    coupling: Callable[[Tensor], Tensor] = softplus,
    mask: Bool[Tensor, "*#batch #queries #keys"] | None = None,
) -> tuple[
    Float[Tensor, "batch heads queries oscillator_dim"], Float[Tensor, "batch heads queries"]
]:
    r"""Returns the drive of every free oscillator and its total coupling.

    .. math:: h_i = \sum_j W_{ij} r_j, \qquad W_{ij} = \sigma(s \, q_i \cdot k_j) > 0

    Args:
        query: One row per free oscillator.
        key: One row per anchor.
        anchor: :math:`r_j`, fixed while the oscillators settle.
        scale: :math:`s`.
        coupling: :math:`\sigma`, positive.
        mask: True where oscillator i is coupled to anchor j.

    Returns:
        The drive :math:`h_i` and the row sum :math:`\sum_j W_{ij}`.
    """
    W = coupling(scale * query @ key.mT)
    if mask is not None:
        W = torch.where(mask, W, 0.0)
    h = W @ anchor
    return h, W.sum(-1)


def equilibrium(
    drive: Float[Tensor, "*batch oscillator_dim"], *, eps: float = 1e-8
) -> Float[Tensor, "*batch oscillator_dim"]:
    r"""Returns the attractor :math:`x^* = h / |h|` of :math:`\dot x = (I - x x^\top) h`.

    Args:
        drive: :math:`h`.
        eps: Floor of the norm; a drive of exactly 0 gives 0, which reads out uniformly.

    Returns:
        The settled oscillators, unit vectors wherever the drive exceeds `eps`.
    """
    return drive / torch.linalg.vector_norm(drive, dim=-1, keepdim=True).clamp(min=eps)


def oscillator_attention_weights(
    oscillator: Float[Tensor, "batch heads queries oscillator_dim"],
    anchor: Float[Tensor, "*#batch keys oscillator_dim"],
    *,
    readout_power: int = 1,
    mask: Bool[Tensor, "*#batch #queries #keys"] | None = None,
) -> Float[Tensor, "batch heads queries keys"]:
    r"""Returns the read-out of settled oscillators, rows that sum to 1.

    .. math:: a_{ij} = \frac{(1 + x_i \cdot r_j)^p}{\sum_k (1 + x_i \cdot r_k)^p}

    Args:
        oscillator: :math:`x_i`.
        anchor: :math:`r_j`.
        readout_power: :math:`p \ge 1`; 1 is affine.
        mask: True where oscillator i reads anchor j.

    Returns:
        The weights; a row that reads nothing is 0.
    """
    affinity = (1 + oscillator @ anchor.mT).clamp(min=0)
    a = affinity**readout_power
    if mask is not None:
        a = torch.where(mask, a, 0.0)
    total = a.sum(-1, keepdim=True)
    return torch.where(total > 0, a / torch.where(total > 0, total, 1.0), 0.0)


def oscillator_attention(
    query: Float[Tensor, "batch heads queries dim"],
    key: Float[Tensor, "batch heads keys dim"],
    value: Float[Tensor, "batch heads keys value_dim"],
    anchor: Float[Tensor, "*#batch keys oscillator_dim"],
    *,
    scale: float,
    coupling: Callable[[Tensor], Tensor] = softplus,
    readout_power: int = 1,
    mask: Bool[Tensor, "*#batch #queries #keys"] | None = None,
) -> Float[Tensor, "batch heads queries value_dim"]:
    """Returns the values read out by oscillators settled among their anchors.

    Args:
        query: One row per free oscillator.
        key: One row per anchor.
        value: Values.
        anchor: Anchors.
        scale: Factor of the inner product of query and key.
        coupling: Positive function of the scaled inner product.
        readout_power: Power of the read-out.
        mask: True where oscillator i sees anchor j.

    Returns:
        The output; 0 in rows that see nothing.
    """
    h, _ = drive(query, key, anchor, scale=scale, coupling=coupling, mask=mask)
    x = equilibrium(h)
    return oscillator_attention_weights(x, anchor, readout_power=readout_power, mask=mask) @ value
