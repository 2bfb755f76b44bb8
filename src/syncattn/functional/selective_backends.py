"""Which backend computes selective synchronization, and why: the choice and its reason."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch

from syncattn._backends import Requirement, choose_backend
from syncattn._typing import Keys, Queries, Tensor
from syncattn.functional.selective_inputs import Inputs, Options, checked
from syncattn.kernels import Method, triton_requirements
from syncattn.kernels.selective_synchronization_pairs import planned_pairs

# One CPU thread, float32, value_dim 64, forward and backward: at 1024 x 1024 a fifth of the pairs
# gains a fifth of the time; below that, ordering the tokens costs more than it saves.
_SMALL = {"cpu": 1024**2}
# Not measured on accelerators, where planning also waits for the device.
_SMALL_ELSEWHERE = 8192**2

# The same measurement at 2048 and 4096: a gathered pair costs 1.3 to 4.3 times one in place, most
# under a causal mask and at 2048, so that a quarter of the pairs takes 0.3 to 1.0 of the time.
# Compressed pairs cost the same, but the backward pass compresses one side at a time: 0.9 at a
# quarter.
_CLEARLY_FEWER = 4

# Where both apply, a pair of 'pruned' costs 1.2 times one of a sorted method, and planning thrice.
_HANDICAP = {"pruned": 2}

_CANDIDATES = ("repeats", "band", "window", "pruned")

TRITON = ("triton", "triton-pruned")
"""The backends that are Triton kernels."""

_IN_TRITON = {
    "blockwise": "triton",
    "band": "triton-pruned",
    "window": "triton-pruned",
    "pruned": "triton-pruned",
}


class BackendChoice(NamedTuple):
    """A backend and why it was chosen.

    Attributes:
        backend: Its name.
        reason: One sentence.
        pairs: Pairs of tokens that each backend able to run would compute; empty where they were
            not counted.
    """

    backend: str
    reason: str
    pairs: dict[str, int]


def explain_backend(
    query_frequency: Queries,
    key_frequency: Keys,
    phase: Tensor | None = None,
    *,
    backend: str = "auto",
    **options: Any,
) -> BackendChoice:
    """Returns the backend that `selective_synchronization` would run, why, and all pair counts.

    Counting costs a sort of the tokens and a comparison of their leaves of 64.

    Args:
        query_frequency: See `selective_synchronization`.
        key_frequency: See `selective_synchronization`.
        phase: See `selective_synchronization`.
        backend: See `selective_synchronization`.
        **options: The other keywords of `selective_synchronization`.

    Returns:
        The choice.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit or values are out of range.
        BackendUnavailableError: If the backend asked for cannot run this call.
    """
    inputs = checked(query_frequency, key_frequency, phase, Options(**options))
    choice = choose(inputs, backend)
    return choice._replace(pairs=_pairs(inputs))


def choose(inputs: Inputs, backend: str) -> BackendChoice:
    """Returns the backend to run; pairs are counted only where the choice hangs on them.

    Args:
        inputs: The checked arguments.
        backend: The name asked for, or ``"auto"``.

    Raises:
        BackendUnavailableError: If the backend asked for cannot run this call.
    """
    choice = _chosen(inputs, backend)
    name = _IN_TRITON.get(choice.backend)
    if backend != "auto" or name is None or inputs.query_frequency.device.type != "cuda":
        return choice
    lacking = "; ".join(r.sentence for r in _requirements(inputs)[name] if not r.met)
    if lacking:
        return choice._replace(reason=f"{choice.reason} '{name}' cannot run without: {lacking}.")
    reason = f"{choice.reason} '{name}' computes such pairs in one kernel."
    return choice._replace(backend=name, reason=reason)


def _chosen(inputs: Inputs, backend: str) -> BackendChoice:
    """Returns the backend to run wherever the tensors are."""
    able = _requirements(inputs)
    if backend != "auto":
        choose_backend("selective_synchronization", backend, able)
        return BackendChoice(backend, f"'{backend}' was asked for by name and can run.", {})
    if not _met(able["blockwise"]):
        lacking = "; ".join(r.sentence for r in able["blockwise"] if not r.met)
        return BackendChoice("reference", f"Only the dense form runs without this: {lacking}.", {})
    visibility = inputs.visibility
    size = (visibility.num_queries, visibility.num_keys)
    if torch.compiler.is_compiling():
        return BackendChoice("blockwise", "A compiled graph cannot hang on the values.", {})
    small = _SMALL.get(inputs.query_frequency.device.type, _SMALL_ELSEWHERE)
    if size[0] * size[1] <= small:
        reason = f"{size[0]} x {size[1]} pairs are too few to be worth ordering the tokens."
        return BackendChoice("blockwise", reason, {})
    return _without_hope(inputs) or _fewest(_pairs(inputs))


def run_method(backend: str, inputs: Inputs) -> tuple[Method, int]:
    """Returns the kernel's method and the coordinate it sorts by.

    Args:
        backend: A backend other than ``"reference"``.
        inputs: The checked arguments.
    """
    if backend != "band":
        return cast("Method", backend), 0
    place = inputs.options.position_coordinate
    assert place is not None
    return "window", place % inputs.query_frequency.shape[-1]


def _requirements(inputs: Inputs) -> dict[str, tuple[Requirement, ...]]:
    options = inputs.options
    default = Requirement("`variant` is 'default'", options.variant == "default")
    one = Requirement("frequencies have 1 coordinate", inputs.key_frequency.shape[-1] == 1)
    named = Requirement("`position_coordinate` is given", options.position_coordinate is not None)
    all_keys = Requirement("no `top_k`", options.top_k is None)
    triton = triton_requirements(
        inputs.query_frequency, inputs.key_frequency, visibility=inputs.visibility
    )
    return {
        "blockwise": (default,),
        "window": (default, one),
        "band": (default, named),
        "pruned": (default,),
        "repeats": (
            default,
            Requirement("not `is_causal`", not options.is_causal),
            Requirement("no `cu_seqlens`", options.cu_seqlens is None),
            Requirement("no `attn_mask`", options.attn_mask is None),
            all_keys,
        ),
        "reference": (),
        **dict.fromkeys(TRITON, (default, all_keys, *triton)),
    }


def _met(requirements: tuple[Requirement, ...]) -> bool:
    return all(requirement.met for requirement in requirements)


def _pairs(inputs: Inputs, groups: tuple[slice, slice] | None = None) -> dict[str, int]:
    """Returns how many pairs each backend that can run computes in its forward pass.

    Args:
        inputs: The checked arguments.
        groups: The sequences and heads to count; all when None.
    """
    able = _requirements(inputs)
    part = groups or (slice(None), slice(None))
    every = inputs.order_parameter[part].numel() * inputs.visibility.num_keys
    # Which pairs meet hangs on values, and the meta device has none.
    if every == 0 or inputs.order_parameter.is_meta or not _met(able["blockwise"]):
        return {"reference": every}
    with torch.no_grad():
        query, key, inverse_threshold = (x[part] for x in inputs.scaled())
        pairs: dict[str, int] = {}
        for backend in ("blockwise", *_CANDIDATES):
            if _met(able[backend]):
                method, coordinate = run_method(backend, inputs)
                pairs[backend] = planned_pairs(
                    query, key, inverse_threshold, inputs.visibility, method, coordinate
                )
    return pairs | {"reference": every}


def _without_hope(inputs: Inputs) -> BackendChoice | None:
    """Returns 'blockwise' where a look at two heads shows that nothing else will pay.

    Ordering the tokens of all heads in vain would add a tenth to a quarter to the forward pass.
    """
    batch, heads = inputs.order_parameter.shape[:2]
    if batch * heads <= 2:
        return None
    choice = _fewest(_pairs(inputs, (slice(0, 1), slice(0, heads, max(1, heads - 1)))))
    others = [choice.pairs[name] for name in _CANDIDATES if name in choice.pairs]
    if 2 * min(others) < choice.pairs["blockwise"]:
        return None
    return BackendChoice("blockwise", f"In the first and last head: {choice.reason}", {})


def _fewest(pairs: dict[str, int]) -> BackendChoice:
    total = pairs["blockwise"]
    others = [name for name in _CANDIDATES if name in pairs]
    fewest = min(others, key=lambda name: pairs[name])
    best = min(others, key=lambda name: pairs[name] * _HANDICAP.get(name, 1))
    if pairs[best] * _CLEARLY_FEWER > total:
        best = fewest
    share = f"{pairs[best]:,} pairs, {pairs[best] / total:.1%} of what 'blockwise' computes"
    if pairs[best] * _CLEARLY_FEWER <= total:
        return BackendChoice(best, f"'{best}' is proven to need only {share}.", pairs)
    reason = f"The best other, '{best}', needs {share}; it pays below {1 / _CLEARLY_FEWER:.0%}."
    return BackendChoice("blockwise", reason, pairs)
