"""The mechanisms under test, each matched to the same number of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from syncattn import _validation as check
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM

__all__ = [
    "ARMS",
    "Arm",
    "count_parameters",
    "matched_config",
    "matched_width",
    "register_arm",
]

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
        phase_features: As in `SyncAttnConfig`.
        options: `attention_options` of the configuration.
        without_position: Options that take its own position away, for tasks that add one.
        dynamics: Beginnings of the names of the parameters, inside its attention, that say who
            attends to whom; what carries the values is not among them. Everything when empty.
        attention: Makes the mixing of a third party from the width and the number of heads: any
            module from ``(batch, length, width)`` to the same. It takes the place of the
            mechanism's, whose block it lives in, and gets `is_causal` and `key_mask` if it names
            them.
        flops_per_pair: Floating-point operations of one head for one pair of tokens, from the
            width of a head; None counts linear layers alone.
    """

    mechanism: str
    legend: str
    learning_rate: float
    feedforward: str = "swiglu"
    phase_features: str = "sine"
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    without_position: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    dynamics: tuple[str, ...] = ()
    attention: Callable[[int, int], nn.Module] | None = None
    flops_per_pair: Callable[[int], float] | None = None


_TORUS_LEGEND = (
    "R is the coherence of the phases a token attends to (1: they all agree); a pair is locked "
    "when its phases agree to within 30 degrees, measured by their mean cosine."
)
_GATES = ("query_gate_proj", "key_gate_proj", "raw_gate", "sink_logit")
_NO_ROTATION: dict[str, Any] = {"rotary_base": None}
# A table of anchors is how the published layer knows places, whatever the stream brings along.
_NO_RELATIVE_PLACE: dict[str, Any] = {"rotary_base": None, "anchors": "ball"}
_OSCILLATOR = Arm(
    "oscillator",
    "R tells how well the anchors that pull at a token's oscillator agree (1: all pull one "
    "way); a pair is locked when the settled oscillator lies within a quarter turn of the "
    "anchor.",
    learning_rate=3e-3,
    without_position=_NO_RELATIVE_PLACE,
    dynamics=("q_proj", "k_proj", "anchors", "readout_gain", "coupling_bias"),
    # Coupling, drive of 8 dimensions, read-out of 8, values.
    flops_per_pair=lambda width: 2 * width + 2 * 8 + 2 * 8 + 2 * width,
)
_FRUSTRATED = Arm(
    "frustrated",
    _TORUS_LEGEND,
    learning_rate=1e-2,
    without_position={"drift_base": None},
    dynamics=(*_GATES, "coupling_kernel"),
    flops_per_pair=lambda width: 2 * 2 * width + 2 * 4 * width,
)
ARMS: dict[str, Arm] = {
    "softmax": Arm(
        "softmax",
        "Softmax has no oscillators, so there is no R and nothing locks: every visible weight is "
        "above 0.",
        learning_rate=3e-3,
        without_position=_NO_ROTATION,
        dynamics=("q_proj", "k_proj"),
        flops_per_pair=lambda width: 4 * width,
    ),
    "selective": Arm(
        "selective",
        "R is the coherence of the phases a token sees (1: they all agree); a pair is locked when "
        "its natural frequencies are near enough, and every other weight is exactly 0.",
        learning_rate=5e-3,
        without_position={"position": None},
        dynamics=("frequency_proj", "phase_proj", "raw_coupling", "frequency_position"),
        flops_per_pair=lambda width: 2 * 9 + 2 * width,
    ),
    "oscillator": _OSCILLATOR,
    "oscillator-2": replace(
        _OSCILLATOR,
        options={"oscillator_dim": 2},
        flops_per_pair=lambda width: 2 * width + 2 * 2 + 2 * 2 + 2 * width,
    ),
    "kuramoto": Arm(
        "kuramoto",
        _TORUS_LEGEND,
        learning_rate=1e-2,
        without_position={"drift_base": None},
        dynamics=(*_GATES, "step_size"),
        flops_per_pair=lambda width: 2 * 2 * width + 2 * 2 * width,
    ),
    "frustrated": _FRUSTRATED,
    "frustrated-meanfield": replace(_FRUSTRATED, feedforward="mean-field"),
}
"""Every arm by name; softmax is what the others are compared with."""


def register_arm(name: str, arm: Arm) -> None:
    """Adds an arm under a name of its own.

    Args:
        name: The name in tables and commands.
        arm: The arm.

    Raises:
        ValueError: If the name is taken by another arm.
    """
    if ARMS.get(name, arm) != arm:
        raise ValueError(
            f"`name` must be new; got {name!r}, which is another arm. Choose another name."
        )
    ARMS[name] = arm


def count_parameters(config: SyncAttnConfig) -> int:
    """Returns the number of parameters of a model without allocating it.

    Args:
        config: The configuration.

    Returns:
        The count, shared parameters once.

    Raises:
        TypeError: If it is no configuration.
    """
    check.require_instance(config, "config", SyncAttnConfig, "Build one first.")
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
        TypeError: If `arm` is no arm, or a size not an integer.
        ValueError: If no width of the feed-forward comes that near.
    """
    check.require_instance(arm, "arm", Arm, "Take one of `ARMS`, or build one.")

    def config(intermediate_size: int) -> SyncAttnConfig:
        return SyncAttnConfig(
            mechanism=arm.mechanism,
            hidden_size=hidden_size,
            num_hidden_layers=num_hidden_layers,
            num_attention_heads=num_attention_heads,
            intermediate_size=intermediate_size,
            max_position_embeddings=context_length,
            feedforward=arm.feedforward,
            phase_features=arm.phase_features,
            attention_options=dict(arm.options),
        )

    width = matched_width(lambda size: count_parameters(config(size)), parameters)
    found = config(width)
    count = count_parameters(found)
    if abs(count - parameters) > TOLERANCE * parameters:
        raise ValueError(
            f"`parameters` must be a count that {arm.mechanism} can come within {TOLERANCE:.0%} "
            f"of; got {parameters:,}, and the nearest is {count:,}. Ask for more parameters, fewer "
            f"layers or a smaller `hidden_size`."
        )
    return found


def matched_width(count: Callable[[int], int], parameters: int) -> int:
    """Returns the width of the feed-forward that comes nearest to a number of parameters.

    Args:
        count: Parameters of a model by width, growing by the same number at every step.
        parameters: The number to reach.

    Returns:
        A width of 1 at least.

    Raises:
        TypeError: If `count` is no function, or `parameters` not an integer.
        ValueError: If `parameters` is smaller than 1.
    """
    if not callable(count):
        raise TypeError(
            f"`count` must be a function of the width; got {type(count).__name__}. Pass one."
        )
    check.require_integer(parameters, "parameters", minimum=1)
    smallest, next_larger = count(1), count(2)
    return 1 + max(0, round((parameters - smallest) / (next_larger - smallest)))
