"""From a configuration to a block: which module each mechanism is, and its default options."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from syncattn import nn as sync_nn
from syncattn.models.configuration import SyncAttnConfig
from syncattn.nn import oscillator_options, phase_coupling, selective_options

ATTENTIONS: dict[str, type[nn.Module]] = {
    "softmax": sync_nn.SoftmaxAttention,
    "selective": sync_nn.SelectiveSynchronization,
    "oscillator": sync_nn.OscillatorAttention,
    "kuramoto": sync_nn.KuramotoAttention,
    "frustrated": sync_nn.FrustratedSynchronization,
}
DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {
    "selective": {"position": "coordinate", "frequency_gain": 0.1},
    # Table anchors and an affine read-out cannot look at one token among many.
    "oscillator": {"anchors": "rotary", "readout_power": 4, "readout_gain": 4.0},
}
"""What a language model needs and a bare layer leaves out."""
PASSED_ON: dict[str, frozenset[str]] = {
    "selective": frozenset(selective_options.OperatorOptions.__annotations__),
    "oscillator": frozenset(oscillator_options.OperatorOptions.__annotations__),
    "kuramoto": frozenset(phase_coupling.ScoreOptions.__annotations__),
    "frustrated": frozenset(phase_coupling.ScoreOptions.__annotations__),
}
"""Options that a module takes for its operator, beyond its own signature."""


def build_attention(
    mechanism: str,
    hidden_size: int,
    num_heads: int,
    *,
    max_positions: int,
    options: dict[str, Any] | None = None,
) -> nn.Module:
    """Returns the attention of a mechanism.

    Args:
        mechanism: A name of `ATTENTIONS`.
        hidden_size: Width of the stream, or number of phases.
        num_heads: Number of heads.
        max_positions: Longest sequence, for mechanisms that have a table of places.
        options: Keyword arguments of the module.

    Returns:
        The module, with the options a language model needs unless others are given.

    Raises:
        ValueError: If `options` holds a name that the module does not take, or more delays than
            there are places.
    """
    attention_type = ATTENTIONS[mechanism]
    options = dict(options or {})
    if options.get("variant") != "paper":
        options = DEFAULT_OPTIONS.get(mechanism, {}) | options
    signature = inspect.signature(attention_type).parameters
    known = {
        name
        for name, parameter in signature.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    if "max_positions" in known:
        options.setdefault("max_positions", max_positions)
    known |= PASSED_ON.get(mechanism, frozenset())
    known -= {"hidden_size", "num_heads"}
    for name in options:
        if name not in known:
            raise ValueError(
                f"`attention_options` of {mechanism!r} must be among "
                f"{', '.join(sorted(known))}; got {name!r}. Remove or rename it."
            )
    attention = attention_type(hidden_size, num_heads, **options)
    kernel = getattr(attention, "coupling_kernel", None)
    # One step is always allowed, as in the operator: a text may be a single token.
    if kernel is not None and kernel.num_delays > max(max_positions, 2):
        raise ValueError(
            f"`num_delays` must not be more than the tokens of the longest sequence; got "
            f"{kernel.num_delays} delays and {max_positions} tokens. Use fewer delays."
        )
    return attention


def build_block(config: SyncAttnConfig) -> nn.Module:
    """Returns one block of the mechanism.

    Args:
        config: The configuration.

    Returns:
        A block on the stream that the mechanism lives on.
    """
    attention = build_attention(
        config.mechanism,
        config.hidden_size,
        config.num_attention_heads,
        max_positions=config.max_position_embeddings,
        options=config.attention_options,
    )
    feedforward = _build_feedforward(config)
    block: nn.Module = sync_nn.PhaseBlock(attention, feedforward)
    if not config.on_torus:
        eps = config.rms_norm_eps
        block = sync_nn.EuclideanBlock(attention, feedforward, config.hidden_size, eps=eps)
    for name, child in block.named_modules():
        # What adds to the stream starts smaller, so that the stream keeps its size over the depth.
        child._adds_to_stream = name.endswith(("o_proj", "down_proj"))  # pyright: ignore[reportArgumentType]
    return block


def _build_feedforward(config: SyncAttnConfig) -> nn.Module | None:
    if config.feedforward == "none":
        return None
    if config.feedforward == "mean-field":
        kind = sync_nn.MeanFieldCoupling
    elif config.on_torus:
        kind = sync_nn.PhaseSwiGLU
    else:
        return sync_nn.SwiGLU(config.hidden_size, config.intermediate_size)
    return kind(config.hidden_size, config.intermediate_size, features=config.phase_features)
