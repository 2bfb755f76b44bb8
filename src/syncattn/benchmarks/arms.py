"""The mechanisms under test, each matched to the same number of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch

from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM

__all__ = ["ARMS", "Arm", "count_parameters", "matched_config"]

TOLERANCE = 0.02
"""Largest relative difference in parameters between two arms of one comparison."""


@dataclass(frozen=True)
class Arm:
    """One mechanism under test.

    Attributes:
        mechanism: As in `SyncAttnConfig`.
        legend: What R and *locked* mean in a picture of its weights, one sentence.
        learning_rate: Peak learning rate that was best for it on the default comparison.
        feedforward: As in `SyncAttnConfig`.
        options: `attention_options` of the configuration.
    """

    mechanism: str
    legend: str
    learning_rate: float
    feedforward: str = "swiglu"
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


_TORUS_LEGEND = (
    "R is the coherence of the phases a token attends to (1: they all agree); a pair is locked "
    "when its phases agree to within 30 degrees, measured by their mean cosine."
)
ARMS: dict[str, Arm] = {
    "softmax": Arm(
        "softmax",
        "Softmax has no oscillators, so there is no R and nothing locks: every visible weight is "
        "above 0.",
        learning_rate=3e-3,
    ),
    "selective": Arm(
        "selective",
        "R is the coherence of the phases a token sees (1: they all agree); a pair is locked when "
        "its natural frequencies are near enough, and every other weight is exactly 0.",
        learning_rate=5e-3,
    ),
    "oscillator": Arm(
        "oscillator",
        "R tells how well the anchors that pull at a token's oscillator agree (1: all pull one "
        "way); a pair is locked when the settled oscillator lies within a quarter turn of the "
        "anchor.",
        learning_rate=3e-3,
    ),
    "kuramoto": Arm("kuramoto", _TORUS_LEGEND, learning_rate=1e-2),
    "frustrated": Arm("frustrated", _TORUS_LEGEND, learning_rate=1e-2),
    "frustrated-meanfield": Arm(
        "frustrated", _TORUS_LEGEND, learning_rate=1e-2, feedforward="mean-field"
    ),
}
"""Every arm by name; softmax is what the others are compared with."""


def count_parameters(config: SyncAttnConfig) -> int:
    """Returns the number of parameters of a model without allocating it.

    Args:
        config: The configuration.

    Returns:
        The count, shared parameters once.
    """
    with torch.device("meta"):
        model = SyncAttnForCausalLM(config)
    return sum(parameter.numel() for parameter in model.parameters())


def matched_config(
    arm: Arm,
    *,
    parameters: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    context_length: int,
) -> SyncAttnConfig:
    """Returns the configuration of an arm whose feed-forward brings it to a parameter count.

    Args:
        arm: The mechanism.
        parameters: The count to reach.
        hidden_size: Width of the stream.
        num_hidden_layers: Number of blocks.
        num_attention_heads: Number of heads.
        context_length: Longest sequence.

    Returns:
        A configuration within 2 % of the count.

    Raises:
        ValueError: If no width of the feed-forward comes that near.
    """

    def config(intermediate_size: int) -> SyncAttnConfig:
        return SyncAttnConfig(
            mechanism=arm.mechanism,
            hidden_size=hidden_size,
            num_hidden_layers=num_hidden_layers,
            num_attention_heads=num_attention_heads,
            intermediate_size=intermediate_size,
            max_position_embeddings=context_length,
            feedforward=arm.feedforward,
            attention_options=dict(arm.options),
        )

    smallest, next_larger = count_parameters(config(1)), count_parameters(config(2))
    slope = next_larger - smallest
    width = 1 + max(0, round((parameters - smallest) / slope))
    found = config(width)
    count = smallest + (width - 1) * slope
    if abs(count - parameters) > TOLERANCE * parameters:
        raise ValueError(
            f"`parameters` must be a count that {arm.mechanism} can come within {TOLERANCE:.0%} "
            f"of; got {parameters:,}, and the nearest is {count:,}. Ask for more parameters, fewer "
            f"layers or a smaller `hidden_size`."
        )
    return found
