"""Replaces the self-attention of another network of Transformers by one of our mechanisms."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_model
from torch import nn
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

from syncattn import _validation as check
from syncattn._typing import Tensor
from syncattn.models.blocks import build_attention
from syncattn.models.cache import SyncAttnCacheLayer
from syncattn.models.configuration import EUCLIDEAN, TORUS
from syncattn.models.foreign import ForeignAttention, masks, more_than_softmax, read_attention
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
        self.beside_others = False
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
        if self.beside_others and getattr(cache, "is_compileable", False):
            raise ValueError(
                f"`past_key_values` must be a cache that grows where some layers were replaced and "
                f"others not; got a {type(cache).__name__}. Leave `cache_implementation` out."
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
            found, a layer does not exist, or `"softmax"` would be another function there.
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
    wanted = _wanted(layers, numbers)
    if mechanism == "softmax":
        _require_plain(model, [name for name, read in found if read.layer_idx in wanted])
    done = tuple(
        _replace(model, name, read, mechanism, attention_options or {})
        for name, read in found
        if read.layer_idx in wanted
    )
    whole = len(done) == len(found)
    for module in model.modules():
        if isinstance(module, ConvertedAttention):
            module.beside_others = not whole
    # So that a saved network can be built again, conversion by conversion: see `load_converted`.
    model.config.syncattn = [
        *_conversions(model.config),
        {
            "mechanism": mechanism,
            "layers": sorted(wanted),
            "attention_options": dict(attention_options or {}),
        },
    ]
    return ConversionReport(mechanism, done)


def _wanted(layers: Collection[int] | None, numbers: set[int]) -> set[int]:
    if layers is None:
        return numbers
    check.require_instance(layers, "layers", Collection, "Pass a list of numbers.")
    for number in layers:
        check.require_integer(number, "layers", minimum=0)
    if not layers or not set(layers) <= numbers:
        raise ValueError(
            f"`layers` must be numbers of layers, {min(numbers)} to {max(numbers)}, one at least; "
            f"got {sorted(set(layers) - numbers) or 'none'}. Leave them out."
        )
    return set(layers)


def _require_plain(model: nn.Module, names: Sequence[str]) -> None:
    """Refuses to call softmax the same function where it is not."""
    for name in names:
        reason = more_than_softmax(model.get_submodule(name))
        if reason is not None:
            raise ValueError(
                f"`mechanism` must not be 'softmax' where plain softmax is another function; got "
                f"it for {name}: {reason}. Use another mechanism, or leave these layers."
            )


def load_converted(folder: str | Path) -> PreTrainedModel:
    """Returns a converted network that `save_pretrained` wrote.

    Args:
        folder: With `config.json` and `model.safetensors`.

    Returns:
        The network as it was saved, in its dtype, in evaluation mode.

    Raises:
        ValueError: If the folder holds no converted network, its weights are not in one file of
            safetensors, or bear other names.
    """
    config: Any = AutoConfig.from_pretrained(folder)
    record = _conversions(config)
    # Building counts them anew.
    config.syncattn = None
    architecture: Any = getattr(transformers, (config.architectures or [""])[0], None)
    known = isinstance(architecture, type) and issubclass(architecture, PreTrainedModel)
    if not record or not known:
        raise ValueError(
            f"`folder` must hold a network of Transformers that `convert` changed; got "
            f"{str(folder)!r}, which does not say so. Load it with its own class."
        )
    weights = Path(folder) / "model.safetensors"
    if not weights.exists():
        raise ValueError(
            f"`folder` must hold its weights in 'model.safetensors'; got none in {str(folder)!r}. "
            f"Save it with save_pretrained and a large `max_shard_size`."
        )
    # The dtype of the configuration, which the class itself passes over.
    model: PreTrainedModel = architecture._from_config(config)
    for conversion in record:
        convert(model, **conversion)
    try:
        load_model(model, weights)
    except RuntimeError as error:
        raise ValueError(
            f"`folder` must hold the parameters by the names that this network gives them; got "
            f"others in {str(weights)!r} ({str(error)[:200]}). Save it with "
            f"save_pretrained(folder, save_original_format=False)."
        ) from error
    if (Path(folder) / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval()


def _conversions(config: Any) -> list[dict[str, Any]]:
    """Returns the arguments of every conversion that a configuration tells of, first to last."""
    found = getattr(config, "syncattn", None) or []
    # Earlier versions knew one alone.
    return [found] if isinstance(found, dict) else list(found)


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
