"""Selective synchronization of a few new tokens with all before them, in a dozen calls."""

from __future__ import annotations

from typing import Any

import torch

from syncattn import _validation as check
from syncattn._typing import Float, KeyMask, Keys, Order, Tensor, Values
from syncattn.functional.oscillators import at_least_float32

ROWS = 8
"""New tokens up to which the direct form is the fastest."""
_PLAIN: dict[str, Any] = {
    "variant": "default", "top_k": None, "smoothing": 0.0, "empty_rows": "zero", "backend": "auto",
}  # fmt: skip
_USED = {"coupling_strength", "coupling_decay", "position_coordinate", "edge_floor"}


def few_rows(
    frequency: Keys,
    value: Values,
    order_parameter: Order,
    key_mask: KeyMask | None,
    options: dict[str, Any],
) -> Float[Tensor, "batch heads queries value_dim"] | None:
    """Returns the outputs of the last tokens, or None where the operator must be called.

    One token among a thousand costs the operator more in calls than in arithmetic. Without
    gradients, and without options that change the strength, this form says the same.

    Args:
        frequency: Natural frequencies of all tokens, ``(batch, heads, keys, dim)``.
        value: Their values.
        order_parameter: Of the last tokens, which are as many as its last axis is long.
        key_mask: True where a token is real; None for all.
        options: Keywords of the operator.
    """
    new, heads = order_parameter.shape[2], frequency.shape[1]
    others = {name: given for name, given in options.items() if name not in _USED}
    couplings = [options.get(name) for name in ("coupling_strength", "coupling_decay")]
    if (
        new > ROWS
        or torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or any(name not in _PLAIN or given != _PLAIN[name] for name, given in others.items())
        or not all(isinstance(c, torch.Tensor) and c.shape == (heads,) for c in couplings)
    ):
        return None
    for name in ("coupling_strength", "coupling_decay"):
        check.require_positive(options[name], name)
    omega = at_least_float32(frequency)
    query = omega[:, :, -new:]
    if key_mask is not None:
        query = torch.where(key_mask[:, None, -new:, None], query, 0.0)
    check.require_finite(query, "frequency")
    strength, decay = (options[name].to(omega.dtype)[:, None, None] for name in
                       ("coupling_strength", "coupling_decay"))  # fmt: skip
    # The difference itself: a token is exactly 0 away from itself.
    u = (query[:, :, :, None] - omega[:, :, None]).square().sum(-1)
    threshold = (strength * order_parameter[..., None].to(omega.dtype)).square().clamp(min=1e-30)
    weights = torch.exp(-2 * decay * u).sub_(u / threshold).clamp_(min=0).sqrt_()
    seen = _seen(weights, key_mask, new)
    if seen is not None:
        weights = torch.where(seen, weights, 0.0)
    if key_mask is not None:
        # What is hidden may be NaN, and 0 times NaN is NaN.
        value = torch.where(key_mask[:, None, :, None], value, 0.0)
    total = weights.sum(-1, keepdim=True)
    out = weights @ value.to(weights.dtype) / torch.where(total > 0, total, 1.0)
    return out.to(value.dtype)


def _seen(weights: Tensor, key_mask: Tensor | None, new: int) -> Tensor | None:
    """Returns which key each of the last tokens sees, None for all."""
    keys = weights.shape[-1]
    seen = None if key_mask is None else key_mask[:, None, None, :]
    if new > 1:
        place = torch.arange(keys, device=weights.device)
        past = place <= place[-new:, None]
        seen = past if seen is None else seen & past
    return seen
