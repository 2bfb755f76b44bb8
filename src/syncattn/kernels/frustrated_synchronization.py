"""The kernel folded into the values, one SDPA call, rotated back."""

import torch
from torch.nn.functional import pad

from syncattn._masks import Visibility
from syncattn._typing import Tensor
from syncattn.kernels.scaled_dot_product import attend


def harmonics(phase: Tensor, num_harmonics: int) -> tuple[list[Tensor], list[Tensor]]:
    r"""Returns the cosines and sines of :math:`m\theta`, m = 1 … M, by Chebyshev's recurrence.

    Args:
        phase: Radians.
        num_harmonics: :math:`M`.

    Returns:
        M cosines and M sines.
    """
    cos_1, sin_1 = phase.cos(), phase.sin()
    cosines, sines = [torch.ones_like(cos_1), cos_1], [torch.zeros_like(sin_1), sin_1]
    for _ in range(2, num_harmonics + 1):
        cosines.append(2 * cos_1 * cosines[-1] - cosines[-2])
        sines.append(2 * cos_1 * sines[-1] - sines[-2])
    return cosines[1:], sines[1:]


def frustrated_synchronization(
    query_phase: Tensor,
    key_phase: Tensor,
    query_feature: Tensor,
    key_feature: Tensor,
    harmonic_amplitude: Tensor,
    frustration: Tensor,
    *,
    scale: float,
    visibility: Visibility,
) -> Tensor:
    r"""Returns the increment with the sum over delays taken before attention.

    .. math:: \sum_m \operatorname{Im} \Big( e^{-im\theta_t} \sum_u A_{tu}
              \sum_s \kappa_{sm} e^{im\theta_{u+s}} \Big)

    Args:
        query_phase: ``(batch, heads, queries, dim)`` radians.
        key_phase: ``(batch, heads, keys, dim)`` radians.
        query_feature: Gated cosines and sines of the queries.
        key_feature: Gated cosines and sines of the keys.
        harmonic_amplitude: ``(heads, delays, harmonics, dim | 1)``.
        frustration: The same shape, radians.
        scale: Factor of the score.
        visibility: Who sees whom; no visible key may have a successor that is not.

    Returns:
        The phase increment.
    """
    delays, num_harmonics = harmonic_amplitude.shape[1:3]
    key_harmonics = harmonics(key_phase, num_harmonics)
    real = harmonic_amplitude * frustration.cos()
    imaginary = harmonic_amplitude * frustration.sin()
    hidden = None if visibility.key_mask is None else ~visibility.key_mask[:, None, :, None]
    columns: list[Tensor] = []
    for m, (c, s) in enumerate(zip(*key_harmonics, strict=True)):
        if hidden is not None:
            c, s = c.masked_fill(hidden, 0.0), s.masked_fill(hidden, 0.0)
        re = im = None
        for delay in range(delays):
            # (heads, 1, dim | 1) against (batch, heads, keys, dim)
            a, b = real[:, delay, m, None, :], imaginary[:, delay, m, None, :]
            later_re = _successor(torch.addcmul(a * c, b, s, value=-1), delay)
            later_im = _successor(torch.addcmul(a * s, b, c), delay)
            re = later_re if re is None else re + later_re
            im = later_im if im is None else im + later_im
        assert re is not None
        assert im is not None
        columns += [re, im]
    mean = attend(
        query_feature, key_feature, torch.cat(columns, -1), scale=scale, visibility=visibility
    )
    parts = mean.chunk(2 * num_harmonics, -1)
    same = query_phase is key_phase
    cosines, sines = key_harmonics if same else harmonics(query_phase, num_harmonics)
    total = cosines[0] * parts[1]
    for m in range(num_harmonics):
        if m > 0:
            total = torch.addcmul(total, cosines[m], parts[2 * m + 1])
        total = torch.addcmul(total, sines[m], parts[2 * m], value=-1)
    return total


def _successor(state: Tensor, delay: int) -> Tensor:
    """Returns the state `delay` tokens later, 0 past the end."""
    return (
        state if delay == 0 else pad(state[..., delay:, :], (0, 0, 0, min(delay, state.shape[-2])))
    )
