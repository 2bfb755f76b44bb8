"""Training: settings, loop, checkpoints."""

from syncattn.training.checkpoint import CurvePoint, last_checkpoint
from syncattn.training.config import TrainingConfig
from syncattn.training.divergence import DivergedError
from syncattn.training.loop import evaluate, train
from syncattn.training.result import TrainingResult
from syncattn.training.setup import parameter_groups

__all__ = [
    "CurvePoint",
    "DivergedError",
    "TrainingConfig",
    "TrainingResult",
    "evaluate",
    "last_checkpoint",
    "parameter_groups",
    "train",
]
