"""The network of a task: an arm's blocks between an embedding, its places, and a head."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from syncattn._typing import Tensor
from syncattn.benchmarks.arms import Arm, matched_width
from syncattn.benchmarks.problems import Batch, Problem
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM, SyncAttnModel
from syncattn.nn import MeanFieldCoupling
from syncattn.nn.heads import HeadwiseLinear
from syncattn.nn.synchrony import Synchrony

__all__ = ["POSITIONS", "Network", "Shape", "build_network", "flops_per_token", "parameters_of"]

POSITIONS = ("own", "none", "sinusoidal", "learned")


@dataclass(frozen=True)
class Shape:
    """The size of a task's networks, the same for every arm.

    Attributes:
        hidden_size: Width of the stream.
        num_layers: Number of blocks.
        num_heads: Number of heads.
        intermediate_size: Width of softmax's feed-forward; the others' follows from its number of
            parameters.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int


class Network(nn.Module):
    """Reads a `Batch` and says what it thinks at every place, or of the whole sequence.

    Args:
        config: Of the backbone.
        num_labels: Classes of a sequence; None for a token at every place.
        positions: ``"own"`` leaves places to the arm; ``"sinusoidal"`` and ``"learned"`` add a
            table to the embedding, with its spread; ``"none"`` adds nothing.
    """

    def __init__(self, config: SyncAttnConfig, *, num_labels: int | None, positions: str) -> None:
        super().__init__()
        if num_labels is None and config.feature_size is None and config.is_causal:
            language_model = SyncAttnForCausalLM(config)
            self.backbone, self.head = language_model.model, language_model.lm_head
        else:
            self.backbone = SyncAttnModel(config)
            self.head = nn.Linear(config.readout_size, num_labels or config.vocab_size)
        if positions in {"sinusoidal", "learned"}:
            embed = self.backbone.embed_tokens
            self.backbone.embed_tokens = Placed(embed, config, learned=positions == "learned")

    def forward(self, batch: Batch) -> Tensor:
        """Returns logits ``(batch, classes)``, or ``(batch, length, tokens)``.

        Args:
            batch: What to read.
        """
        states = self.backbone(batch.inputs, attention_mask=batch.mask, use_cache=False)
        features = self.backbone.readout(states.last_hidden_state)
        if batch.target.dim() > 1:
            return self.head(features)
        if batch.place is not None:
            rows = torch.arange(len(features), device=features.device)
            return self.head(features[rows, batch.place])
        if batch.mask is None:
            return self.head(features.mean(1))
        real = batch.mask[..., None]
        return self.head((features * real).sum(1) / real.sum(1).clamp(min=1))

    @property
    def attentions(self) -> list[nn.Module]:
        """The attention of every block, first to last."""
        return [layer.attention for layer in self.backbone.layers]  # pyright: ignore[reportReturnType]

    def replace_attentions(self, new: list[nn.Module]) -> None:
        """Puts other modules in the place of the attentions.

        Args:
            new: One module per block.
        """
        for layer, attention in zip(self.backbone.layers, new, strict=True):
            layer.attention = attention

    @torch.no_grad()
    def synchrony(self, batch: Batch) -> list[Synchrony]:
        """Returns the dense picture of every layer; nothing where a module gives none.

        Args:
            batch: What to read.
        """
        if not all(hasattr(attention, "synchrony") for attention in self.attentions):
            return []
        return self.backbone.synchrony(batch.inputs, batch.mask)


class Placed(nn.Module):
    """An embedding to which a table of places is added, with the spread of the embedding.

    Args:
        embed: From tokens or frames to the stream.
        config: Of the backbone.
        learned: Whether the table is learned, or sines and cosines.
    """

    def __init__(self, embed: nn.Module, config: SyncAttnConfig, *, learned: bool) -> None:
        super().__init__()
        self.embed = embed
        spread = config.phase_embedding_std if config.on_torus else 1.0
        if isinstance(embed, nn.Embedding) and not config.on_torus:
            spread = 0.02
        length, width = config.max_position_embeddings, config.hidden_size
        if learned:
            self.table = nn.Parameter(torch.randn(length, width) * spread)
            return
        place = torch.arange(length, dtype=torch.float32)[:, None]
        rate = torch.exp(-math.log(10_000.0) * torch.arange(0, width, 2) / width)
        table = torch.stack([(place * rate).sin(), (place * rate).cos()], -1).flatten(1)
        # A sine of amplitude 1 has the spread of half a unit of variance.
        self.register_buffer("table", table[:, :width] * spread * math.sqrt(2), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the embedded sequence with its places.

        Args:
            inputs: Tokens or frames.
        """
        x = self.embed(inputs)
        return x + self.table[: x.shape[1]]


class Adapter(nn.Module):
    """The mixing of a third party, given of the visibility what it asks for.

    Args:
        mixing: Any module from ``(batch, length, width)`` to the same.
    """

    def __init__(self, mixing: nn.Module) -> None:
        super().__init__()
        self.mixing = mixing
        taken = inspect.signature(mixing.forward).parameters.values()
        self._takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken)
        self._taken = {parameter.name for parameter in taken}
        if hasattr(mixing, "synchrony"):
            self.synchrony = mixing.synchrony

    def forward(self, hidden_states: Tensor, **visibility: Any) -> Tensor:
        """Returns the mixed stream.

        Args:
            hidden_states: ``(batch, length, width)``.
            **visibility: `is_causal` and `key_mask`.

        Raises:
            ValueError: If the mixing returns another shape.
        """
        given = {k: v for k, v in visibility.items() if self._takes_all or k in self._taken}
        out = self.mixing(hidden_states, **given)
        if out.shape != hidden_states.shape:
            raise ValueError(
                f"`attention` of an arm must return the shape it was given, "
                f"{tuple(hidden_states.shape)}; got {tuple(out.shape)}. Project it back."
            )
        return out


def build_network(
    arm: Arm,
    problem: Problem,
    shape: Shape,
    *,
    is_causal: bool,
    positions: str = "own",
    parameters: int | None = None,
) -> Network:
    """Returns the network of an arm, brought to a number of parameters by its feed-forward.

    Args:
        arm: The mechanism.
        problem: The task with its data.
        shape: Sizes.
        is_causal: Whether a token sees those before it alone.
        positions: See `Network`.
        parameters: Number to come near to; that of the arm with `shape.intermediate_size` if None.

    Returns:
        The network with fresh weights from torch's generator.
    """

    def build(intermediate_size: int) -> Network:
        config = _config(arm, problem, shape, intermediate_size, is_causal, positions)
        network = Network(config, num_labels=problem.num_labels, positions=positions)
        if arm.attention is not None:
            made = [arm.attention(shape.hidden_size, shape.num_heads) for _ in network.attentions]
            network.replace_attentions([Adapter(module) for module in made])
        return network

    def count(intermediate_size: int) -> int:
        with torch.device("meta"):
            return parameters_of(build(intermediate_size))

    width = shape.intermediate_size
    return build(width if parameters is None else matched_width(count, parameters))


def parameters_of(network: nn.Module) -> int:
    """Returns the number of parameters, frozen ones included, shared ones once.

    Args:
        network: Any module.
    """
    return sum(parameter.numel() for parameter in network.parameters())


def flops_per_token(network: Network, arm: Arm, problem: Problem, shape: Shape) -> float:
    """Returns the operations of the matrix products of a forward pass, per token of a long text.

    Linear layers count two operations per weight and use, of which the complex maps of a mean field
    have two; pairs of tokens count as the arm says, half of all pairs when causal. Norms, gates and
    other work per element are left out.

    Args:
        network: The network, whose linear layers are counted.
        arm: What it is made of.
        problem: The task, for the length.
        shape: Sizes.

    Returns:
        Floating-point operations.
    """
    complex_maps = {
        part
        for field in network.modules()
        if isinstance(field, MeanFieldCoupling)
        for part in (field.mode_proj, field.down_proj)
    }
    linear = sum(
        m.weight.numel() * (2 if m in complex_maps else 1)
        for m in network.modules()
        if isinstance(m, nn.Linear | HeadwiseLinear)
    )
    if arm.flops_per_pair is None:
        return 2.0 * linear
    seen = (problem.length + 1) / 2 if network.backbone.config.is_causal else problem.length
    pairs = shape.num_layers * shape.num_heads * seen
    return 2.0 * linear + pairs * arm.flops_per_pair(shape.hidden_size // shape.num_heads)


def _config(
    arm: Arm,
    problem: Problem,
    shape: Shape,
    intermediate_size: int,
    is_causal: bool,
    positions: str,
) -> SyncAttnConfig:
    options = dict(arm.options)
    if positions != "own":
        options |= arm.without_position
    return SyncAttnConfig(
        mechanism=arm.mechanism,
        vocab_size=problem.vocabulary_size or 1,
        feature_size=problem.feature_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=problem.length,
        feedforward=arm.feedforward,
        phase_features=arm.phase_features,
        attention_options=options,
        is_causal=is_causal,
    )
