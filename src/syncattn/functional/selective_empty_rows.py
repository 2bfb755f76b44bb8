"""What a query that locks to nothing receives: zero, the nearest value, or the mean."""

from __future__ import annotations

import torch

from syncattn import kernels
from syncattn._typing import Bool, Float, Tensor
from syncattn.functional.selective_inputs import Inputs

_PAIRS_AT_ONCE = 1 << 20


def fill_empty_rows(
    output: Float[Tensor, "batch heads queries value_dim"],
    empty: Bool[Tensor, "batch heads queries"],
    value: Float[Tensor, "batch heads keys value_dim"],
    inputs: Inputs,
) -> Float[Tensor, "batch heads queries value_dim"]:
    """Returns the output with its empty rows filled; a row that sees nothing stays 0.

    Memory is linear in the length. Gradients reach the values alone: which key is nearest does
    not change with small changes of the frequencies.

    Args:
        output: Rows of the operator.
        empty: True where nothing locked.
        value: The values, hidden ones blanked.
        inputs: The checked arguments; `empty_rows` names the policy.
    """
    policy = inputs.options.empty_rows
    if policy == "zero" or output.is_meta or 0 in value.shape or 0 in output.shape:
        return output
    # What follows must not be skipped under the compiler, which cannot hang on the values.
    if not torch.compiler.is_compiling() and not bool(empty.any()):
        return output
    fill = _means(value, inputs) if policy == "mean" else _nearest(empty, value, inputs)
    return torch.where(empty[..., None], fill.to(output.dtype), output)


def _means(value: Tensor, inputs: Inputs) -> Tensor:
    """Returns the mean of the values that each row sees."""
    visibility = inputs.visibility
    if visibility._replace(key_mask=None).everything:
        count: Tensor | int = visibility.num_keys
        if visibility.key_mask is not None:
            count = visibility.key_mask.sum(-1).clamp(min=1)[:, None, None, None]
            value = torch.where(visibility.key_mask[:, None, :, None], value, 0.0)
        wide = torch.promote_types(value.dtype, inputs.order_parameter.dtype)
        total = value.sum(2, keepdim=True, dtype=wide)
        return (total / count).expand(-1, -1, visibility.num_queries, -1)
    # Equal frequencies lock with strength 1, so that the operator itself is the mean.
    query = torch.zeros_like(inputs.query_frequency[..., :1]).detach()
    key = torch.zeros_like(inputs.key_frequency[..., :1]).detach()
    threshold = torch.zeros_like(inputs.order_parameter).detach()
    fill, _ = kernels.selective_synchronization(query, key, value, threshold, visibility=visibility)
    return fill


def _nearest(empty: Tensor, value: Tensor, inputs: Inputs) -> Tensor:
    """Returns the value of the visible key of nearest frequency, 0 in rows that see nothing."""
    index = empty.new_zeros(empty.shape, dtype=torch.long)
    sees = torch.zeros_like(empty)
    batch, heads, num_queries = empty.shape
    step = max(1, _PAIRS_AT_ONCE // inputs.visibility.num_keys)
    if torch.compiler.is_compiling():
        for part in torch.arange(num_queries, device=empty.device).split(step):
            at, some = _nearest_keys(part, inputs, slice(0, batch), slice(0, heads))
            index[:, :, part], sees[:, :, part] = at, some
    else:
        for b, h in empty.any(-1).nonzero().tolist():
            rows = empty[b, h].nonzero()[:, 0]
            for part in rows.split(step):
                at, some = _nearest_keys(part, inputs, slice(b, b + 1), slice(h, h + 1))
                index[b, h, part], sees[b, h, part] = at[0, 0], some[0, 0]
    fill = value.gather(2, index[..., None].expand(-1, -1, -1, value.shape[-1]))
    return torch.where(sees[..., None], fill, 0.0)


@torch.no_grad()
def _nearest_keys(
    rows: Tensor, inputs: Inputs, batch: slice, heads: slice
) -> tuple[Tensor, Tensor]:
    """Returns the nearest visible key of some rows and whether there is one."""
    query = inputs.query_frequency[batch, heads][:, :, rows]
    key = inputs.key_frequency[batch, heads]
    # The product form of the distance would cancel between near tokens.
    distance = torch.cdist(query, key, compute_mode="donot_use_mm_for_euclid_dist")
    everything = torch.arange(key.shape[2], device=key.device)
    mask = inputs.visibility.tile(rows, everything, batch, heads)
    if mask is not None:
        distance = distance.masked_fill(~mask, torch.inf)
    best, index = distance.min(-1)
    return index, best < torch.inf
