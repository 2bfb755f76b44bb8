"""Attention whose weights are given by a rule: itself alone, the mean, or drawn once."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Bool, Float, Tensor
from syncattn.data.seeds import named_generator
from syncattn.nn import (
    FrustratedSynchronization,
    KuramotoAttention,
    OscillatorAttention,
    SelectiveSynchronization,
    SoftmaxAttention,
)
from syncattn.nn.heads import merge_heads, split_heads
from syncattn.nn.phase_coupling import PhaseCoupling
from syncattn.nn.synchrony import Synchrony

__all__ = ["MixedBy", "Rule", "Silent", "fixed_rule", "identity_rule", "mean_rule"]


WITH_VALUES = (SoftmaxAttention, SelectiveSynchronization, OscillatorAttention)
"""Modules whose values and output projection stay; of others the stream itself is mixed."""


class Rule(nn.Module):
    """Weights from what is visible alone.

    Args:
        scores: Positive numbers ``(heads, length, length)`` that visible pairs get, before rows
            are made to sum to 1; 1 everywhere when None.
        is_identity: Whether each token sees itself alone, whatever is visible.
    """

    def __init__(self, scores: Tensor | None = None, *, is_identity: bool = False) -> None:
        super().__init__()
        self.is_identity = is_identity
        self.register_buffer("scores", scores, persistent=False)

    def forward(
        self, visible: Bool[Tensor, "#batch #heads queries keys"]
    ) -> Float[Tensor, "#batch #heads queries keys"]:
        """Returns rows that sum to 1, or to 0 where nothing is visible.

        Args:
            visible: True where a query sees a key.
        """
        length = visible.shape[-1]
        if self.is_identity:
            return torch.eye(length, device=visible.device)[None, None]
        drawn: Tensor | None = self.scores  # pyright: ignore[reportAssignmentType]
        scores = torch.ones((), device=visible.device)
        if drawn is not None:
            scores = drawn[:, :length, :length]
        weights = torch.where(visible, scores, 0.0)
        return weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def identity_rule() -> Rule:
    """Returns the rule by which each token sees itself alone."""
    return Rule(is_identity=True)


def mean_rule() -> Rule:
    """Returns the rule by which all visible tokens weigh alike."""
    return Rule()


def fixed_rule(heads: int, length: int, *, layer: int, density: float | None) -> Rule:
    """Returns a rule with weights drawn once, which depend on places alone and never learn.

    Args:
        heads: Number of heads.
        length: Longest sequence.
        layer: Number of the layer, so that layers differ.
        density: Share of the pairs of different tokens that get a weight, each token with itself
            besides; None for all pairs.

    Returns:
        The rule.
    """
    draw = named_generator("random control", layer)
    scores = torch.empty(heads, length, length).exponential_(generator=draw)
    if density is not None:
        kept = torch.rand(heads, length, length, generator=draw) < density
        scores = torch.where(kept | torch.eye(length, dtype=torch.bool), scores, 0.0)
    return Rule(scores)


class MixedBy(nn.Module):
    """The value path of a mechanism under the weights of a rule; nothing else of it is used.

    Args:
        attention: The mechanism, whose values, kernel and output projection stay.
        rule: The weights.
    """

    def __init__(self, attention: nn.Module, rule: nn.Module) -> None:
        super().__init__()
        self.attention = attention
        self.rule = rule

    def forward(
        self, hidden_states: Float[Tensor, "batch length width"], **visibility: Any
    ) -> Float[Tensor, "batch length width"]:
        """Returns the mixed stream.

        Args:
            hidden_states: ``(batch, length, width)``.
            **visibility: `is_causal` and `key_mask` as in the operators.
        """
        weights = self.rule(self._visible(hidden_states, visibility))
        if isinstance(self.attention, PhaseCoupling):
            return self._pulled(hidden_states, weights, visibility)
        attention: Any = self.attention
        if not isinstance(attention, WITH_VALUES):
            return (weights.mean(1) @ hidden_states).expand_as(hidden_states)
        value = split_heads(attention.v_proj(hidden_states), attention.num_heads)
        return attention.o_proj(merge_heads(weights @ value))

    def synchrony(
        self, hidden_states: Float[Tensor, "batch length width"], **visibility: Any
    ) -> Synchrony:
        """Returns the weights of the rule.

        Args:
            hidden_states: See `forward`.
            **visibility: See `forward`.
        """
        weights = self.rule(self._visible(hidden_states, visibility))
        heads = getattr(self.attention, "num_heads", 1)
        return Synchrony(weights.expand(len(hidden_states), heads, -1, -1))

    def _visible(
        self, x: Tensor, visibility: dict[str, Any], *, with_self: bool = False
    ) -> Bool[Tensor, "#batch #heads queries keys"]:
        exclude = bool(getattr(self.attention, "exclude_self", False)) and not with_self
        flat = x[:, None]
        seen = check.require_visibility(flat, flat, exclude_self=exclude, **visibility)
        mask = seen.dense(x.device)
        if mask is None:
            mask = torch.ones(1, 1, x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
        return mask

    def _pulled(self, phase: Tensor, weights: Tensor, visibility: dict[str, Any]) -> Tensor:
        """Returns the increments of the phases, theory: KA-3 and FS-3 with other weights."""
        attention: Any = self.attention
        theta = split_heads(phase, attention.num_heads)
        amplitude, angle = _kernel(attention)
        reach = self._visible(phase, visibility, with_self=True)
        total = torch.zeros_like(theta)
        alone = bool(getattr(self.rule, "is_identity", False))
        for s in range(amplitude.shape[1]):
            if s >= theta.shape[2]:
                break
            rows = weights[..., : theta.shape[2] - s]
            rows = torch.where(reach[..., s:], rows, 0.0)
            for m in range(amplitude.shape[2]):
                a, alpha = (part[:, s, m][:, None] for part in (amplitude, angle))
                if alone:
                    # Each token is its own neighbour and its own successor: no difference is left.
                    total = total + a * alpha.sin()
                    continue
                turned = (m + 1) * theta
                cos, sin = (rows @ f(turned)[..., s:, :] for f in (torch.cos, torch.sin))
                in_phase = cos * turned.cos() + sin * turned.sin()
                ahead = sin * turned.cos() - cos * turned.sin()
                total = total + a * (ahead * alpha.cos() + in_phase * alpha.sin())
        return merge_heads(total)


def _kernel(attention: PhaseCoupling) -> tuple[Tensor, Tensor]:
    """Returns amplitude and frustration, ``(heads, delays, harmonics, dim | 1)``."""
    if isinstance(attention, FrustratedSynchronization):
        kernel = attention.coupling_kernel
        return kernel.signed_amplitude, kernel.frustration
    assert isinstance(attention, KuramotoAttention)
    amplitude = attention.step_size[:, :, None]
    return amplitude, torch.zeros_like(amplitude)


class Silent(nn.Module):
    """Adds nothing to the stream; keeps the module it stands for, so that nothing is lost.

    Args:
        attention: The module.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(
        self, hidden_states: Float[Tensor, "batch length width"], **_: Any
    ) -> Float[Tensor, "batch length width"]:
        """Returns zeros.

        Args:
            hidden_states: ``(batch, length, width)``.
            **_: The visibility, which does not matter.
        """
        return torch.zeros_like(hidden_states)
