"""Tokens as phases on a torus; weights from their differences."""

import torch

from syncattn._typing import Bool, Float, Tensor


def kuramoto_attention_weights(
    query_phase: Float[Tensor, "batch heads queries dim"],
    key_phase: Float[Tensor, "batch heads keys dim"],
    query_gate: Float[Tensor, "*#batch #queries #dim"],
    key_gate: Float[Tensor, "*#batch #keys #dim"],
    *,
    scale: float,
    mask: Bool[Tensor, "*#batch #queries #keys"] | None = None,
    sink: Float[Tensor, " heads"] | None = None,
) -> Float[Tensor, "batch heads queries keys"]:
    r"""Returns the weights of the gated cosine score.

    .. math:: s_{tu} = s \sum_k g_{tk} g'_{uk} \cos(\varphi_{tk} - \varphi_{uk}), \qquad
              A_{tu} = \frac{e^{s_{tu}}}{e^{b} + \sum_v e^{s_{tv}}}

    Theory: KA-2, KA-3, KA-6.

    Args:
        query_phase: :math:`\varphi_t`, drift included, radians.
        key_phase: :math:`\varphi_u`, drift included.
        query_gate: :math:`g_t`.
        key_gate: :math:`g'_u`.
        scale: :math:`s`.
        mask: True where token t sees token u.
        sink: :math:`b`, the logit of attending to nothing; without it :math:`e^b` is left out.

    Returns:
        Rows that sum to 1, or to less with a sink; a row that sees nothing is 0.
    """
    phi = query_phase[..., :, None, :] - key_phase[..., None, :, :]
    gate = query_gate[..., :, None, :] * key_gate[..., None, :, :]
    score = scale * (gate * phi.cos()).sum(-1)
    visible = torch.ones_like(score).bool() if mask is None else mask.expand_as(score)
    if sink is not None:
        b = sink[:, None, None].expand_as(score[..., :1])
        logits = torch.cat([torch.where(visible, score, -torch.inf), b], -1)
        return logits.softmax(-1)[..., :-1]
    some = visible.any(-1, keepdim=True)
    A = torch.where(visible | ~some, score, -torch.inf).softmax(-1)
    return torch.where(visible, A, 0.0)


def kuramoto_attention(
    weights: Float[Tensor, "batch heads queries keys"],
    query_phase: Float[Tensor, "batch heads queries dim"],
    key_phase: Float[Tensor, "batch heads keys dim"],
) -> Float[Tensor, "batch heads queries dim"]:
    r"""Returns the tangent part of the attention-weighted circular mean.

    .. math:: \Delta\theta_t = \sum_u A_{tu} \sin(\theta_u - \theta_t)

    Theory: KA-4.

    Args:
        weights: :math:`A`.
        query_phase: :math:`\theta_t`, radians, without drift.
        key_phase: :math:`\theta_u`.

    Returns:
        The phase increment, radians.
    """
    phi = key_phase[..., None, :, :] - query_phase[..., :, None, :]
    return (weights[..., None] * phi.sin()).sum(-2)


def kuramoto_attention_energy(
    weights: Float[Tensor, "batch heads queries keys"],
    query_phase: Float[Tensor, "batch heads queries dim"],
    key_phase: Float[Tensor, "batch heads keys dim"],
) -> Float[Tensor, "batch heads"]:
    r"""Returns :math:`E = -\sum_{tu} A_{tu} \sum_k \cos(\theta_{uk} - \theta_{tk})`.

    With the weights and the keys held, the update is minus its gradient in the query phases.
    Theory: KA-7.

    Args:
        weights: :math:`A`.
        query_phase: :math:`\theta_t`.
        key_phase: :math:`\theta_u`.

    Returns:
        The energy of each head.
    """
    phi = key_phase[..., None, :, :] - query_phase[..., :, None, :]
    return -(weights[..., None] * phi.cos()).sum((-3, -2, -1))
