"""The energy that Kuramoto attention descends while its weights are held."""

from __future__ import annotations

from syncattn import _validation as check
from syncattn._typing import Float, Keys, Queries, Tensor, Weights
from syncattn.functional.oscillators import widest


def phase_energy(
    weights: Weights, query_phase: Queries, key_phase: Keys
) -> Float[Tensor, "batch heads"]:
    r"""Returns the energy of unfrustrated coupling, lower where tokens agree with what they see.

    .. math:: E = -\sum_{tu} A_{tu} \sum_k \cos(\theta_{uk} - \theta_{tk})

    With the weights and the keys held, :math:`\Delta\theta_t = -\partial E / \partial\theta_t` is
    the update of `kuramoto_attention`, so a small step lowers it. Frustrated, delayed or
    non-symmetric coupling has no such energy in general. Time and memory are those of the weights.
    Theory: KA-7.

    Args:
        weights: :math:`A`, ``(batch, heads, queries, keys)``, as `kuramoto_attention_weights`
            returns them.
        query_phase: :math:`\theta_t` in radians, without drift.
        key_phase: :math:`\theta_u`.

    Returns:
        ``(batch, heads)``, between minus and plus the sum of the weights times the number of
        coordinates.

    Raises:
        TypeError: If an argument is not a floating tensor.
        ValueError: If shapes do not fit.

    Example:
        >>> import torch
        >>> theta = torch.zeros(1, 1, 2, 1)
        >>> phase_energy(torch.ones(1, 1, 2, 2), theta, theta)
        tensor([[-4.]])
    """
    check.require_tensor(query_phase, "query_phase", "batch heads queries dim")
    check.require_tensor(key_phase, "key_phase", "batch heads keys dim")
    check.require_tensor(weights, "weights", "batch heads queries keys")
    check.require_together({"query_phase": query_phase, "key_phase": key_phase, "weights": weights})
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (-1, "coordinates")):
        check.require_same(query_phase, "query_phase", key_phase, "key_phase", axis, name)
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (2, "queries")):
        check.require_same(query_phase, "query_phase", weights, "weights", axis, name)
    if weights.shape[-1] != key_phase.shape[2]:
        raise ValueError(
            f"`weights` must have one column per key; got {weights.shape[-1]} columns and "
            f"{key_phase.shape[2]} keys. Pass the weights of these phases."
        )
    dtype = widest(query_phase, key_phase, weights)
    theta_t, theta_u, weights = query_phase.to(dtype), key_phase.to(dtype), weights.to(dtype)
    energy = theta_t.cos() * (weights @ theta_u.cos()) + theta_t.sin() * (weights @ theta_u.sin())
    check.require_computed(energy, "weights")
    return -energy.sum((-2, -1))
