r"""What a linear map reads of phases: sines with learned offsets, or cosines and sines."""

from __future__ import annotations

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.nn.decay import without_decay

PHASE_FEATURES = ("sine", "cosine-sine")


def cosine_sine(phase: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch twice"]:
    r"""Returns the features :math:`[\cos\theta, \sin\theta]`: all cosines, then all sines.

    Args:
        phase: Radians, any real value.

    Returns:
        ``(*batch, 2 * width)``.
    """
    return torch.cat([phase.cos(), phase.sin()], -1)


class PhaseFeatures(nn.Module):
    r"""Features of phases that whole turns leave as they are.

    ``"sine"`` is :math:`\sin(\theta_d + \beta_d)` with a learned offset :math:`\beta_d` per
    coordinate; ``"cosine-sine"`` is :math:`[\cos\theta, \sin\theta]`. Phases that lie around one
    angle have cosines that hardly vary: a constant that a linear map must first learn to ignore,
    with half of its weights. Theory: FS-11.

    Args:
        hidden_size: Number of phases of a token.
        features: One of the two.

    Raises:
        TypeError: If `hidden_size` is not an integer.
        ValueError: If it is smaller than 1, or `features` is unknown.
    """

    def __init__(self, hidden_size: int, features: str = "sine") -> None:
        super().__init__()
        check.require_integer(hidden_size, "hidden_size", minimum=1)
        check.require_choice(features, "features", PHASE_FEATURES)
        is_sine = features == "sine"
        self.size = hidden_size if is_sine else 2 * hidden_size
        self.offset = nn.Parameter(torch.empty(hidden_size)) if is_sine else None
        without_decay(self, "offset")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts with offsets of 0."""
        if self.offset is not None:
            nn.init.zeros_(self.offset)

    def forward(self, phase: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch _"]:
        """Returns the features.

        Args:
            phase: Radians, any real value.

        Returns:
            ``(*batch, size)``.
        """
        if self.offset is None:
            return cosine_sine(phase)
        return (phase + self.offset).sin()
