"""What a grid is asked for: its entries, and how it is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from syncattn import _validation as check
from syncattn.benchmarks.tasks import Recipe
from syncattn.data.sources import Lookup

__all__ = ["Entry", "Settings"]


@dataclass(frozen=True)
class Entry:
    """Some arms and controls on one task.

    Attributes:
        task: Name of the task.
        arms: Names of the arms.
        controls: Names of the controls, ``"none"`` for the arm itself.
        seeds: Seeds of every cell.
        recipe: What all share.

    Raises:
        ValueError: If a seed or a number of the recipe is out of its range.
    """

    task: str
    arms: tuple[str, ...]
    controls: tuple[str, ...]
    seeds: tuple[int, ...]
    recipe: Recipe

    def __post_init__(self) -> None:
        """Checks every number, so that a mistake is no failed run."""
        for seed in self.seeds:
            check.require_integer(seed, "seeds", minimum=0)
        rates = self.recipe.rates
        for rate in rates:
            for is_trial in {False, len(rates) > 1}:
                self.recipe.training(seed=0, learning_rate=rate, is_trial=is_trial)


@dataclass(frozen=True)
class Settings:
    """How a grid is run.

    Attributes:
        output: Folder of `records.jsonl` and `trials.jsonl`.
        lookup: Where data is looked for.
        scale: Name of the scale, for the records.
        workers: Cells at a time.
        ray: Address of a Ray cluster; None for this machine.
        device: Where cells run.
        compiled: See `Cell`.
        minutes: After so many, no run is begun; None for no limit.
        plugins: See `Cell`.
        retry_failed: Whether runs that failed before are run again.

    Raises:
        ValueError: If a number is out of its range, or the device is not here.
    """

    output: Path
    lookup: Lookup
    scale: str
    workers: int = 1
    ray: str | None = None
    device: str = "cpu"
    compiled: bool = True
    minutes: float | None = None
    plugins: tuple[str, ...] = ()
    retry_failed: bool = False

    def __post_init__(self) -> None:
        """Checks numbers and the device, so that a mistake is no failed run."""
        check.require_integer(self.workers, "workers", minimum=1)
        if self.minutes is not None:
            check.require_number(self.minutes, "minutes", minimum=0.0, exclusive=True)
        # Workers of a cluster may have what this machine has not.
        if not _is_device(self.device, anywhere=self.ray is not None):
            raise ValueError(
                f"`device` must be one that PyTorch can use here, such as cpu or cuda; got "
                f"{self.device!r}. Choose another, or install what it needs."
            )


def _is_device(name: str, *, anywhere: bool) -> bool:
    """Tells whether PyTorch knows a device, and has it unless it may be anywhere."""
    try:
        device = torch.device(name)
    except RuntimeError:
        return False
    if anywhere or device.type == "cpu":
        return True
    here = torch.accelerator.current_accelerator(check_available=True)
    there = here is not None and here.type == device.type
    return there and (device.index or 0) < torch.accelerator.device_count()
