"""Options of oscillator attention that pass through a layer, and what the published form fixes."""

from __future__ import annotations

from typing import Any, TypedDict

from syncattn import _validation as check

PUBLISHED: dict[str, Any] = {
    "bias": True,
    "rotary_base": None,
    "readout_gain": None,
    "coupling_bias": None,
    "row_gain": False,
}
"""What the published code does and no ablation of its authors varies, by keyword of the layer."""
DEFAULT: dict[str, Any] = {
    "bias": None,
    "rotary_base": 10_000.0,
    "readout_gain": 1.0,
    "coupling_bias": "auto",
    "row_gain": False,
}
"""The same keywords where they are left out."""


class OperatorOptions(TypedDict, total=False):
    """What a layer passes on to `syncattn.oscillator_attention`, where each is explained."""

    row_gain: bool
    legacy_padding: bool
    backend: str


def checked_options(options: OperatorOptions) -> dict[str, Any]:
    """Returns the options as a dictionary.

    Args:
        options: What the layer was given.

    Returns:
        Those and no others.

    Raises:
        TypeError: If a name is unknown or a value has the wrong type.
    """
    given: dict[str, Any] = dict(options)
    known = OperatorOptions.__annotations__
    for name, value in given.items():
        if name not in known:
            raise TypeError(
                f"Options of oscillator attention must be among {', '.join(sorted(known))}; got "
                f"`{name}`. Remove or rename it."
            )
        if name != "backend" and not isinstance(value, bool):
            raise TypeError(f"`{name}` must be True or False; got {value!r}. Pass a boolean.")
    return given


def initial_bias(bias: float | str | None, coupling: object) -> float | None:
    """Returns the initial bias of the scores.

    Args:
        bias: A number, None, or ``"auto"``.
        coupling: Name of the coupling, or a function.

    Returns:
        The number; None for no bias.

    Raises:
        TypeError: If `bias` is neither a number nor a text.
        ValueError: If it is another text, or not finite.
    """
    if isinstance(bias, str):
        check.require_choice(bias, "coupling_bias", ("auto",))
        # Both are exponential to a few percent there; relu would be dead.  theory: OA-16
        return -4.0 if coupling in {"softplus", "elu"} else None
    if bias is not None:
        check.require_number(bias, "coupling_bias")
    return bias


def published(**given: Any) -> dict[str, Any]:
    """Returns what the published form fixes, in place of what was left out.

    Args:
        **given: The keywords of the layer that it fixes.

    Returns:
        The same keywords with the published values.

    Raises:
        ValueError: If one was given another value.
    """
    for name, value in given.items():
        # By type first: a list has no hash, and a tensor no single answer.
        known = (DEFAULT[name], PUBLISHED[name])
        if not any(type(value) in {type(x), int} and value == x for x in known):
            raise ValueError(
                f"`{name}` must be left out with `variant` 'paper', which fixes it to "
                f"{PUBLISHED[name]!r}; got {value!r}. Drop it, or use the default variant."
            )
    return {name: PUBLISHED[name] for name in given}
