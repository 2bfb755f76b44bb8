"""The five controls: what each asks, where it makes sense, and how it changes a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from syncattn.analysis.heads import locked_share
from syncattn.benchmarks.arms import Arm
from syncattn.benchmarks.controls_weights import (
    MixedBy,
    Silent,
    fixed_rule,
    identity_rule,
    mean_rule,
)
from syncattn.benchmarks.networks import Adapter, Network
from syncattn.benchmarks.problems import Batch
from syncattn.nn import Synchrony

__all__ = [
    "CONTROLS",
    "apply_control",
    "dynamics_of",
    "locked_fractions",
    "why_not",
    "without_coupling",
]

CONTROLS: dict[str, str] = {
    "none": "the arm itself",
    "frozen": "does training the dynamics matter? what says who attends to whom keeps its initial "
    "values",
    "bypass-identity": "does the rest of the network do the task alone? each token sees itself",
    "bypass-mean": "does the rest of the network do the task alone? all visible tokens weigh alike",
    "random": "does the designed structure matter? weights drawn once, same support and row sums",
    "matched": "is it the budget? softmax with the same number of parameters, tokens and trials",
    "coupling-off": "does the coupling matter? trained without it",
    "coupling-off-at-test": "does the trained model use its coupling? trained with it, tested "
    "without",
}
"""What can be switched on, and the question behind it."""
_TORUS = ("kuramoto", "frustrated")


def why_not(arm: Arm, control: str) -> str | None:
    """Returns why a control makes no sense for an arm, or None where it does.

    Args:
        arm: The arm.
        control: A name of `CONTROLS`.

    Returns:
        The reason, a clause.

    Raises:
        ValueError: If there is no such control.
    """
    if control not in CONTROLS:
        raise ValueError(
            f"`control` must be one of {', '.join(CONTROLS)}; got {control!r}. Choose one."
        )
    softmax = arm.mechanism == "softmax" and arm.attention is None
    if control == "matched" and softmax:
        return "softmax is what the others are matched with"
    if control.startswith("coupling-off") and softmax:
        return "softmax has no oscillators to couple; bypass takes its mixing away"
    if control == "random" and arm.attention is not None:
        return "a mixing of a third party need not have weights"
    if control == "bypass-mean" and arm.mechanism in _TORUS and arm.attention is not None:
        return "the mean of increments is not defined by the arm"
    return None


def apply_control(network: Network, control: str, arm: Arm, batch: Batch) -> None:
    """Changes a fresh network so that it becomes a control; `matched` is another arm altogether.

    Args:
        network: Changed in place.
        control: A name of `CONTROLS`; those that change nothing before training are passed over.
        arm: The arm.
        batch: A training batch, on which random weights measure how many pairs lock at first.
    """
    if control == "frozen":
        for parameter in dynamics_of(network, arm):
            parameter.requires_grad_(False)
    elif control == "bypass-identity":
        _replace(network, identity_rule())
    elif control == "bypass-mean":
        _replace(network, mean_rule())
    elif control == "random":
        length = network.backbone.config.max_position_embeddings
        heads = network.backbone.config.num_attention_heads
        selective = arm.mechanism == "selective"
        density = locked_fractions(network, network.synchrony(batch), batch) if selective else None
        rules = [
            fixed_rule(heads, length, layer=i, density=None if density is None else density[i])
            for i in range(len(network.attentions))
        ]
        network.replace_attentions([
            MixedBy(a, rule) for a, rule in zip(network.attentions, rules, strict=True)
        ])
    elif control == "coupling-off":
        without_coupling(network, arm)


def without_coupling(network: Network, arm: Arm) -> None:
    """Sets the coupling term of every layer to zero, leaving the rest as it is.

    Selective synchronization without coupling locks nothing but each token with itself; oscillators
    that nothing drives read out the mean of what they see; phases that nothing pulls stay; the
    mixing of a third party adds nothing.

    Args:
        network: Changed in place; the parameters stay.
        arm: The arm.
    """
    if arm.attention is None and arm.mechanism == "selective":
        _replace(network, identity_rule())
    elif arm.attention is None and arm.mechanism == "oscillator":
        _replace(network, mean_rule())
    else:
        network.replace_attentions([Silent(attention) for attention in network.attentions])


def dynamics_of(network: Network, arm: Arm) -> list[nn.Parameter]:
    """Returns the parameters that say who attends to whom.

    Args:
        network: A network of the arm.
        arm: The arm.

    Returns:
        Those of its attentions whose names begin as `arm.dynamics` says; all of them if it is
        silent.
    """
    return [
        parameter
        for attention in network.attentions
        for name, parameter in attention.named_parameters()
        if not arm.dynamics or name.removeprefix("mixing.").startswith(arm.dynamics)
    ]


def _replace(network: Network, rule: nn.Module) -> None:
    network.replace_attentions([
        MixedBy(a.mixing if isinstance(a, Adapter) else a, rule) for a in network.attentions
    ])


def locked_fractions(
    network: Network, layers: Sequence[Synchrony], batch: Batch
) -> list[float | None]:
    """Returns the share of visible pairs of different real tokens that lock, layer by layer.

    Args:
        network: The network.
        layers: What each of its layers did with the batch.
        batch: The batch.

    Returns:
        One number per layer; None where locking has no meaning or there is no pair.
    """
    if not layers:
        return []
    length = layers[0].weights.shape[-1]
    visible = torch.ones(1, 1, length, length, dtype=torch.bool, device=layers[0].weights.device)
    if network.backbone.config.is_causal:
        visible = visible.tril()
    if batch.mask is not None:
        real = batch.mask.to(visible.device)
        visible = visible & real[:, None, :, None] & real[:, None, None, :]
    return [None if layer.locked is None else locked_share(layer.locked, visible)
            for layer in layers]  # fmt: skip
