"""Why one pair of tokens locks or does not: its detuning against the cutoff radius."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from syncattn import _validation as check
from syncattn import reference
from syncattn._typing import Keys, Queries, Tensor
from syncattn.functional.selective_inputs import Inputs, Options, checked
from syncattn.kernels.selective_synchronization_pairs import lambert_w0


class PairExplanation(NamedTuple):
    """Why a pair locks or does not. Frequencies are in the unit of the input.

    Attributes:
        detuning: Distance of the two frequencies.
        threshold: Locking threshold at that detuning, coupling strength times coherence times
            coupling.
        cutoff_radius: The largest detuning that locks this row.
        margin: Cutoff radius minus detuning; negative when the pair is too far apart.
        order_parameter: Coherence of the tokens that the query sees, in [0, 1].
        synchronization: Strength of the pair in [0, 1], after masks and `top_k`.
        weight: Its share of the row, in [0, 1].
        visible: Whether the masks let the query see the key.
        locked: Whether the key contributes to the query.
        reason: One sentence.
    """

    detuning: float
    threshold: float
    cutoff_radius: float
    margin: float
    order_parameter: float
    synchronization: float
    weight: float
    visible: bool
    locked: bool
    reason: str


def explain_pair(
    query_frequency: Queries,
    key_frequency: Keys,
    phase: Tensor | None = None,
    *,
    query: int,
    key: int,
    batch: int = 0,
    head: int = 0,
    **options: Any,
) -> PairExplanation:
    r"""Returns why a query locks to a key or does not, computed in float64.

    A pair locks when its detuning :math:`\rho` is below the cutoff radius

    .. math:: \rho_* = \sqrt{W_0(2 a (K R_i)^2) / (2 a)}

    Args:
        query_frequency: See `selective_synchronization`.
        key_frequency: See `selective_synchronization`.
        phase: See `selective_synchronization`.
        query: Index of the query.
        key: Index of the key.
        batch: Index of the sequence.
        head: Index of the head.
        **options: The other keywords of `selective_synchronization`.

    Returns:
        The explanation.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit, values are out of range, or `variant` is not
            ``"default"``.
        IndexError: If there is no such token, sequence or head.
    """
    named = Options(**options)
    if named.variant != "default":
        raise ValueError(
            f"`variant` must be 'default' in explain_pair; got {named.variant!r}. The published "
            f"form differs by its epsilons alone: drop the keyword."
        )
    with torch.no_grad():
        inputs = checked(query_frequency, key_frequency, phase, named)
        if query_frequency.is_meta:
            raise ValueError(
                "`query_frequency` must hold numbers to explain; got a tensor on the meta device. "
                "Compute it on another one."
            )
        for index, name, size in (
            (query, "query", query_frequency.shape[2]),
            (key, "key", key_frequency.shape[2]),
            (batch, "batch", query_frequency.shape[0]),
            (head, "head", query_frequency.shape[1]),
        ):
            check.require_integer(index, name, minimum=0)
            if index >= size:
                raise IndexError(
                    f"`{name}` must be an index below {size}; got {index}. Count from 0."
                )
        return _explain(inputs, batch, head, query, key)


def _explain(inputs: Inputs, b: int, h: int, i: int, j: int) -> PairExplanation:
    omega_i = inputs.query_frequency[b, h, i].double()
    omega_j = inputs.key_frequency[b, h].double()
    own = i + inputs.visibility.offset
    if inputs.self_pairs:
        omega_j = omega_j.clone()
        omega_j[own] = omega_i
    alpha, strength = inputs.coupling_decay[h].double(), inputs.coupling_strength[h].double()
    r = inputs.order_parameter[b, h, i].double()
    c = strength * r
    rho = (omega_i - omega_j[j]).norm()
    cutoff = (lambert_w0(2 * alpha * c.square()) / (2 * alpha)).sqrt()
    everyone = torch.arange(inputs.visibility.num_keys, device=rho.device)
    rows = torch.tensor([i], device=rho.device)
    mask = inputs.visibility.tile(rows, everyone, slice(b, b + 1), slice(h, h + 1))
    options = inputs.options

    def row(top_k: int | None) -> Tensor:
        return reference.synchronization(
            omega_i[None, None, None], omega_j[None, None], r[None, None, None],
            coupling_strength=strength[None], coupling_decay=alpha[None], mask=mask, top_k=top_k,
            smoothing=options.smoothing,
        )[0, 0, 0]  # fmt: skip

    s, kept = row(None), row(options.top_k)
    visible = True if mask is None else bool(mask[0, 0, 0, j])
    locked = bool(kept[j] > 0)
    reason = (
        f"Query {i} does not see key {j}: a mask hides it."
        if not visible
        else f"Query {i} and key {j} would lock, but {options.top_k} stronger keys come first."
        if bool(s[j] > 0) and not locked
        else f"Query {i} and key {j} {'lock' if locked else 'do not lock'}: their detuning "
        f"{rho.item():.4g} is {'within' if locked else 'beyond'} the cutoff radius "
        f"{cutoff.item():.4g} at coherence {r.item():.3g}."
    )
    return PairExplanation(
        detuning=rho.item(),
        threshold=(c * torch.exp(-alpha * rho.square())).item(),
        cutoff_radius=cutoff.item(),
        margin=(cutoff - rho).item(),
        order_parameter=r.item(),
        synchronization=kept[j].item(),
        weight=reference.synchronization_weights(kept)[j].item(),
        visible=visible,
        locked=locked,
        reason=reason,
    )
