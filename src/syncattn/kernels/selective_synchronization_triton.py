"""Selective synchronization through Triton: all pairs streaming by, or blocks that can lock."""

from __future__ import annotations

from syncattn._masks import Visibility
from syncattn._typing import Float, Keys, Order, Queries, Tensor, Values
from syncattn.kernels.pairwise_operator_triton import Kernel, pair_sums

__all__ = ["selective_synchronization"]


def selective_synchronization(
    query: Queries,
    key: Keys,
    value: Values,
    inverse_threshold: Order,
    coupling_decay: Float[Tensor, " heads"],
    *,
    visibility: Visibility,
    pruned: bool,
    self_pairs: bool,
    smoothing: float,
    edge_floor: float,
) -> tuple[Float[Tensor, "batch heads queries value_dim"], Order]:
    r"""Returns the average of the values over locked keys, and the total strength of each query.

    .. math::
        S_{ij} = \sqrt{\max(0, e^{-x_{ij}} - g_i x_{ij})}, \qquad
        x_{ij} = 2 a\, |\omega_i - \omega_j|^2

    Args:
        query: Frequencies, not scaled. float32 distances are sums of squared differences; those of
            bfloat16 and float16 come from products, which are exact, and are rounded as float32.
        key: Frequencies of the keys, in the same dtype.
        value: Values.
        inverse_threshold: :math:`g_i = 1/\Gamma_i`, at least 0.
        coupling_decay: :math:`a` of each head.
        visibility: Who may see whom.
        pruned: Visit only blocks of tokens that can lock.
        self_pairs: Query i is key ``i + S - L``: its squared distance is exactly 0.
        smoothing: Where the square root rounds off.
        edge_floor: Smallest strength by which the sharp gradient divides.
    """
    kernel = Kernel(
        "distance", smoothing=smoothing, edge_floor=edge_floor, join_self=self_pairs, pruned=pruned
    )
    return pair_sums(
        query, key, value, kernel, visibility, threshold=inverse_threshold,
        stretch=2 * coupling_decay,
    )  # fmt: skip
