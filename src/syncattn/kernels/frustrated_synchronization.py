"""The kernel folded into the values, one SDPA call, rotated back."""

import torch
from torch.nn.functional import pad

from syncattn._typing import Tensor
from syncattn.kernels.kuramoto_attention import (
    Fold,
    Part,
    Targets,
    Unfold,
    couple,
    dense_weights,
)
from syncattn.kernels.phase_passes import couple_compiled, fits_compiled
from syncattn.kernels.score import Score


def harmonics(cos: Tensor, sin: Tensor, num_harmonics: int) -> tuple[list[Tensor], list[Tensor]]:
    r"""Returns the cosines and sines of :math:`m\theta`, m = 1 … M, by Chebyshev's recurrence.

    Theory: FS-7.

    Args:
        cos: :math:`\cos\theta`.
        sin: :math:`\sin\theta`.
        num_harmonics: :math:`M`.

    Returns:
        M cosines and M sines.
    """
    cosines, sines = [cos], [sin]
    for m in range(2, num_harmonics + 1):
        if m == 2:
            cosines.append((cos * cos).addcmul_(sin, sin, value=-1))
            sines.append(2 * cos * sin)
        else:
            cosines.append(2 * cos * cosines[-1] - cosines[-2])
            sines.append(2 * cos * sines[-1] - sines[-2])
    return cosines, sines


def frustrated_synchronization(
    score: Score, harmonic_amplitude: Tensor, frustration: Tensor
) -> Tensor:
    r"""Returns the increment with the sum over delays taken before attention.

    .. math:: \sum_m \operatorname{Im} \Big( e^{-im\theta_t} \sum_u A_{tu}
              \sum_s \kappa_{sm} e^{im\theta_{u+s}} \Big)

    Theory: FS-6.

    Args:
        score: What makes the weights; no visible key may have a successor that is not.
        harmonic_amplitude: ``(heads, delays, harmonics, dim | 1)``.
        frustration: The same shape, radians.

    Returns:
        The phase increment.
    """
    real = harmonic_amplitude * frustration.cos()
    imaginary = harmonic_amplitude * frustration.sin()
    delays, num_harmonics = harmonic_amplitude.shape[1:3]
    if fits_compiled(score, delays):
        return couple_compiled(score, real, imaginary)
    fold, unfold = folding(score, real, imaginary)
    return couple(score, fold, unfold, 2 * num_harmonics, (real, imaginary))


def folding(score: Score, real: Tensor, imaginary: Tensor) -> tuple[Fold, Unfold]:
    r"""Returns how a kernel makes values of phases, and increments of their mean.

    Args:
        score: Whose padding counts for no one.
        real: :math:`a_{sm} \cos\alpha_{sm}`, ``(heads, delays, harmonics, dim | 1)``.
        imaginary: :math:`a_{sm} \sin\alpha_{sm}`, the same shape.

    Returns:
        The two functions that `couple` takes.
    """
    delays, num_harmonics = real.shape[1:3]
    key_mask = score.visibility.key_mask

    def fold(cos: Tensor, sin: Tensor, part: Part, targets: Targets) -> list[Tensor]:
        if key_mask is not None:
            # A state of length 0 has harmonics of length 0: it counts for no one, nor as successor.
            hidden = ~key_mask[part[0], None, :, None]
            cos, sin = cos.masked_fill(hidden, 0.0), sin.masked_fill(hidden, 0.0)
        a, b = real[part[1]], imaginary[part[1]]
        columns: list[Tensor] = []
        for m, (c, s) in enumerate(zip(*harmonics(cos, sin, num_harmonics), strict=True)):
            room = None if targets is None else targets[2 * m : 2 * m + 2]
            columns += _rotated(c, s, a[:, 0, m, None], b[:, 0, m, None], room)
            for n in range(1, min(delays, c.shape[-2])):
                late = c[..., n:, :], s[..., n:, :]
                _add_rotated(columns, late, a[:, n, m, None], b[:, n, m, None], targets is None)
        return columns

    def unfold(cos: Tensor, sin: Tensor, mean: Tensor) -> Tensor:
        return _unfolded(cos, sin, mean, num_harmonics)

    return fold, unfold


def frustrated_synchronization_dense(
    score: Score, harmonic_amplitude: Tensor, frustration: Tensor, *, reach: Tensor | None
) -> Tensor:
    r"""Returns the increment with one product of weights and values per delay.

    Any mask and any delay: the weights of delay s are masked where :math:`u + s` is out of reach.
    Memory is that of the weights, ``(batch, heads, queries, keys)``. Theory: FS-8.

    Args:
        score: What makes the weights.
        harmonic_amplitude: ``(heads, delays, harmonics, dim | 1)``.
        frustration: The same shape, radians.
        reach: True where a token may read the state of another, itself included; None for all.

    Returns:
        The phase increment.
    """
    weights = dense_weights(score)
    real = harmonic_amplitude * frustration.cos()
    imaginary = harmonic_amplitude * frustration.sin()
    delays, num_harmonics = harmonic_amplitude.shape[1:3]
    theta = score.key_phase
    cosines, sines = harmonics(theta.cos(), theta.sin(), num_harmonics)
    means: list[Tensor] = []
    for n in range(min(delays, max(theta.shape[-2], 1))):
        part = weights[..., : theta.shape[-2] - n]
        if reach is not None:
            part = torch.where(reach[..., n:], part, 0.0)
        columns: list[Tensor] = []
        for m, (c, s) in enumerate(zip(cosines, sines, strict=True)):
            columns += _rotated(
                c[..., n:, :], s[..., n:, :], real[:, n, m, None], imaginary[:, n, m, None]
            )
        means.append(part @ torch.cat(columns, -1))
    own = score.query_phase
    return _unfolded(own.cos(), own.sin(), torch.stack(means).sum(0), num_harmonics)


def _rotated(
    cos: Tensor, sin: Tensor, a: Tensor, b: Tensor, targets: Targets = None
) -> tuple[Tensor, Tensor]:
    """Returns real and imaginary part of (a + ib)(cos + i sin), written where they belong."""
    if targets is None:
        real, imaginary = a * cos, a * sin
    else:
        real, imaginary = (
            torch.mul(a, x, out=target) for x, target in zip((cos, sin), targets, strict=True)
        )
    return real.addcmul_(b, sin, value=-1), imaginary.addcmul_(b, cos)


def _add_rotated(
    columns: list[Tensor], late: tuple[Tensor, Tensor], a: Tensor, b: Tensor, recorded: bool
) -> None:
    """Adds what is n tokens later to the last two columns, nothing to their last n rows."""
    count = late[0].shape[-2]
    if recorded:
        missing = columns[-1].shape[-2] - count
        terms = (pad(term, (0, 0, 0, missing)) for term in _rotated(*late, a, b))
        columns[-2:] = [column + term for column, term in zip(columns[-2:], terms, strict=True)]
        return
    real, imaginary = (column[..., :count, :] for column in columns[-2:])
    cos, sin = late
    real.addcmul_(a, cos).addcmul_(b, sin, value=-1)
    imaginary.addcmul_(a, sin).addcmul_(b, cos)


def _unfolded(cos: Tensor, sin: Tensor, mean: Tensor, num_harmonics: int) -> Tensor:
    parts = mean.chunk(2 * num_harmonics, -1)
    cosines, sines = harmonics(cos, sin, num_harmonics)
    total = cosines[0] * parts[1]
    for m in range(num_harmonics):
        if m > 0:
            total = total.addcmul_(cosines[m], parts[2 * m + 1])
        total = total.addcmul_(sines[m], parts[2 * m], value=-1)
    return total
