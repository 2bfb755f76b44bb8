"""Selective synchronization attention: pairs of near natural frequencies lock, others get 0."""

from __future__ import annotations

import torch

from syncattn import _validation as check
from syncattn import kernels, reference
from syncattn._typing import (
    AttentionMask,
    Bool,
    Float,
    Int,
    KeyMask,
    Keys,
    Order,
    Queries,
    Tensor,
    Values,
)
from syncattn._typing import Weights as WeightMatrix
from syncattn.functional.oscillators import at_least_float32
from syncattn.functional.selective_backends import TRITON, choose, run_method
from syncattn.functional.selective_empty_rows import fill_empty_rows
from syncattn.functional.selective_inputs import EDGE_FLOOR, Inputs, Options, PerHead, checked

Phases = Float[Tensor, "batch heads keys phase_dim"]


def selective_synchronization(
    query_frequency: Queries,
    key_frequency: Keys,
    value: Values,
    phase: Phases | None = None,
    *,
    coupling_strength: PerHead,
    coupling_decay: PerHead,
    order_parameter: Order | None = None,
    attn_mask: AttentionMask | None = None,
    key_mask: KeyMask | None = None,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
    is_causal: bool = False,
    self_pairs: bool | None = None,
    position_coordinate: int | None = None,
    unbiased_order_parameter: bool = False,
    top_k: int | None = None,
    smoothing: float = 0.0,
    edge_floor: float = EDGE_FLOOR,
    empty_rows: str = "zero",
    variant: str = "default",
    backend: str = "auto",
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Returns the mean of the values over the tokens that lock with each query.

    .. math::
        S_{ij} = \sqrt{\max(0,\; e^{-2 a u_{ij}} - u_{ij} / (K R_i)^2)}, \qquad
        o_i = \frac{\sum_j S_{ij} v_j}{\sum_j S_{ij}}, \qquad u_{ij} = \|\omega_i - \omega_j\|^2

    Pairs whose frequencies are too far apart get exactly zero weight. The order parameter
    :math:`R_i` is the coherence of the phases that token i sees: with a causal mask a prefix
    quantity, and padding does not count. Memory is linear in the length, forward and backward,
    in every backend but ``"reference"``; all backends agree up to rounding:

    - ``"blockwise"`` computes all visible pairs, at any size and under any mask;
    - ``"window"`` sorts frequencies of one coordinate and computes the pairs within reach;
    - ``"band"`` does so along `position_coordinate`;
    - ``"pruned"`` skips blocks of tokens whose boxes or balls are out of reach;
    - ``"repeats"`` computes equal tokens once, without `top_k` or masks other than padding;
    - ``"triton"`` computes all visible pairs on CUDA, and ``"triton-pruned"`` the blocks that
      ``"pruned"`` would, in one kernel each, without `attn_mask` and `top_k`;
    - ``"reference"`` is the dense definition, and the only one with ``variant="paper"``.

    ``"auto"`` orders the tokens of long inputs, counts the pairs that each would compute, and
    takes another than ``"blockwise"`` where that needs at most a quarter of its pairs; never
    under ``torch.compile``. On CUDA it takes their Triton forms where those can run.
    `explain_backend` tells its reason.

    Args:
        query_frequency: Natural frequencies of the queries, ``(batch, heads, queries, dim)``.
        key_frequency: Natural frequencies of the keys, ``(batch, heads, keys, dim)``.
        value: ``(batch, heads, keys, value_dim)``.
        phase: Phases of the keys in radians, ``(batch, heads, keys, phase_dim)``; None means
            full coherence, R = 1.
        coupling_strength: :math:`K > 0`, a number or one per head.
        coupling_decay: :math:`a > 0`, inverse squared frequency, a number or one per head.
        order_parameter: :math:`R_i` itself, in [0, 1], in place of `phase`.
        attn_mask: True where attention is allowed; broadcastable to (batch, heads, queries, keys).
        key_mask: True where a key is real, ``(batch, keys)``.
        cu_seqlens: Cumulative lengths of packed sequences (batch 1).
        is_causal: Hide the future; the queries are the last tokens of the keys.
        self_pairs: True says that query i is the token of key ``i + keys - queries``, so that their
            detuning is exactly 0 and padding of the keys is padding of the queries; False that
            the queries are other tokens. None guesses: True when both frequencies are one tensor,
            or share its memory (which ``torch.compile`` cannot see).
        position_coordinate: The coordinate of the frequency that grows with the position, or any
            along which the tokens lie far apart; it only tells ``"band"`` where to look.
        unbiased_order_parameter: Remove the small-population bias of the order parameter.
        top_k: Keep only the k strongest locked keys of every query, after the masks; equal ones
            go to the earlier key.
        smoothing: Width of the smoothed strength; 0 is the exact one.
        edge_floor: Floor of S in the gradient's 1 / S at the locking edge.
        empty_rows: What a query receives that locks to nothing: ``"zero"``; the value of the
            ``"nearest"`` visible key in frequency; or the ``"mean"`` of the visible values.
        variant: ``"default"``, or ``"paper"`` for the published equations with their epsilons.
        backend: ``"auto"`` or one of the names above, which is obeyed or refused.

    Returns:
        The output in the dtype of `value`; 0 in rows that see nothing.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit, a coupling is not positive, or values are not finite.
        BackendUnavailableError: If the backend asked for cannot run this call.

    References:
        | Selective Synchronization Attention (arXiv 2602.14445)
    """
    options = Options(
        coupling_strength, coupling_decay, order_parameter, attn_mask, key_mask, cu_seqlens,
        is_causal, self_pairs, position_coordinate, unbiased_order_parameter, top_k, smoothing,
        edge_floor, empty_rows, variant,
    )  # fmt: skip
    inputs = checked(query_frequency, key_frequency, phase, options)
    check.require_tensor(value, "value", "batch heads keys value_dim")
    for axis, name in ((0, "sequences in the batch"), (1, "heads"), (2, "keys")):
        check.require_same(key_frequency, "key_frequency", value, "value", axis, name)
    check.require_together({"key_frequency": key_frequency, "value": value})
    seen = inputs.visibility.seen_keys()
    value = value if seen is None else torch.where(seen, value, 0.0)
    check.require_finite(value, "value")
    out = attend(inputs, value, backend)
    check.require_computed(out, "query_frequency", "key_frequency", "value")
    return out


def attend(inputs: Inputs, value: Tensor, backend: str) -> Tensor:
    """Returns the output of checked arguments.

    Args:
        inputs: The checked arguments.
        value: The values, hidden ones blanked.
        backend: The name asked for, or ``"auto"``.
    """
    chosen = choose(inputs, backend).backend
    options = inputs.options
    if chosen == "reference":
        strength = inputs.dense()
        weights = reference.synchronization_weights(strength, epsilon=_epsilon(options))
        out = (weights @ value.to(weights.dtype)).to(value.dtype)
        total = strength.sum(-1)
    elif chosen in TRITON:
        out, total = _attend_triton(inputs, value, pruned=chosen != "triton")
    else:
        method, coordinate = run_method(chosen, inputs)
        query, key, inverse_threshold = inputs.scaled()
        out, total = kernels.selective_synchronization(
            query,
            key,
            # The backward pass subtracts the output, which half precision would round first.
            at_least_float32(value),
            inverse_threshold,
            visibility=inputs.visibility,
            method=method,
            coordinate=coordinate,
            self_pairs=inputs.self_pairs,
            top_k=options.top_k,
            smoothing=options.smoothing,
            # An infinite gradient times an exact 0 would be NaN.
            edge_floor=max(options.edge_floor, 1e-12),
        )
    return fill_empty_rows(out.to(value.dtype), total.detach() == 0, value, inputs)


def _attend_triton(inputs: Inputs, value: Tensor, *, pruned: bool) -> tuple[Tensor, Tensor]:
    from syncattn.kernels import selective_synchronization_triton as triton

    options, dtype = inputs.options, inputs.point_dtype
    return triton.selective_synchronization(
        inputs.query_frequency.to(dtype),
        inputs.key_frequency.to(dtype),
        # Strengths are of the frequencies, and those are float32 at most.
        value.float() if value.dtype == torch.float64 else value,
        inputs.scaled()[2],
        inputs.coupling_decay,
        visibility=inputs.visibility,
        pruned=pruned,
        self_pairs=inputs.self_pairs,
        smoothing=options.smoothing,
        edge_floor=max(options.edge_floor, 1e-12),
    )


def _epsilon(options: Options) -> float:
    return reference.PAPER_EPSILON if options.variant == "paper" else 0.0


def selective_synchronization_weights(
    query_frequency: Queries,
    key_frequency: Keys,
    phase: Phases | None = None,
    *,
    coupling_strength: PerHead,
    coupling_decay: PerHead,
    order_parameter: Order | None = None,
    attn_mask: AttentionMask | None = None,
    key_mask: KeyMask | None = None,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
    is_causal: bool = False,
    self_pairs: bool | None = None,
    unbiased_order_parameter: bool = False,
    top_k: int | None = None,
    smoothing: float = 0.0,
    edge_floor: float = EDGE_FLOOR,
    empty_rows: str = "zero",
    variant: str = "default",
) -> tuple[WeightMatrix, Order, Bool[Tensor, "batch heads queries keys"]]:
    """Returns the dense weights, the order parameter of every row and which pairs lock.

    Args:
        query_frequency: See `selective_synchronization`.
        key_frequency: See `selective_synchronization`.
        phase: See `selective_synchronization`.
        coupling_strength: See `selective_synchronization`.
        coupling_decay: See `selective_synchronization`.
        order_parameter: See `selective_synchronization`.
        attn_mask: See `selective_synchronization`.
        key_mask: See `selective_synchronization`.
        cu_seqlens: See `selective_synchronization`.
        is_causal: See `selective_synchronization`.
        self_pairs: See `selective_synchronization`.
        unbiased_order_parameter: See `selective_synchronization`.
        top_k: See `selective_synchronization`.
        smoothing: See `selective_synchronization`.
        edge_floor: See `selective_synchronization`.
        empty_rows: See `selective_synchronization`; filled rows are not locked.
        variant: See `selective_synchronization`.

    Returns:
        The weights (rows sum to 1, or to 0 where nothing locks and nothing fills them), the order
        parameter in [0, 1], and the locked pairs.
    """
    options = Options(
        coupling_strength, coupling_decay, order_parameter, attn_mask, key_mask, cu_seqlens,
        is_causal, self_pairs, unbiased_order_parameter=unbiased_order_parameter, top_k=top_k,
        smoothing=smoothing, edge_floor=edge_floor, empty_rows=empty_rows, variant=variant,
    )  # fmt: skip
    inputs = checked(query_frequency, key_frequency, phase, options)
    strength = inputs.dense()
    weights = reference.synchronization_weights(strength, epsilon=_epsilon(options))
    # The output on one-hot values is the row of weights.
    one_hot = torch.eye(key_frequency.shape[2], dtype=weights.dtype, device=weights.device)
    one_hot = one_hot.expand(*weights.shape[:2], -1, -1)
    weights = fill_empty_rows(weights, strength.detach().sum(-1) == 0, one_hot, inputs)
    check.require_computed(weights, "query_frequency", "key_frequency")
    return weights, inputs.order_parameter, strength > 0
