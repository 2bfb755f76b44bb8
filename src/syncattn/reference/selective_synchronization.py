"""Pairs of near frequencies lock: coupling times cos(arcsin(detuning / threshold)), else 0."""

import math

import torch

from syncattn._typing import Bool, Float, Tensor

PAPER_EPSILON = 1e-8
"""The epsilon of the published code: in the threshold, the clip and the normaliser."""


def row_order_parameter(
    phase: Float[Tensor, "batch heads keys phase_dim"],
    mask: Bool[Tensor, "*#batch queries keys"],
    *,
    unbiased: bool = False,
) -> Float[Tensor, "batch heads queries"]:
    r"""Returns the coherence of the tokens that each query sees, averaged over channels.

    .. math:: R_i = \frac{1}{d} \sum_l \Big| \frac{1}{n_i} \sum_{j \in V_i} e^{i \theta_{jl}} \Big|

    Theory: SS-3.

    Args:
        phase: Phases in radians, one channel per coordinate.
        mask: True where query i sees key j, so that :math:`n_i` is a row sum.
        unbiased: Replace :math:`R^2` by :math:`(n R^2 - 1) / (n - 1)`, clamped at 0, whose
            expectation for independent uniform phases is 0 before the clamp.

    Returns:
        The order parameter in [0, 1]; 1 for a row that sees nothing.
    """
    visible = mask.expand(*phase.shape[:2], *mask.shape[-2:]).to(phase.dtype)
    count = visible.sum(-1, keepdim=True)
    n = count.clamp(min=1)
    c = visible @ phase.cos() / n
    s = visible @ phase.sin() / n
    r_squared = c.square() + s.square()
    if unbiased:
        r_squared = torch.where(n > 1, (n * r_squared - 1) / (n - 1).clamp(min=1), 1.0)
    r = torch.where(r_squared > 0, r_squared, 1.0).sqrt() * (r_squared > 0)
    return torch.where(count[..., 0] > 0, r.mean(-1), 1.0)


def synchronization(
    query_frequency: Float[Tensor, "batch heads queries dim"],
    key_frequency: Float[Tensor, "batch heads keys dim"],
    order_parameter: Float[Tensor, "batch heads queries"],
    *,
    coupling_strength: Float[Tensor, " heads"],
    coupling_decay: Float[Tensor, " heads"],
    mask: Bool[Tensor, "*#batch #queries #keys"] | None = None,
    top_k: int | None = None,
    smoothing: float = 0.0,
    edge_floor: float = 0.0,
) -> Float[Tensor, "batch heads queries keys"]:
    r"""Returns the synchronization of every pair in the square-root form.

    .. math:: S_{ij} = \sqrt{\max(0,\; e^{-2 a u_{ij}} - u_{ij} / c_i^2)},
              \qquad u_{ij} = \|\omega_i - \omega_j\|^2, \quad c_i = K R_i

    Theory: SS-1, SS-6.

    Args:
        query_frequency: Natural frequencies of the queries, radians per unit time.
        key_frequency: Natural frequencies of the keys.
        order_parameter: :math:`R_i`, in [0, 1].
        coupling_strength: :math:`K > 0` of each head, as frequency.
        coupling_decay: :math:`a > 0` of each head, inverse squared frequency.
        mask: True where query i sees key j.
        top_k: Keep the k strongest of every row; ties go to the earlier key.
        smoothing: :math:`d` in :math:`(\sqrt{q + d^2} - d) / (\sqrt{1 + d^2} - d)`; 0 is exact.
        edge_floor: In the gradient alone, 1 / S becomes 1 / max(S, edge_floor).

    Returns:
        The synchronization in [0, 1], exactly 0 where a pair does not lock.
    """
    alpha = coupling_decay[:, None, None]
    c = (coupling_strength[:, None] * order_parameter)[..., None]
    delta_omega = query_frequency[..., :, None, :] - key_frequency[..., None, :, :]
    u = delta_omega.square().sum(-1)
    # c = 0 locks nothing but exact equals: there u / c^2 is 0 / 0, meant as 0.
    pull = torch.where(u > 0, u / c.square().clamp(min=torch.finfo(u.dtype).tiny), 0.0)
    q = torch.exp(-2 * alpha * u) - pull
    locked = q > 0 if mask is None else (q > 0) & mask
    q = torch.where(locked, q, 1.0)
    if smoothing > 0:
        # The same without differences, which cancel where d is large.
        s = q * (math.sqrt(1 + smoothing**2) + smoothing) / ((q + smoothing**2).sqrt() + smoothing)
    else:
        s = q.sqrt()
        if edge_floor > 0:
            s = s.detach() + (q - q.detach()) / (2 * s.detach().clamp(min=edge_floor))
    s = torch.where(locked, s, 0.0)
    return s if top_k is None else strongest(s, top_k)


def paper_synchronization(
    query_frequency: Float[Tensor, "batch heads queries dim"],
    key_frequency: Float[Tensor, "batch heads keys dim"],
    order_parameter: Float[Tensor, "batch heads queries"],
    *,
    coupling_strength: Float[Tensor, " heads"],
    coupling_decay: Float[Tensor, " heads"],
    mask: Bool[Tensor, "*#batch #queries #keys"] | None = None,
    top_k: int | None = None,
) -> Float[Tensor, "batch heads queries keys"]:
    r"""Returns the synchronization of every pair as the paper and its public code write it.

    .. math:: S_{ij} = [\rho_{ij} \le T_{ij}]\, J_{ij} \cos(\arcsin(\rho_{ij} / T_{ij})),
              \qquad J_{ij} = e^{-a \rho_{ij}^2}, \quad T_{ij} = K R_i J_{ij} + \epsilon

    Differs from `synchronization` by the epsilons alone; its gradient is cut to 0 where the
    published one is infinite. Theory: SS-2, SS-4, SS-5.

    Args:
        query_frequency: Natural frequencies of the queries.
        key_frequency: Natural frequencies of the keys.
        order_parameter: :math:`R_i`, in [0, 1].
        coupling_strength: :math:`K > 0` of each head.
        coupling_decay: :math:`a > 0` of each head.
        mask: True where query i sees key j.
        top_k: Keep the k strongest of every row.

    Returns:
        The synchronization in [0, 1].
    """
    alpha = coupling_decay[:, None, None]
    c = (coupling_strength[:, None] * order_parameter)[..., None]
    delta_omega = query_frequency[..., :, None, :] - key_frequency[..., None, :, :]
    u = delta_omega.square().sum(-1)
    rho = torch.where(u > 0, u, 1.0).sqrt() * (u > 0)
    J = torch.exp(-alpha * u)
    threshold = c * J + PAPER_EPSILON
    ratio = (rho / threshold).clamp(max=1 - PAPER_EPSILON)
    locked = rho <= threshold if mask is None else (rho <= threshold) & mask
    cosine_squared = 1 - torch.where(locked, ratio, 0.0).square()
    safe = torch.where(cosine_squared > 0, cosine_squared, 1.0)
    s = torch.where(locked & (cosine_squared > 0), J * safe.sqrt(), 0.0)
    return s if top_k is None else strongest(s, top_k)


def strongest(
    synchronization: Float[Tensor, "*batch keys"], top_k: int
) -> Float[Tensor, "*batch keys"]:
    """Returns the synchronization with all but the `top_k` largest of every row set to 0.

    Args:
        synchronization: Rows of synchronization.
        top_k: How many to keep; a tie at the edge goes to the earlier key.

    Returns:
        The same rows, thinned.
    """
    order = synchronization.sort(dim=-1, descending=True, stable=True).indices
    keep = torch.zeros_like(synchronization, dtype=torch.bool)
    keep = keep.scatter(-1, order[..., :top_k], torch.ones_like(order[..., :top_k]).bool())
    return torch.where(keep, synchronization, 0.0)


def synchronization_weights(
    synchronization: Float[Tensor, "*batch keys"], *, epsilon: float = 0.0
) -> Float[Tensor, "*batch keys"]:
    r"""Returns rows that sum to 1: :math:`A_{ij} = S_{ij} / (\sum_j S_{ij} + \epsilon)`.

    Args:
        synchronization: Rows of synchronization; a row of zeros stays a row of zeros.
        epsilon: Added to the row sum; the published code has 1e-8.

    Returns:
        The weights of each row.
    """
    total = synchronization.sum(-1, keepdim=True) + epsilon
    return torch.where(total > 0, synchronization / torch.where(total > 0, total, 1.0), 0.0)


def selective_synchronization(
    query_frequency: Float[Tensor, "batch heads queries dim"],
    key_frequency: Float[Tensor, "batch heads keys dim"],
    value: Float[Tensor, "batch heads keys value_dim"],
    order_parameter: Float[Tensor, "batch heads queries"],
    *,
    coupling_strength: Float[Tensor, " heads"],
    coupling_decay: Float[Tensor, " heads"],
    mask: Bool[Tensor, "*#batch #queries #keys"] | None = None,
    top_k: int | None = None,
    smoothing: float = 0.0,
    edge_floor: float = 0.0,
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Returns the synchronized mean of the values, :math:`\sum_j A_{ij} v_j`.

    Theory: SS-7.

    Args:
        query_frequency: Natural frequencies of the queries.
        key_frequency: Natural frequencies of the keys.
        value: Values.
        order_parameter: :math:`R_i`, in [0, 1].
        coupling_strength: :math:`K > 0` of each head.
        coupling_decay: :math:`a > 0` of each head.
        mask: True where query i sees key j.
        top_k: Keep the k strongest of every row.
        smoothing: See `synchronization`.
        edge_floor: See `synchronization`.

    Returns:
        The output; 0 in rows where nothing locks.
    """
    s = synchronization(
        query_frequency,
        key_frequency,
        order_parameter,
        coupling_strength=coupling_strength,
        coupling_decay=coupling_decay,
        mask=mask,
        top_k=top_k,
        smoothing=smoothing,
        edge_floor=edge_floor,
    )
    return synchronization_weights(s) @ value
