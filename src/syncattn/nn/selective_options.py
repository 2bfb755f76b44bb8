"""Options of selective synchronization that pass through a layer, and those the paper fixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch.nn.functional import softplus

from syncattn import _validation as check
from syncattn._typing import Tensor

EMPTY_ROWS = ("zero", "nearest", "mean")


class OperatorOptions(TypedDict, total=False):
    """What a layer passes on to `syncattn.selective_synchronization`, where each is explained."""

    top_k: int | None
    smoothing: float
    edge_floor: float
    unbiased_order_parameter: bool
    empty_rows: str
    backend: str


def checked_options(options: OperatorOptions) -> dict[str, Any]:
    """Returns the options as a dictionary.

    Args:
        options: What the layer was given.

    Returns:
        Those and no others.

    Raises:
        TypeError: If a name is unknown or a value has the wrong type.
        ValueError: If a value is out of range.
    """
    given: dict[str, Any] = dict(options)
    known = OperatorOptions.__annotations__
    for name in given:
        if name not in known:
            raise TypeError(
                f"Options of selective synchronization must be among {', '.join(sorted(known))}; "
                f"got `{name}`. Remove or rename it."
            )
    for name in ("smoothing", "edge_floor"):
        if name in given:
            check.require_number(given[name], name, minimum=0.0)
    if given.get("top_k") is not None:
        check.require_integer(given["top_k"], "top_k", minimum=1)
    if "empty_rows" in given:
        check.require_choice(given["empty_rows"], "empty_rows", EMPTY_ROWS)
    return given


def require_published(**options: Any) -> None:
    """Refuses what the published form fixes.

    Args:
        **options: Each None where it was left out.

    Raises:
        ValueError: If one was given.
    """
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be left out with `variant` 'paper', which fixes it; got "
                f"{value!r}. Drop it, or use the default variant."
            )


def targets_per_head(target: float | Sequence[float], num_heads: int) -> tuple[float, ...]:
    """Returns the target of every head.

    Args:
        target: One number for all heads, or one per head.
        num_heads: Number of heads.

    Returns:
        As many numbers as heads.

    Raises:
        TypeError: If a target is not a number.
        ValueError: If there are too few or too many, or one is not strictly between 0 and 1.
    """
    try:
        targets = (target,) * num_heads if isinstance(target, int | float) else tuple(target)
    except TypeError:
        raise TypeError(
            f"`target_locked_fraction` must be a number or one per head; got {target!r}. Pass 0.3, "
            f"for example."
        ) from None
    if len(targets) != num_heads:
        raise ValueError(
            f"`target_locked_fraction` must be a number or one per head; got {len(targets)} values "
            f"and {num_heads} heads. Repeat or drop values."
        )
    for value in targets:
        check.require_number(
            value, "target_locked_fraction", minimum=0.0, maximum=1.0, exclusive=True
        )
    return targets


def positive_coupling(raw: Tensor) -> Tensor:
    """Returns a coupling above 0, also where softplus underflows.

    Args:
        raw: What is learned, any real value.

    Returns:
        Softplus of it, within 1e-10 and 1e9: there :math:`2aK^2` keeps to what the operator takes.
    """
    kind = torch.finfo(raw.dtype)
    return softplus(raw).clamp(max(1e-10, kind.tiny), min(1e9, kind.max))
