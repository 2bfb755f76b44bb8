"""Where a curve goes beside its file: TensorBoard or trackio, when installed."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import tracking

from syncattn.training.checkpoint import CurvePoint

__all__ = ["Tracker", "require_tracker", "start_tracker"]


class Tracker:
    """One of Accelerate's trackers, fed with points of a curve, and ended with its block.

    Args:
        tracker: A `GeneralTracker` of Accelerate, started; None tells nobody.
    """

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tracker is not None:
            self._tracker.finish()

    def add(self, point: CurvePoint) -> None:
        """Sends a point of the curve.

        Args:
            point: The point.
        """
        if self._tracker is not None:
            values = {k: v for k, v in asdict(point).items() if k != "step"}
            self._tracker.log(values, step=point.step)


def start_tracker(name: str, directory: Path, label: str, settings: dict[str, Any]) -> Tracker:
    """Returns a started tracker.

    Args:
        name: ``"tensorboard"`` (files below `directory`), ``"trackio"`` (project `syncattn`) or
            ``"none"``.
        directory: Folder of the run.
        label: Name of the run.
        settings: Plain values to show beside it; those that are None are left out.

    Raises:
        ImportError: If the package is not installed.
    """
    if name == "none":
        return Tracker(None)
    require_tracker(name)
    tracker: Any
    if name == "tensorboard":
        tracker = tracking.TensorBoardTracker(run_name=label, logging_dir=directory)
    else:
        tracker = tracking.TrackioTracker(run_name="syncattn", name=label)
    tracker.start()
    tracker.store_init_configuration({k: v for k, v in settings.items() if v is not None})
    return Tracker(tracker)


def require_tracker(name: str) -> None:
    """Refuses a tracker that is not installed.

    Args:
        name: See `start_tracker`.

    Raises:
        ImportError: If the package is not installed.
    """
    if name != "none" and find_spec(name) is None:
        raise ImportError(
            f"`tracker` {name!r} must be installed; it is not. Run `pip install {name}`, or leave "
            "it out: the curve is in metrics.jsonl anyway."
        )
