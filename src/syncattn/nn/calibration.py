"""Initial values of selective synchronization: how far frequencies may spread to lock."""

from __future__ import annotations

import math

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.kernels.selective_synchronization_pairs import lambert_w0


def squared_cutoff(
    coupling_strength: float, coupling_decay: float, order_parameter: float = 1.0
) -> float:
    r"""Returns :math:`\rho_*^2 = W(2 a (K R)^2) / (2 a)`, beyond which no pair locks.

    Args:
        coupling_strength: :math:`K > 0`.
        coupling_decay: :math:`a > 0`.
        order_parameter: :math:`R` in [0, 1].

    Returns:
        The largest squared detuning that locks.
    """
    numbers = (coupling_strength, coupling_decay, order_parameter)
    return squared_cutoffs(
        *(torch.tensor(number, dtype=torch.float64, device="cpu") for number in numbers)
    ).item()


def squared_cutoffs(
    coupling_strength: Float[Tensor, "*#shape"],
    coupling_decay: Float[Tensor, "*#shape"],
    order_parameter: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*#shape"]:
    """Returns `squared_cutoff` of tensors that broadcast, with gradients.

    Theory: SS-9.

    Args:
        coupling_strength: :math:`K > 0`.
        coupling_decay: :math:`a > 0`.
        order_parameter: :math:`R` in [0, 1].

    Returns:
        The largest squared detunings that lock; 0 where R is 0.
    """
    z = 2 * coupling_decay * (coupling_strength * order_parameter).square()
    return lambert_w0(z) / (2 * coupling_decay)


def locked_fraction(squared_cutoff: float, frequency_std: float, frequency_dim: int) -> float:
    r"""Returns the share of pairs of independent Gaussian frequencies that lock.

    .. math:: P\big(\tfrac{d}{2}, \tfrac{\rho_*^2}{4 s^2}\big)

    Theory: SS-10.

    Args:
        squared_cutoff: :math:`\rho_*^2`.
        frequency_std: :math:`s > 0`, standard deviation of one coordinate.
        frequency_dim: :math:`d`.

    Returns:
        The regularised lower incomplete gamma function.
    """
    a = torch.tensor(frequency_dim / 2, dtype=torch.float64, device="cpu")
    x = torch.tensor(squared_cutoff / (4 * frequency_std**2), dtype=torch.float64, device="cpu")
    return float(torch.special.gammainc(a, x))


def frequency_std(
    target_locked_fraction: float, squared_cutoff: float, frequency_dim: int
) -> float:
    r"""Returns the spread of the frequencies at which the target share of pairs locks.

    .. math:: s^2 = \rho_*^2 \big/ \big(4 P^{-1}(\tfrac{d}{2}, p)\big)

    Args:
        target_locked_fraction: :math:`p`, strictly between 0 and 1.
        squared_cutoff: :math:`\rho_*^2`.
        frequency_dim: :math:`d`.

    Returns:
        The standard deviation of one coordinate.

    Raises:
        ValueError: If the target is not strictly between 0 and 1.
        TypeError: If the target is not a number.
    """
    check.require_number(
        target_locked_fraction, "target_locked_fraction", minimum=0.0, maximum=1.0, exclusive=True
    )
    # Bisection in ln s: the fraction falls from 1 to 0 as the spread grows.
    low, high = -40.0, 40.0
    while high - low > 1e-13:
        middle = (low + high) / 2
        reached = locked_fraction(squared_cutoff, math.exp(middle), frequency_dim)
        low, high = (middle, high) if reached > target_locked_fraction else (low, middle)
    return math.exp((low + high) / 2)
