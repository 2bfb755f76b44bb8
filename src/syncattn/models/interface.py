"""Selective synchronization in Transformers' own attention interface, with its mask function."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from syncattn._typing import Tensor
from syncattn.functional import selective_synchronization
from syncattn.models.foreign import masks
from syncattn.nn.calibration import frequency_std, squared_cutoff
from syncattn.nn.selective_synchronization import PAPER_COUPLING

NAME = "selective_synchronization"
"""What to pass as `attn_implementation`."""
LOCKED_FRACTION = 0.3
"""Share of pairs that lock when queries and keys are independent, of unit variance."""
REFUSED = {
    "oscillator_attention": "its anchors, one learned per place",
    "kuramoto_attention": "phases; it has no values",
    "frustrated_synchronization": "phases and a learned kernel; it has no values",
}
"""Operators that the interface cannot carry, and what they need beside query, key and value."""


def register_attention() -> str:
    """Registers selective synchronization, and its masks, with Transformers.

    The interface hands over queries, keys and values of any network whose class dispatches its
    attention, with positions already in them. Of the operators of this package it can carry
    selective synchronization alone, with queries and keys as the frequencies, no phases (so that
    :math:`R = 1`), published couplings that are not learned, and the nearest value where nothing
    locks. For the whole mechanism, with phases, learned couplings and caches of its own, use
    `convert`. Oscillator attention would need its anchors, the torus models phases.

    Without a mask function of the same name Transformers would pass no mask at all, and causality
    would silently be gone; both are registered here.

    Returns:
        The name to pass as `attn_implementation`.
    """
    AttentionInterface.register(NAME, selective_attention_forward)
    AttentionMaskInterface.register(NAME, selective_attention_mask)
    return NAME


def selective_attention_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Returns the boolean mask of rank 4 that `selective_attention_forward` takes.

    Args:
        *args: As for `transformers.masking_utils.sdpa_mask`.
        **kwargs: As for the same.

    Returns:
        True where attention is allowed; never None, which would leave causality to a guess.
    """
    skip = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    return sdpa_mask(*args, **(kwargs | skip))


def selective_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Returns the mean of the values over the keys that lock, as Transformers calls it.

    Args:
        module: The attention that calls; its `is_causal` holds where no mask is given.
        query: ``(batch, heads, queries, dim)``.
        key: ``(batch, key heads, keys, dim)``; repeated when there are fewer than query heads.
        value: ``(batch, key heads, keys, value_dim)``.
        attention_mask: As `selective_attention_mask` returns it, or None.
        dropout: Must be 0: the fast path forms no weights to thin.
        scaling: Ignored: the frequencies are scaled so that some pairs lock.
        **kwargs: `output_attentions` asks for the dense weights; `is_causal` overrides the module.

    Returns:
        ``(batch, queries, heads, value_dim)``, and None or the weights that make it, in float32:
        in a row where nothing locks 1 on the nearest key, and 0 where nothing is visible.

    Raises:
        ValueError: If `dropout` is not 0.
    """
    if dropout:
        raise ValueError(
            f"`dropout` must be 0 with attn_implementation={NAME!r}, which forms no dense weights; "
            f"got {dropout}. Set the attention dropout of the configuration to 0."
        )
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))
    override = kwargs.get("is_causal")
    is_causal = bool(getattr(module, "is_causal", True) if override is None else override)
    causal_mask = is_causal and attention_mask is None
    key_mask, attn_mask = masks(attention_mask, query.shape[2], query.shape[0], is_causal)
    if attention_mask is not None and attn_mask is None:
        causal_mask = is_causal
    scale = _frequency_scale(query.shape[-1])
    coupling = query.new_full((query.shape[1],), PAPER_COUPLING, dtype=torch.float32)
    options: dict[str, Any] = {
        "coupling_strength": coupling, "coupling_decay": coupling, "key_mask": key_mask,
        "attn_mask": attn_mask, "is_causal": causal_mask,
        "order_parameter": torch.ones(query.shape[:3], device=query.device),
    }  # fmt: skip

    def mean_of(rows: Tensor, backend: str = "auto") -> Tensor:
        return selective_synchronization(
            query * scale, key * scale, rows, empty_rows="nearest", backend=backend, **options
        )

    out = mean_of(value)
    weights = None
    if kwargs.get("output_attentions"):
        # What the operator makes of the unit vectors: an empty row has its nearest key there too.
        unit = torch.eye(key.shape[2], dtype=torch.float32, device=key.device)
        weights = mean_of(unit.expand(*key.shape[:2], -1, -1), backend="reference")
    return out.transpose(1, 2).contiguous(), weights


def _frequency_scale(dim: int) -> float:
    return frequency_std(LOCKED_FRACTION, squared_cutoff(PAPER_COUPLING, PAPER_COUPLING), dim)
