"""Named grids: smoke, laptop and full."""

from __future__ import annotations

from collections.abc import Sequence

from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.controls import CONTROLS
from syncattn.benchmarks.grid_settings import Entry
from syncattn.benchmarks.tasks import SCALES, TASKS, task_named

__all__ = ["CONTROLLED", "LAPTOP_ARMS", "LAPTOP_TASKS", "entries_of", "preset_entries"]

LAPTOP_ARMS = ("softmax", "selective", "oscillator-2", "oscillator", "kuramoto", "frustrated")
LAPTOP_TASKS = (
    "keywords", "keywords-sinusoidal", "keywords-learned", "agreement-v1", "agreement-v2",
    "agreement-natural", "copy", "enwik8-char", "code-char", "tinystories",
)  # fmt: skip
CONTROLLED = ("copy", "keywords", "enwik8-char")
"""Tasks of the laptop preset that run every control, with three seeds."""


def entries_of(
    tasks: Sequence[str],
    arms: Sequence[str],
    controls: Sequence[str],
    seeds: Sequence[int] | None,
    *,
    scale: str,
) -> list[Entry]:
    """Returns a grid of tasks, arms and controls at a scale.

    Args:
        tasks: Names of tasks.
        arms: Names of arms.
        controls: Names of controls.
        seeds: Seeds; as many as the recipe says when None, three of them for controls.
        scale: Name of the scale.

    Returns:
        One entry per task for the arms themselves, and one for their controls.

    Raises:
        ValueError: If a task or the scale is unknown.
    """
    if scale not in SCALES:
        raise ValueError(f"`scale` must be one of {', '.join(SCALES)}; got {scale!r}. Choose one.")
    found: list[Entry] = []
    for name in tasks:
        recipe = task_named(name).recipes[scale]
        own = tuple(range(recipe.seeds) if seeds is None else seeds)
        plain = tuple(control for control in controls if control == "none")
        others = tuple(control for control in controls if control != "none")
        if plain:
            found.append(Entry(name, tuple(arms), plain, own, recipe))
        if others:
            few = own[:3] if seeds is None else own
            found.append(Entry(name, tuple(arms), others, few, recipe))
    return found


def preset_entries(name: str) -> list[Entry]:
    """Returns the grid of a preset.

    Args:
        name: ``"smoke"`` (every task and arm once, minutes), ``"laptop"`` (ten tasks, six arms,
            controls on three of them, about 100 minutes on two cores) or ``"full"`` (everything,
            for a cluster or a GPU).

    Returns:
        Its entries.

    Raises:
        ValueError: If there is no such preset.
    """
    if name not in SCALES:
        raise ValueError(f"`preset` must be one of {', '.join(SCALES)}; got {name!r}. Choose one.")
    task_named("copy")
    if name == "smoke":
        return entries_of(list(TASKS), list(ARMS), ["none"], None, scale=name)
    if name == "full":
        return entries_of(list(TASKS), list(ARMS), list(CONTROLS), None, scale=name)
    controls = [control for control in CONTROLS if control != "none"]
    return [
        *entries_of(LAPTOP_TASKS, LAPTOP_ARMS, ["none"], None, scale=name),
        *entries_of(CONTROLLED, LAPTOP_ARMS, controls, None, scale=name),
    ]
