"""How far the data itself turns from one token to the next: the frustration of a delay."""

from __future__ import annotations

import torch

from syncattn import _validation as check
from syncattn._masks import segments
from syncattn._typing import Bool, Float, Int, KeyMask, Keys, Tensor
from syncattn.functional.oscillators import at_least_float32, wrap_phase


def phase_transition(
    phase: Keys,
    *,
    delay: int = 1,
    key_mask: KeyMask | None = None,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
) -> tuple[Float[Tensor, "batch heads keys dim"], Bool[Tensor, "#batch keys"]]:
    r"""Returns the transition of every token and where it has one.

    .. math:: \delta_u = \theta_{u+s} - \theta_u, \qquad
              \sin(\theta_{u+s} - \theta_t) = \sin(\theta_u - \theta_t + \delta_u)

    A delay of the coupling kernel is Kuramoto–Sakaguchi coupling whose frustration is the data's
    own transition. Theory: FS-4.

    Args:
        phase: Phases in radians, ``(batch, heads, keys, dim)``.
        delay: :math:`s \ge 1`.
        key_mask: True where a token is real, ``(batch, keys)``.
        cu_seqlens: Cumulative lengths of packed sequences, which no transition crosses.

    Returns:
        The transitions in :math:`(-\pi, \pi]`, 0 where there is none; and a mask ``(batch | 1,
        keys)``, True where the token and its successor both exist.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If `delay` is smaller than 1, or shapes do not fit.
    """
    check.require_integer(delay, "delay", minimum=1)
    check.require_tensor(phase, "phase", "batch heads keys dim")
    # The checks of attention over the same tokens are those of their masks.
    check.require_visibility(phase, phase, key_mask=key_mask, cu_seqlens=cu_seqlens)
    theta = at_least_float32(phase)
    length = theta.shape[2]
    place = torch.arange(length, device=theta.device)
    later = (place + delay).clamp(max=max(length - 1, 0))
    exists = (place + delay < length)[None]
    if key_mask is not None:
        exists = exists & key_mask & key_mask[:, later]
    if cu_seqlens is not None:
        segment = segments(cu_seqlens, length)
        exists = exists & (segment == segment[later])
    transition = wrap_phase(theta[:, :, later] - theta)
    return torch.where(exists[:, None, :, None], transition, 0.0), exists
