"""The settings of a training run; the sentence under each field is the command's help."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["TrainingConfig"]

_OPTIONAL = ("warmup_steps", "gradient_clip", "test_tokens", "patience")
CHOICES = {
    "mixed_precision": ("no", "bf16"),
    "schedule": ("cosine", "linear", "constant"),
    "sharding": ("none", "full"),
    "tracker": ("none", "tensorboard", "trackio"),
    "final_weights": ("auto", "best", "last"),
}
"""What a setting may be, by its name."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained: the data it sees, the optimiser, and what is written when.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If it is out of its range.
    """

    steps: int = 1000
    """Optimiser steps."""

    batch_size: int = 16
    """Windows of text in a step, over all processes and parts."""

    accumulation_steps: int = 1
    """Parts of a batch whose gradients are added up before a step; more need less memory."""

    context_length: int = 256
    """Bytes the model sees at once."""

    learning_rate: float = 1e-3
    """Highest learning rate, reached at the end of the warm-up."""

    min_learning_rate_ratio: float = 0.1
    """Learning rate of the last step, as a part of the highest."""

    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """The way there after the warm-up; a constant rate stays at the highest."""

    warmup_steps: int | None = None
    """Steps over which the learning rate rises from 0; None takes a twentieth of the steps."""

    weight_decay: float = 0.1
    """Decoupled weight decay of AdamW; matrices only, never couplings, gains, anchors or phases."""

    beta1: float = 0.9
    """Memory of AdamW's mean of the gradients."""

    beta2: float = 0.95
    """Memory of AdamW's mean of their squares."""

    gradient_clip: float | None = 1.0
    """Largest norm of the gradient, which is scaled down to it; None clips nothing."""

    evaluation_interval: int = 100
    """Steps between two points of the curve; the last step is always a point."""

    evaluation_tokens: int = 65_536
    """Bytes of the validation split predicted at each point."""

    patience: int | None = None
    """Points of the curve without a better validation figure that end the run; None never does."""

    final_weights: Literal["auto", "best", "last"] = "auto"
    """Point of the curve whose weights the model ends with; auto is the best with `patience`, else
    the last, which the schedule of the learning rate aims at."""

    test_tokens: int | None = None
    """Bytes of the test split predicted once, at the end; None takes all of it."""

    checkpoint_interval: int = 500
    """Steps between two checkpoints, the last step being one; 0 writes none."""

    seed: int = 0
    """Seed of the order of the data and of dropout."""

    mixed_precision: Literal["no", "bf16"] = "no"
    """Whether matrix products run in bfloat16; weights and optimiser stay in float32."""

    sharding: Literal["none", "full"] = "none"
    """Whether processes share weights, gradients and optimiser (FSDP) or hold them all (DDP)."""

    tracker: Literal["none", "tensorboard", "trackio"] = "none"
    """Where the curve goes too, beside `metrics.jsonl`; must be installed."""

    def __post_init__(self) -> None:
        """Checks every value, so that a mistake costs no training."""
        for name in ("steps", "batch_size", "accumulation_steps", "context_length"):
            self._require_at_least(name, 1)
        for name in ("evaluation_interval", "evaluation_tokens", "test_tokens", "patience"):
            self._require_at_least(name, 1)
        for name in ("checkpoint_interval", "seed", "warmup_steps"):
            self._require_at_least(name, 0)
        if self.warmup_steps is not None and self.warmup_steps >= self.steps:
            raise ValueError(
                f"`warmup_steps` must be smaller than `steps`; got {self.warmup_steps} and "
                f"{self.steps}. Leave it out to take a twentieth of the steps."
            )
        self._require_number("learning_rate", 0.0, math.inf, low_included=False)
        self._require_number("gradient_clip", 0.0, math.inf, low_included=False)
        self._require_number("weight_decay", 0.0, math.inf)
        self._require_number("min_learning_rate_ratio", 0.0, 1.0, high_included=True)
        self._require_number("beta1", 0.0, 1.0)
        self._require_number("beta2", 0.0, 1.0)
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(map(repr, choices))}; got {value!r}. "
                    f"Take {choices[0]!r} when in doubt."
                )

    @property
    def keeps_best(self) -> bool:
        """True when the model ends with the weights of the best point of its curve."""
        automatic = self.final_weights == "auto" and self.patience is not None
        return automatic or self.final_weights == "best"

    def learning_rate_at(self, step: int) -> float:
        """Returns the learning rate of a step: a linear rise, then the schedule to the floor.

        Args:
            step: Step from 0; the first step already learns.
        """
        warmup = self.steps // 20 if self.warmup_steps is None else self.warmup_steps
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, self.steps - 1 - warmup))
        left = {
            "cosine": (1 + math.cos(math.pi * progress)) / 2,
            "linear": 1 - progress,
            "constant": 1.0,
        }[self.schedule]
        floor = self.min_learning_rate_ratio
        return self.learning_rate * (floor + (1 - floor) * left)

    def as_dict(self) -> dict[str, Any]:
        """Returns the settings as plain values that JSON can hold."""
        return asdict(self)

    def _require_at_least(self, name: str, least: int) -> None:
        value: object = getattr(self, name)
        if value is None and name in _OPTIONAL:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"`{name}` must be an integer; got {value!r}. Give a whole number.")
        if value < least:
            raise ValueError(
                f"`{name}` must be at least {least}; got {value}. Give a larger number."
            )

    def _require_number(
        self,
        name: str,
        low: float,
        high: float,
        *,
        low_included: bool = True,
        high_included: bool = False,
    ) -> None:
        value: object = getattr(self, name)
        if value is None and name in _OPTIONAL:
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"`{name}` must be a number; got {value!r}. Give a decimal number.")
        above = value >= low if low_included else value > low
        below = value <= high if high_included else value < high
        if not (above and below):
            interval = (
                f"{'[' if low_included else '('}{low:g}, {high:g}{']' if high_included else ')'}"
            )
            raise ValueError(
                f"`{name}` must be a finite number in {interval}; got {value}. "
                "Give a number inside the interval."
            )
