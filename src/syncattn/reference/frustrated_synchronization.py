"""Coupling through a complex kernel over harmonics and a one-step delay."""

import torch

from syncattn._typing import Bool, Float, Tensor


def frustrated_synchronization_coupling(
    phase_difference: Float[Tensor, "*batch dim"],
    harmonic_amplitude: Float[Tensor, "*#batch harmonics dim"],
    frustration: Float[Tensor, "*#batch harmonics dim"],
) -> Float[Tensor, "*batch dim"]:
    r"""Returns the coupling function of one delay.

    .. math:: f(\phi) = \sum_{m=1}^{M} a_m \sin(m \phi + \alpha_m)

    Theory: FS-2.

    Args:
        phase_difference: :math:`\phi`, key minus query, radians.
        harmonic_amplitude: :math:`a_m`; negative is repulsive.
        frustration: :math:`\alpha_m`, radians.

    Returns:
        The pull on the query, radians.
    """
    m = torch.arange(1, harmonic_amplitude.shape[-2] + 1, device=phase_difference.device)
    argument = m[:, None] * phase_difference[..., None, :] + frustration
    return (harmonic_amplitude * argument.sin()).sum(-2)


def frustrated_synchronization(
    weights: Float[Tensor, "batch heads queries keys"],
    query_phase: Float[Tensor, "batch heads queries dim"],
    key_phase: Float[Tensor, "batch heads keys dim"],
    harmonic_amplitude: Float[Tensor, "heads delays harmonics #dim"],
    frustration: Float[Tensor, "heads delays harmonics #dim"],
    *,
    reach: Bool[Tensor, "*#batch #queries #keys"] | None = None,
) -> Float[Tensor, "batch heads queries dim"]:
    r"""Returns the increment of frustrated, delayed, harmonic coupling.

    .. math:: \Delta\theta_t = \sum_{s,m} a_{sm} \sum_u A_{tu}
              \sin\big(m (\theta_{u+s} - \theta_t) + \alpha_{sm}\big)

    Theory: FS-1, FS-3.

    Args:
        weights: :math:`A_{tu}`.
        query_phase: :math:`\theta_t`, radians, without drift.
        key_phase: :math:`\theta_u`.
        harmonic_amplitude: :math:`a_{sm}` of each head, per coordinate or shared by all.
        frustration: :math:`\alpha_{sm}`, radians.
        reach: True where token t may read the state of token u, itself included: the term of
            delay s counts only where t reaches u + s.

    Returns:
        The phase increment, radians.
    """
    num_keys = key_phase.shape[-2]
    if reach is not None:
        reach = reach.expand(*reach.shape[:-1], num_keys)
    total = torch.zeros_like(query_phase)
    for s in range(harmonic_amplitude.shape[1]):
        A = weights[..., : max(num_keys - s, 0)]
        if reach is not None:
            A = torch.where(reach[..., s:], A, 0.0)
        phi = key_phase[..., None, s:, :] - query_phase[..., :, None, :]
        amplitude = harmonic_amplitude[:, s].expand(-1, -1, phi.shape[-1])[:, None, None]
        alpha = frustration[:, s].expand(-1, -1, phi.shape[-1])[:, None, None]
        pull = frustrated_synchronization_coupling(phi, amplitude, alpha)
        total = total + (A[..., None] * pull).sum(-2)
    return total
