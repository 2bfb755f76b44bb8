"""Which implementations exist, which can run here, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Requirement(NamedTuple):
    """One condition of a backend and whether it is met.

    Attributes:
        sentence: The condition in words.
        met: Whether it holds for this call.
    """

    sentence: str
    met: bool


class BackendUnavailableError(RuntimeError):
    """A backend was asked for by name and cannot run this call.

    The message lists each requirement and whether it is met.
    """


def choose_backend(
    operator: str, backend: str, candidates: Mapping[str, tuple[Requirement, ...]]
) -> str:
    """Returns the backend to run: the one asked for, or the first that can.

    Args:
        operator: Name of the operator, for the message.
        backend: The name asked for, or ``"auto"``.
        candidates: Requirements of each backend, the preferred one first.

    Returns:
        The name of a backend whose requirements are all met.

    Raises:
        TypeError: If the backend is no name.
        ValueError: If the operator has no backend of that name.
        BackendUnavailableError: If the backend asked for cannot run this call.
    """
    if not isinstance(backend, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"`backend` of {operator} must be a name; got {type(backend).__name__}. Use 'auto' to "
            f"let it choose."
        )
    if backend == "auto":
        for name, requirements in candidates.items():
            if all(requirement.met for requirement in requirements):
                return name
    elif backend not in candidates:
        listed = ", ".join(repr(name) for name in ("auto", *candidates))
        raise ValueError(
            f"`backend` of {operator} must be one of {listed}; got {backend!r}. "
            f"Use 'auto' to let it choose."
        )
    names = candidates if backend == "auto" else (backend,)
    unmet = [name for name in names if not all(r.met for r in candidates[name])]
    if unmet:
        lines = [
            f"{name}: " + "; ".join(f"{r.sentence} ({'met' if r.met else 'NOT met'})" for r in rs)
            for name, rs in candidates.items()
            if name in unmet
        ]
        raise BackendUnavailableError(
            f"`backend` {backend!r} of {operator} cannot run this call. {' | '.join(lines)}. "
            f"Use 'auto', or change what is not met."
        )
    return backend
