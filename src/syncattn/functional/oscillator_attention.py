"""Fixed-query oscillator attention: free oscillators settle among anchors and are read out."""

from __future__ import annotations

from typing import Any

import torch

from syncattn import _validation as check
from syncattn import kernels, reference
from syncattn._autocast import without_autocast
from syncattn._backends import Requirement, choose_backend
from syncattn._typing import AttentionMask, Bool, Float, Int, KeyMask, Keys, Queries, Tensor, Values
from syncattn._typing import Weights as WeightMatrix
from syncattn.functional.oscillator_inputs import (
    COUPLINGS,
    Anchors,
    Coupling,
    Gain,
    Inputs,
    Options,
    checked,
)
from syncattn.functional.oscillator_prefix import prefix_readout
from syncattn.functional.oscillator_settling import SettlingMode, settle

__all__ = ["COUPLINGS", "oscillator_attention", "oscillator_attention_weights"]


def oscillator_attention(
    query: Queries,
    key: Keys,
    value: Values,
    anchor: Anchors,
    *,
    attn_mask: AttentionMask | None = None,
    key_mask: KeyMask | None = None,
    cu_seqlens: Int[Tensor, " ends"] | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    coupling: Coupling = "softplus",
    row_gain: bool = False,
    mode: SettlingMode | str = "equilibrium",
    initial_oscillator: Float[Tensor, "*#batch #queries oscillator_dim"] | None = None,
    readout_power: int = 1,
    readout_gain: Gain = 1.0,
    anchor_bounded: bool = False,
    legacy_padding: bool = False,
    backend: str = "auto",
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Returns the values read out by free oscillators that settled among fixed anchors.

    .. math::
        h_i = \sum_j \sigma(s\, q_i \cdot k_j)\, r_j, \qquad
        \dot x_i = (I - x_i x_i^\top) h_i \to h_i / |h_i|, \qquad
        o_i = \frac{\sum_j [1 + g\, x_i \cdot r_j]_+^p v_j}{\sum_j [1 + g\, x_i \cdot r_j]_+^p}

    The paper calls the anchors :math:`r_j` queries; here the free oscillator :math:`x_i` belongs
    to the querying token. Time is quadratic in the length. The read-out of ``readout_power=1`` is
    linear in it wherever no weight can be negative: at equilibrium, with `anchor_bounded` and
    :math:`0 \le g \le 1`, without `attn_mask`; a gain that is a tensor is looked at on the CPU
    alone.

    Args:
        query: ``(batch, heads, queries, dim)``; float64, float32, bfloat16 or float16.
        key: ``(batch, heads, keys, dim)``.
        value: ``(batch, heads, keys, value_dim)``.
        anchor: ``(batch | 1, heads, keys, oscillator_dim)``; norm at most 1 keeps every weight
            positive.
        attn_mask: True where attention is allowed; broadcastable to (batch, heads, queries, keys).
        key_mask: True where a key is real, ``(batch, keys)``.
        cu_seqlens: Cumulative lengths of packed sequences (batch 1).
        is_causal: Hide the future; the queries are the last tokens of the keys.
        scale: :math:`s`; the default is ``dim ** -0.5``.
        coupling: ``"softplus"``, ``"relu"`` (plus 1e-3), ``"elu"`` (plus 1), or a function to
            positive numbers.
        row_gain: Divide the couplings of a row by their sum. The equilibrium stays; the rate of
            settling becomes the order parameter of the weighted anchors, at most 1.
        mode: ``"equilibrium"``, ``"settle(time)"`` (the exact flow), ``"euler(num_steps, step)"``
            or ``"ode(time)"``; see `settling_mode`.
        initial_oscillator: Where the oscillators begin, broadcastable to (batch, heads, queries,
            oscillator_dim), of any length but 0. The default is `initial_oscillators`: uniform on
            the sphere and the same in every call. No part of the equilibrium.
        readout_power: :math:`p`: 1 (affine), 2 or 4.
        readout_gain: :math:`g`, one number or one per head. At most 1 keeps every weight positive;
            above 1 a row may be sharper, and sparse.
        anchor_bounded: True when the caller vouches for norms of at most 1, which the linear
            read-out needs; else anchors of length 0 are refused where looking is free.
        legacy_padding: Read padded keys out, uncoupled as they are, like the published code.
        backend: ``"auto"``, ``"blockwise"`` (memory linear in the length; named couplings),
            ``"triton"`` (the same on CUDA, in one kernel each; without `attn_mask`), or
            ``"reference"`` (a few matrices of all pairs).

    Returns:
        The output in the dtype of `value`; 0 in rows that see nothing.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit, an anchor has length 0, values are not finite, or an Euler
            step is too long for the drive.
        ImportError: If `mode` needs torchdiffeq and it is not installed.
        BackendUnavailableError: If the backend asked for cannot run this call.

    References:
        | Attention by Synchronization in Coupled Oscillator Networks (arXiv 2606.12059)
    """
    options = Options(
        attn_mask, key_mask, cu_seqlens, is_causal, scale, coupling, row_gain, mode,
        initial_oscillator, readout_power, readout_gain, anchor_bounded, legacy_padding,
    )  # fmt: skip
    check.require_floating(value, "value")
    inputs = checked(query, key, value, anchor, options)
    backend = chosen(inputs, backend)
    with without_autocast(query):
        x, _, _ = settled_inputs(inputs, backend)
        out = readout(x, inputs, backend)
    check.require_computed(out, "query", "key", "scale", "readout_gain", "value")
    return out.to(value.dtype)


def oscillator_attention_weights(
    query: Queries, key: Keys, anchor: Anchors, **options: Any
) -> tuple[
    WeightMatrix,
    Float[Tensor, "batch heads queries"],
    Bool[Tensor, "batch heads queries keys"],
]:
    r"""Returns the dense weights, the order parameter of the drive and who is attracted.

    The order parameter is :math:`\rho_i = |\sum_j W_{ij} r_j| / \sum_j W_{ij}`: 1 when all
    coupled anchors agree, near 0 when they cancel and the oscillator hardly knows where to go.

    Args:
        query: See `oscillator_attention`.
        key: See `oscillator_attention`.
        anchor: See `oscillator_attention`.
        **options: Its other keywords, without `backend`.

    Returns:
        The weights (rows sum to 1), the order parameter in [0, 1] (NaN in rows that see nothing),
        and whether the settled oscillator lies within a quarter turn of the anchor.
    """
    inputs = checked(query, key, None, anchor, Options(**options))
    with without_autocast(query):
        x, h, total = settled_inputs(inputs, "reference")
        mask = inputs.readable.dense(x.device)
        weights = reference.oscillator_attention_weights(
            x, inputs.anchor, readout_power=inputs.options.readout_power, readout_gain=inputs.gain,
            mask=mask,
        )  # fmt: skip
        near = x @ inputs.anchor.mT > 0
    check.require_computed(weights, "query", "key", "scale", "readout_gain")
    rho = torch.linalg.vector_norm(h, dim=-1) / _positive(total)
    seen = inputs.visibility.dense(x.device)
    if seen is not None:
        rho = torch.where(seen.any(-1), rho, torch.nan)
    return weights, rho.clamp(max=1), near if mask is None else near & mask


def oscillator_couplings(
    query: Queries, key: Keys, value: Values, anchor: Anchors, **options: Any
) -> tuple[WeightMatrix, Anchors, Values, Bool[Tensor, "*#batch queries keys"] | None]:
    """Returns the couplings of all pairs, and anchors, values and mask, at least in float32.

    Args:
        query: See `oscillator_attention`.
        key: See `oscillator_attention`.
        value: See `oscillator_attention`.
        anchor: See `oscillator_attention`.
        **options: Its other keywords, without `backend`.

    Returns:
        The couplings, 0 where no link is and rows divided by their sum under `row_gain`; anchors
        and values, 0 where hidden; who reads whom, None for everybody everyone.
    """
    inputs = checked(query, key, value, anchor, Options(**options))
    assert inputs.value is not None
    with without_autocast(query):
        W = inputs.sigma(inputs.scale * inputs.query @ inputs.key.mT)
    mask = inputs.visibility.dense(W.device)
    W = W if mask is None else torch.where(mask, W, 0.0)
    if inputs.options.row_gain:
        W = W / _positive(W.sum(-1, keepdim=True))
    return W, inputs.anchor, inputs.value, inputs.readable.dense(W.device)


def chosen(inputs: Inputs, backend: str) -> str:
    """Returns the backend to run.

    Args:
        inputs: The checked arguments.
        backend: The name asked for, or ``"auto"``.

    Raises:
        BackendUnavailableError: If the backend asked for cannot run this call.
    """
    named = inputs.options.coupling in kernels.COUPLING_KINDS
    by_name = Requirement("`coupling` is given by name", named)
    candidates: dict[str, tuple[Requirement, ...]] = {"blockwise": (by_name,), "reference": ()}
    triton = kernels.triton_requirements(
        inputs.query, inputs.key, inputs.anchor, visibility=inputs.visibility
    )
    return choose_backend(
        "oscillator_attention",
        backend,
        kernels.with_triton(candidates, (by_name, *triton), inputs.query),
    )


def settled_inputs(inputs: Inputs, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the settled oscillators, their drive without row gain, and their total coupling.

    Args:
        inputs: The checked arguments.
        backend: The backend chosen.
    """
    h, total = _drive(inputs, backend)
    pull = h / _positive(total)[..., None] if inputs.options.row_gain else h  # theory: OA-5
    return settle(pull, inputs.mode, inputs.initial()), h, total


def readout(x: Tensor, inputs: Inputs, backend: str) -> Tensor:
    """Returns the values read out by settled oscillators.

    Args:
        x: ``(batch, heads, queries, oscillator_dim)``.
        inputs: The checked arguments.
        backend: The backend chosen; ``"reference"`` forms the matrix of weights.
    """
    assert inputs.value is not None
    power, seen, gain = inputs.options.readout_power, inputs.readable, inputs.gain
    anchor, value = inputs.anchor, inputs.value
    if backend == "reference":
        weights = reference.oscillator_attention_weights(
            x, anchor, readout_power=power, readout_gain=gain, mask=seen.dense(x.device)
        )
        return weights @ value
    if power == 1 and seen.attn_mask is None and inputs.positive:
        return prefix_readout(x, anchor, value, gain=gain, visibility=seen)
    g = gain[:, None, None] if isinstance(gain, Tensor) else gain
    if backend == "triton":
        from syncattn.kernels import oscillator_attention_triton as triton

        narrow = value.to(inputs.half or value.dtype)
        return triton.oscillator_readout(
            g * x, anchor, narrow, readout_power=power, visibility=seen
        )
    return kernels.oscillator_readout(g * x, anchor, value, readout_power=power, visibility=seen)


def _drive(inputs: Inputs, backend: str) -> tuple[Tensor, Tensor]:
    """Returns the drive of every free oscillator and its total coupling."""
    options = inputs.options
    if backend == "triton" and isinstance(options.coupling, str):
        from syncattn.kernels import oscillator_attention_triton as triton

        query, key = (x.to(inputs.half or x.dtype) for x in (inputs.query, inputs.key))
        return triton.oscillator_drive(
            query, key, inputs.anchor, scale=inputs.scale, coupling=options.coupling,
            visibility=inputs.visibility,
        )  # fmt: skip
    if backend == "blockwise" and isinstance(options.coupling, str):
        return kernels.oscillator_drive(
            inputs.query, inputs.key, inputs.anchor, scale=inputs.scale, coupling=options.coupling,
            visibility=inputs.visibility,
        )  # fmt: skip
    return reference.drive(
        inputs.query, inputs.key, inputs.anchor, scale=inputs.scale, coupling=inputs.sigma,
        mask=inputs.visibility.dense(inputs.query.device),
    )  # fmt: skip


def _positive(total: Tensor) -> Tensor:
    # Far below any coupling, far above what would overflow in a gradient.
    return total.clamp(min=1e-20)
