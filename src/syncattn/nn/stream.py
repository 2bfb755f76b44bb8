"""What a module refuses of the stream it is given."""

from __future__ import annotations

from typing import Any

from syncattn import _validation as check
from syncattn._autocast import autocast_dtype
from syncattn._typing import Tensor

_BY_THE_OPERATOR = frozenset({"attn_mask", "is_causal"})


def require_stream(
    x: Tensor,
    width: int,
    like: Tensor | None = None,
    *,
    name: str = "hidden_states",
    key_mask: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    **others: Any,
) -> None:
    """Refuses a stream that does not fit the module, or masks that do not fit the stream.

    Args:
        x: ``(batch, length, width)``.
        width: What the module was built for.
        like: A parameter that multiplies the stream, None where nothing does.
        name: What the module calls the stream.
        key_mask: True where a token is real, ``(batch, length)``.
        cu_seqlens: Cumulative lengths of packed sequences.
        **others: `attn_mask` and `is_causal`, which the operator checks by itself.

    Raises:
        TypeError: If an argument has the wrong type or dtype, or is none that says who sees whom.
        ValueError: If shapes or devices do not fit.
    """
    for unknown in others.keys() - _BY_THE_OPERATOR:
        raise TypeError(
            f"Who sees whom must be said by `key_mask` (True where a token is real), `attn_mask`, "
            f"`cu_seqlens` and `is_causal`; got `{unknown}`. Pass it under one of these names."
        )
    check.require_tensor(x, name, "batch length width")
    if x.shape[-1] != width:
        raise ValueError(
            f"`{name}` must be as wide as the module, {width}; got shape {tuple(x.shape)}. Build "
            f"the module with that `hidden_size`, or project the stream."
        )
    if like is not None:
        check.require_together({name: x, "the module": like})
        if x.dtype != like.dtype and autocast_dtype(x) is None:
            raise TypeError(
                f"`{name}` must have the dtype of the module, {like.dtype}; got {x.dtype}. "
                f"Convert one of them with .to(), or run under torch.autocast."
            )
    # The operator looks again, and elsewhere each look waits for the device.
    if x.device.type == "cpu" and (key_mask is not None or cu_seqlens is not None):
        rows = x[:, None]
        check.require_visibility(rows, rows, key_mask=key_mask, cu_seqlens=cu_seqlens)
