"""Free oscillators settle among fixed anchors; affine read-out of the cosines."""

from collections.abc import Callable

import torch
from torch.nn.functional import softplus

from syncattn._typing import Bool, Float, Tensor

Gain = Float[Tensor, " heads"] | float


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
    W = coupling(scale * query @ key.mT)  # theory: OA-1
    if mask is not None:
        W = torch.where(mask, W, 0.0)
    h = W @ anchor  # theory: OA-2
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
    # theory: OA-4
    return drive / torch.linalg.vector_norm(drive, dim=-1, keepdim=True).clamp(min=eps)


def settled(
    drive: Float[Tensor, "*batch oscillator_dim"],
    initial: Float[Tensor, "*batch oscillator_dim"],
    time: float,
) -> Float[Tensor, "*batch oscillator_dim"]:
    r"""Returns where the flow :math:`\dot x = (I - x x^\top) h` is at a time, exactly.

    .. math::
        x(t) = \frac{2 q (x_0 - c\, e) + \big((1 + c) - (1 - c) q^2\big) e}
                    {(1 + c) + (1 - c) q^2},
        \qquad e = h / |h|, \; c = x_0 \cdot e, \; q = e^{-|h| t}

    Args:
        drive: :math:`h`, not 0.
        initial: :math:`x_0`, unit vectors other than :math:`-e`.
        time: :math:`t \ge 0`, in the inverse unit of the couplings.

    Returns:
        Unit vectors.
    """
    K = torch.linalg.vector_norm(drive, dim=-1, keepdim=True)
    e = drive / K
    c = (initial * e).sum(-1, keepdim=True)
    q = torch.exp(-K * time)
    # theory: OA-6
    return (2 * q * (initial - c * e) + ((1 + c) - (1 - c) * q**2) * e) / ((1 + c) + (1 - c) * q**2)


def oscillator_attention_weights(
    oscillator: Float[Tensor, "batch heads queries oscillator_dim"],
    anchor: Float[Tensor, "*#batch keys oscillator_dim"],
    *,
    readout_power: int = 1,
    readout_gain: Gain = 1.0,
    mask: Bool[Tensor, "*#batch #queries #keys"] | None = None,
) -> Float[Tensor, "batch heads queries keys"]:
    r"""Returns the read-out of settled oscillators, rows that sum to 1.

    .. math:: a_{ij} = \frac{[1 + g\, x_i \cdot r_j]_+^p}{\sum_k [1 + g\, x_i \cdot r_k]_+^p}

    Args:
        oscillator: :math:`x_i`.
        anchor: :math:`r_j`.
        readout_power: :math:`p \ge 1`; 1 is affine.
        readout_gain: :math:`g`, one number or one per head.
        mask: True where oscillator i reads anchor j.

    Returns:
        The weights; a row that reads nothing is 0.
    """
    g = readout_gain[:, None, None] if isinstance(readout_gain, Tensor) else readout_gain
    affinity = (1 + g * oscillator @ anchor.mT).clamp(min=0)
    a = affinity**readout_power  # theory: OA-11
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
    readout_gain: Gain = 1.0,
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
        readout_gain: Gain of the read-out, one number or one per head.
        mask: True where oscillator i sees anchor j.

    Returns:
        The output; 0 in rows that see nothing.
    """
    h, _ = drive(query, key, anchor, scale=scale, coupling=coupling, mask=mask)
    x = equilibrium(h)
    a = oscillator_attention_weights(
        x, anchor, readout_power=readout_power, readout_gain=readout_gain, mask=mask
    )
    return a @ value
