"""Replaces the self-attention of another network of Transformers by one of our mechanisms."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_model
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from syncattn import _validation as check
from syncattn._typing import Tensor
from syncattn.models.blocks import build_attention
from syncattn.models.cache import SyncAttnCacheLayer
from syncattn.models.configuration import EUCLIDEAN, TORUS
from syncattn.models.foreign import ForeignAttention, masks, read_attention
from syncattn.nn.decoding import DecodingAttention, go_on


@dataclass(frozen=True)
class ConvertedLayer:
    """What became of one self-attention.

    Attributes:
        name: Its name in the network.
        family: The family it was read as.
        kept: Projections whose weights are those of the original.
        drawn: Parameters that start anew.
    """

    name: str
    family: str
    kept: tuple[str, ...]
    drawn: tuple[str, ...]


@dataclass(frozen=True)
class ConversionReport:
    """What `convert` did.

    Attributes:
        mechanism: What the layers are now.
        layers: One entry per replaced layer.
    """

    mechanism: str
    layers: tuple[ConvertedLayer, ...]

    def __str__(self) -> str:
        """Returns one line per layer."""
        lines = [f"{len(self.layers)} layers became {self.mechanism}."]
        lines += [
            f"{x.name} ({x.family}): kept {', '.join(x.kept) or 'nothing'}; "
            f"new {', '.join(x.drawn) or 'nothing'}"
            for x in self.layers
        ]
        return "\n".join(lines)


class ConvertedAttention(nn.Module):
    """One of our layers where another network expects its own.

    Args:
        attention: Our layer.
        original: What it replaces.
        kept: Names of the projections whose weights are those of the original.
    """

    def __init__(
        self, attention: nn.Module, original: ForeignAttention, kept: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.kept = kept
        self.attention = attention
        self.dropout = original.dropout or nn.Identity()
        self.is_causal = original.is_causal
        self.layer_idx = original.layer_idx

    def forward(
        self,
        hidden_states: Tensor,
        *_: Any,
        attention_mask: Any = None,
        past_key_values: Any = None,
        output_attentions: bool = False,
        **__: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the mixed stream and, on request, the dense weights.

        Args:
            hidden_states: ``(batch, length, hidden_size)``.
            *_: Arguments of the original, such as rotary angles, ignored.
            attention_mask: As the network made it for its own attention.
            past_key_values: The network's cache; this layer keeps its state there.
            output_attentions: Whether to compute the dense weights too.
            **__: More arguments of the original, ignored.

        Returns:
            Output and weights.
        """
        x = hidden_states
        key_mask, attn_mask = masks(attention_mask, x.shape[1], x.shape[0], self.is_causal)
        if past_key_values is not None and self.is_causal:
            return self.dropout(self._step(x, key_mask, attn_mask, past_key_values)), None
        seen = {"is_causal": self.is_causal, "key_mask": key_mask, "attn_mask": attn_mask}
        attention: Any = self.attention
        weights = attention.synchrony(x, **seen).weights if output_attentions else None
        return self.dropout(attention(x, **seen)), weights

    def _step(
        self, x: Tensor, key_mask: Tensor | None, attn_mask: Tensor | None, cache: Any
    ) -> Tensor:
        if attn_mask is not None:
            raise ValueError(
                "`attention_mask` must be causal with padding to decode from a cache; got one that "
                "hides more, such as a sliding window. Pass `use_cache=False`."
            )
        attention: Any = self.attention
        if not isinstance(attention, DecodingAttention):
            raise ValueError(
                f"{type(attention).__name__} cannot decode from a cache. Pass `use_cache=False`."
            )
        layer = _own_layer(cache, self.layer_idx)
        key_mask = None if key_mask is None else key_mask[:, -x.shape[1] :]
        out, layer.state = go_on(
            attention, x, layer.state, key_mask=key_mask, croppable=layer.record_past
        )
        return out


def convert(
    model: PreTrainedModel,
    mechanism: str,
    *,
    layers: Collection[int] | None = None,
    attention_options: dict[str, Any] | None = None,
) -> ConversionReport:
    """Replaces the self-attention of a network, in place, and says what was kept.

    BERT-like, GPT-2-like and Llama-like attention is known. Projections with the shapes of the
    original keep its weights: values and outputs, and queries and keys where the mechanism has
    them; grouped key and value heads are repeated. Everything else starts anew, so train or
    `distill` the network before use. Cross-attention stays as it is.

    Args:
        model: A network of Transformers.
        mechanism: ``"selective"``, ``"oscillator"`` or ``"softmax"``.
        layers: Numbers of the layers to replace; all when None.
        attention_options: Keyword arguments of the mechanism's module in `syncattn.nn`.

    Returns:
        What each layer kept.

    Raises:
        TypeError: If `model` is not a network of Transformers.
        ValueError: If the mechanism needs a stream of phases, no attention of a known family is
            found, or a layer does not exist.
    """
    if mechanism in TORUS:
        raise ValueError(
            f"`mechanism` must live on a Euclidean stream to take the place of attention; got "
            f"{mechanism!r}, whose tokens are phases. Use one of {', '.join(EUCLIDEAN)}."
        )
    check.require_choice(mechanism, "mechanism", EUCLIDEAN)
    check.require_instance(model, "model", PreTrainedModel, "Pass a network of Transformers.")
    found = [
        (name, read)
        for name, module in model.named_modules()
        if (read := read_attention(module)) is not None
    ]
    if not found:
        raise ValueError(
            f"`model` must hold BERT-like, GPT-2-like or Llama-like self-attention; got none in "
            f"{type(model).__name__}. Replace its layers by hand with modules of syncattn.nn."
        )
    numbers = {read.layer_idx for _, read in found}
    wanted = numbers if layers is None else set(layers)
    if not wanted <= numbers:
        raise ValueError(
            f"`layers` must be numbers of layers, {min(numbers)} to {max(numbers)}; got "
            f"{sorted(wanted - numbers)}. Leave them out."
        )
    done = tuple(
        _replace(model, name, read, mechanism, attention_options or {})
        for name, read in found
        if read.layer_idx in wanted
    )
    # So that a saved network can be built again: see `load_converted`.
    model.config.syncattn = {
        "mechanism": mechanism,
        "layers": sorted(wanted),
        "attention_options": dict(attention_options or {}),
    }
    return ConversionReport(mechanism, done)


def load_converted(folder: str | Path) -> PreTrainedModel:
    """Returns a converted network that `save_pretrained` wrote.

    Args:
        folder: With `config.json` and `model.safetensors`.

    Returns:
        The network, in evaluation mode.

    Raises:
        ValueError: If the folder holds no converted network, or its weights are not in one file of
            safetensors.
    """
    config: Any = AutoConfig.from_pretrained(folder)
    record: dict[str, Any] | None = getattr(config, "syncattn", None)
    architecture = getattr(transformers, (config.architectures or [""])[0], None)
    if record is None or architecture is None:
        raise ValueError(
            f"`folder` must hold a network that `convert` changed; got {str(folder)!r}, which does "
            f"not say so. Load it with its own class."
        )
    weights = Path(folder) / "model.safetensors"
    if not weights.exists():
        raise ValueError(
            f"`folder` must hold its weights in 'model.safetensors'; got none in {str(folder)!r}. "
            f"Save it with save_pretrained and a large `max_shard_size`."
        )
    model: PreTrainedModel = architecture(config)
    convert(model, **record)
    load_model(model, weights)
    return model.eval()


def _replace(
    model: nn.Module, name: str, original: ForeignAttention, mechanism: str, options: dict[str, Any]
) -> ConvertedLayer:
    config: Any = model.config
    options = dict(options)
    if mechanism != "selective":
        options.setdefault("rotary_base", original.rotary_base)
    attention = build_attention(
        mechanism,
        original.hidden_size,
        original.num_heads,
        max_positions=getattr(config, "max_position_embeddings", 0) or 2048,
        options=options,
    )
    kept = _keep_weights(attention, original)
    parent, _, child = name.rpartition(".")
    place = model.get_submodule(parent)
    source = original.projections["v_proj"].weight
    replacement = ConvertedAttention(attention, original, kept).to(source.device, source.dtype)
    setattr(place, child, replacement.train(model.training))
    drawn = [
        parameter for parameter, _ in attention.named_parameters() if not parameter.startswith(kept)
    ]
    return ConvertedLayer(name, original.family, kept, tuple(drawn))


@torch.no_grad()
def _keep_weights(attention: Any, original: ForeignAttention) -> tuple[str, ...]:
    """Copies the projections whose shapes fit, and returns their names."""
    kept: list[str] = []
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        own: nn.Linear | None = getattr(attention, name, None)
        if own is None:
            continue
        source = original.projections.get(name)
        if source is None:
            # The output projection lies outside of the layer, and stays there.
            setattr(attention, name, _Outside())
        elif source.weight.shape == own.weight.shape:
            has_bias = source.bias is not None
            linear = nn.Linear(own.in_features, own.out_features, bias=has_bias)
            linear.weight.copy_(source.weight)
            if source.bias is not None:
                linear.bias.copy_(source.bias)
            setattr(attention, name, linear)
            kept.append(name)
    return tuple(kept)


class _Outside(nn.Identity):
    """Stands for a projection that another module does; its weight tells dtype and device."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(0), persistent=False)


def _own_layer(cache: Any, number: int) -> SyncAttnCacheLayer:
    """Returns our layer of a cache of Transformers, which takes the place of an empty one."""
    cache = getattr(cache, "self_attention_cache", cache)
    # A dynamic cache makes its layers when they are first needed.
    while len(cache.layers) <= number:
        cache.layers.append(SyncAttnCacheLayer())
    layer = cache.layers[number]
    if isinstance(layer, SyncAttnCacheLayer):
        return layer
    if layer.get_seq_length():
        raise ValueError(
            f"`past_key_values` must be empty or filled by this network; got "
            f"{layer.get_seq_length()} keys of another attention. Start with an empty cache."
        )
    own = SyncAttnCacheLayer()
    own.record_past = getattr(layer, "record_past", False)
    cache.layers[number] = own
    return own
