"""The drift of position, exact at any place and in any precision."""

from __future__ import annotations

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor


def phase_drift(
    natural_frequency: Float[Tensor, " dim"],
    num_positions: int,
    *,
    start: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "positions dim"]:
    r"""Returns the angle by which each coordinate has drifted at each place.

    .. math:: t\,\omega_k \bmod 2\pi, \qquad t = t_0 \dots t_0 + n - 1

    The product is taken and reduced in float64 and rounded once: after ten thousand tokens a
    product in float32 would be off by a thousandth of a radian, in bfloat16 by whole turns.
    Theory: KA-1.

    Args:
        natural_frequency: :math:`\omega`, radians per token.
        num_positions: :math:`n`.
        start: :math:`t_0`, the first place.
        dtype: Precision of the result.

    Returns:
        Radians in :math:`[-\pi, \pi]`.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If a count is negative or a frequency is not finite.

    Example:
        >>> phase_drift(torch.tensor([0.5]), 3)
        tensor([[0.0000],
                [0.5000],
                [1.0000]])
    """
    check.require_integer(num_positions, "num_positions", minimum=0)
    check.require_integer(start, "start", minimum=0)
    check.require_tensor(natural_frequency, "natural_frequency", "dim")
    if dtype not in check.FLOATS:
        raise TypeError(
            f"`dtype` must be float64, float32, bfloat16 or float16; got {dtype!r}. Leave it out "
            f"for float32."
        )
    check.require_finite(natural_frequency, "natural_frequency")
    # Apple's accelerator has no float64.
    far = natural_frequency.device.type == "mps"
    omega = (natural_frequency.cpu() if far else natural_frequency).double()
    place = torch.arange(start, start + num_positions, dtype=torch.float64, device=omega.device)
    angle = place[:, None] * omega
    angle = angle - 2 * torch.pi * torch.round(angle / (2 * torch.pi))
    return angle.to(dtype).to(natural_frequency.device)
