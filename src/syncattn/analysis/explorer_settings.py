"""What one looks at in the explorer, read from what a page sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from syncattn import _validation as check
from syncattn.analysis.explorer_switches import Changes, Switch

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """What one looks at, counted from 0.

    Attributes:
        text: Any text; the last tokens that fit are read.
        model: Its name; the first one when None.
        layer: Which layer.
        head: Which head.
        query: The token whose row and prediction are shown; the last one when None or beyond.
        coordinate: Which coordinate of the head's phases (torus only); the most strongly coupled
            one when None.
        changes: What is changed in the model.
    """

    text: str = ""
    model: str | None = None
    layer: int = 0
    head: int = 0
    query: int | None = None
    coordinate: int | None = None
    changes: Changes = field(default_factory=Changes)

    @classmethod
    def read(cls, given: Any) -> Settings:
        """Returns the settings that a page sent.

        Args:
            given: A mapping with the names above, those of `Changes` beside them.

        Returns:
            The settings.

        Raises:
            ValueError: If a name is unknown or a value out of range.
            TypeError: If a value has the wrong type.
        """
        values = _mapping(given, "settings", cls, Changes, drop=("changes",))
        switches = values.pop("off", ())
        if not isinstance(switches, list | tuple):
            raise TypeError(
                f"`off` must be a list of switches; got {type(switches).__name__}. Pass []."
            )
        factors = {name: values.pop(name) for name in ("strength", "bandwidth") if name in values}
        for name, factor in factors.items():
            check.require_number(factor, name)
        _require_indices(values, needed=("layer", "head"), optional=("query", "coordinate"))
        for name, allowed in (("text", str), ("model", str | None)):
            if name in values and not isinstance(values[name], allowed):
                got = type(values[name]).__name__
                raise TypeError(f"`{name}` must be a text; got {got}. Quote it.")
        off = tuple(_switch(switch) for switch in switches)
        return cls(
            **values,
            changes=Changes(off, **{name: float(factor) for name, factor in factors.items()}),
        )


def _switch(given: Any) -> Switch:
    values: dict[str, Any] = {"layer": None} | _mapping(given, "switch", Switch)
    _require_indices(values, needed=("layer",), optional=("head", "harmonic", "delay"))
    return Switch(**values)


def _require_indices(
    values: Mapping[str, Any], *, needed: Sequence[str], optional: Sequence[str]
) -> None:
    for name, value in values.items():
        if name in needed or (name in optional and value is not None):
            check.require_integer(value, name, minimum=0)


def _mapping(given: Any, what: str, *known: Any, drop: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise TypeError(f"`{what}` must be a mapping; got {type(given).__name__}. Pass names.")
    names = {f.name for kind in known for f in fields(kind)} - set(drop)
    for name in given:
        check.require_choice(name, what, sorted(names))
    return dict(given)
