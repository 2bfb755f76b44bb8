"""What a run shows and writes as it goes: the bar, the curve, the settings."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from syncattn.training.checkpoint import CurvePoint
from syncattn.training.writing import require_name, writing

__all__ = ["Progress", "RunFiles"]


class Progress:
    """A bar on a terminal; elsewhere, a line per point of the curve; both on stderr.

    Args:
        label: Name of the run.
        steps: Steps in all.
        done: Steps done before.
        shown: False shows nothing.
        position: Row of the bar, for several at once.
    """

    def __init__(
        self, label: str, *, steps: int, done: int, shown: bool, position: int = 0
    ) -> None:
        self.label = label
        self.steps = steps
        self.shown = shown
        self._bar: tqdm[Any] = tqdm(
            desc=label,
            total=steps,
            initial=done,
            disable=None if shown else True,
            leave=True,
            position=position,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def step(self) -> None:
        """Counts a step."""
        self._bar.update()

    def point(self, point: CurvePoint) -> None:
        """Shows a point of the curve.

        Args:
            point: The point.
        """
        train, valid = point.train_bits_per_byte, point.valid_bits_per_byte
        figures = f"train {train:.3f}, valid {valid:.3f} bits/byte"
        if not self._bar.disable:
            self._bar.set_postfix_str(figures)
        elif self.shown:
            print(
                f"{self.label}: step {point.step}/{self.steps}, {figures}, {point.seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )


class RunFiles:
    """The files beside a run: `training.json`, its settings, and `metrics.jsonl`, its curve.

    Args:
        directory: Folder of the run; made if missing.

    Raises:
        ValueError: If the folder cannot be made, or its name is not UTF-8.
    """

    def __init__(self, directory: Path) -> None:
        require_name(directory)
        self.directory = directory
        self.metrics = directory / "metrics.jsonl"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"`directory` must be a folder that can be written; got {str(directory)!r}: "
                f"{error.strerror}. Choose another."
            ) from error

    def start(self, settings: dict[str, Any], curve: list[CurvePoint]) -> None:
        """Writes the settings, and the curve up to where the run starts.

        Args:
            settings: Plain values.
            curve: Points so far; whatever else a killed run wrote is dropped.
        """
        text = json.dumps(settings, indent=1, allow_nan=False)
        with writing(self.directory):
            (self.directory / "training.json").write_text(text + "\n", encoding="utf-8")
            self.metrics.write_text("".join(map(_line, curve)), encoding="utf-8")

    def add(self, point: CurvePoint) -> None:
        """Appends a point to the curve.

        Args:
            point: The point.
        """
        with writing(self.directory), self.metrics.open("a", encoding="utf-8") as stream:
            stream.write(_line(point))


def _line(point: CurvePoint) -> str:
    return json.dumps(asdict(point), allow_nan=False) + "\n"
