"""What a training came to: its curve, its scores and its cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from syncattn.training.checkpoint import CurvePoint

__all__ = ["TrainingResult"]


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    Attributes:
        label: Name of the run.
        curve: Points from the first evaluation to the last step.
        weights_step: Step of the point whose weights the model has now: the last or the best.
        valid_bits_per_byte: Of that point.
        test_bits_per_byte: On the test split, read once, with those weights.
        num_tokens: Bytes predicted in training.
        seconds: Spent in training steps, without evaluation and checkpoints, over all resumptions.
        tokens_per_second: Their quotient; infinite where the clock stood still.
        peak_memory_bytes: See `PeakMemory`: what it counts depends on the device.
        num_parameters: Parameters of the model, frozen ones included, shared ones once.
        seed: Seed of the run.
        device: Where it ran.
        checkpoint: Newest checkpoint, with the best weights in `best/` where they were kept; None
            if none was wanted.
    """

    label: str
    curve: list[CurvePoint]
    weights_step: int
    valid_bits_per_byte: float
    test_bits_per_byte: float
    num_tokens: int
    seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    num_parameters: int
    seed: int
    device: str
    checkpoint: Path | None

    def as_dict(self) -> dict[str, Any]:
        """Returns the result as plain values that JSON can hold."""
        checkpoint = None if self.checkpoint is None else str(self.checkpoint)
        return asdict(self) | {"checkpoint": checkpoint}
