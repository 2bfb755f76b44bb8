"""The self-attention of other networks: where it is, and its projections as plain matrices."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import nn

from syncattn._typing import Float, Tensor


class Projection(NamedTuple):
    """A linear map as `nn.Linear` stores it.

    Attributes:
        weight: ``(outputs, inputs)``.
        bias: ``(outputs,)`` or None.
    """

    weight: Float[Tensor, "outputs inputs"]
    bias: Float[Tensor, " outputs"] | None


class ForeignAttention(NamedTuple):
    """What is read from one self-attention.

    Attributes:
        family: ``"bert"``, ``"gpt2"`` or ``"llama"``.
        hidden_size: Width of the stream.
        num_heads: Number of query heads.
        is_causal: Whether a token sees those before it alone.
        layer_idx: Its number among the layers, for the cache.
        rotary_base: Base of its rotary position; None where position is in the stream.
        projections: By our names; without ``"o_proj"`` where it lies outside of the module.
        dropout: Applied to the output, or None.
    """

    family: str
    hidden_size: int
    num_heads: int
    is_causal: bool
    layer_idx: int
    rotary_base: float | None
    projections: dict[str, Projection]
    dropout: nn.Module | None


_LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj")
_PLAIN = frozenset({
    "ArceeAttention", "BertSelfAttention", "CamembertSelfAttention", "ElectraSelfAttention",
    "ErnieSelfAttention", "GPT2Attention", "GemmaAttention", "LlamaAttention", "MistralAttention",
    "MixtralAttention", "OlmoAttention", "Qwen2Attention", "RobertaSelfAttention",
    "SmolLM3Attention", "SplinterSelfAttention", "Starcoder2Attention", "XLMRobertaSelfAttention",
})  # fmt: skip
"""Attention that is rotary or placeless softmax and nothing more, by the name of its class."""


def more_than_softmax(module: nn.Module) -> str | None:
    """Returns why plain softmax with the same projections is another function; None if it is not.

    Args:
        module: A module that `read_attention` knows.
    """
    attention, config = cast("Any", module), cast("Any", module).config
    name = type(module).__name__
    if name not in _PLAIN:
        return f"{name} may do more"
    rope: Any = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        return f"its rotary angles are scaled ({rope['rope_type']})"
    for holder in (rope, vars(config)):
        if (holder.get("partial_rotary_factor") or 1.0) != 1.0:
            return "its rotary angles turn a part of the coordinates"
    if hasattr(attention, "use_rope") and not attention.use_rope:
        return "it has no rotary angles"
    if name == "GPT2Attention" and not config.scale_attn_weights:
        return "its scores are not scaled (`scale_attn_weights`)"
    if name == "GPT2Attention" and config.scale_attn_by_inverse_layer_idx:
        return "its scores are scaled by layer (`scale_attn_by_inverse_layer_idx`)"
    head_dim = getattr(attention, "head_dim", None)
    scale = getattr(attention, "scaling", None)
    if head_dim and isinstance(scale, float) and abs(scale * head_dim**0.5 - 1) > 1e-6:
        return f"its scores are scaled by {scale:g}"
    return None


def read_attention(module: nn.Module) -> ForeignAttention | None:
    """Returns what a module is as a self-attention, None where it is none of a known family.

    Args:
        module: Any module of a network of Transformers.
    """
    config: Any = getattr(module, "config", None)
    crosses = getattr(module, "is_cross_attention", False) or "Cross" in type(module).__name__
    if config is None or crosses or not hasattr(module, "layer_idx"):
        return None
    names = {name for name, _ in module.named_children()}
    found = None
    if {"c_attn", "c_proj"} <= names and "q_attn" not in names and hasattr(module, "is_causal"):
        found = _gpt2(module, config)
    elif names.issuperset(_LLAMA) and hasattr(module, "head_dim"):
        matrices = all(isinstance(getattr(module, n).weight, Tensor) for n in _LLAMA)
        found = _llama(module, config) if matrices else None
    elif names - {"dropout"} == {"query", "key", "value"} and hasattr(
        module, "attention_head_size"
    ):
        found = _bert(module, config)
    # Some networks read a narrower stream than their configuration tells.
    reads = found is not None and found.projections["v_proj"].weight.shape[1] == found.hidden_size
    return found if reads else None


def _gpt2(module: Any, config: Any) -> ForeignAttention:
    # Conv1D stores (inputs, outputs), query, key and value side by side.
    names = ("q_proj", "k_proj", "v_proj")
    parts = zip(names, module.c_attn.weight.chunk(3, 1), module.c_attn.bias.chunk(3), strict=True)
    projections = {name: Projection(weight.mT, bias) for name, weight, bias in parts}
    projections["o_proj"] = Projection(module.c_proj.weight.mT, module.c_proj.bias)
    return ForeignAttention(
        "gpt2", config.hidden_size, config.num_attention_heads, bool(module.is_causal),
        module.layer_idx or 0, None, projections, module.resid_dropout,
    )  # fmt: skip


def _llama(module: Any, config: Any) -> ForeignAttention:
    key_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    groups = config.num_attention_heads // key_heads
    projections = {
        "q_proj": Projection(module.q_proj.weight, module.q_proj.bias),
        "k_proj": _repeated(module.k_proj, module.head_dim, groups),
        "v_proj": _repeated(module.v_proj, module.head_dim, groups),
        "o_proj": Projection(module.o_proj.weight, module.o_proj.bias),
    }
    rope: Any = getattr(config, "rope_parameters", None) or {}
    base = rope.get("rope_theta") or getattr(config, "rope_theta", None) or 10_000.0
    return ForeignAttention(
        "llama", config.hidden_size, config.num_attention_heads,
        bool(getattr(module, "is_causal", True)), module.layer_idx or 0, float(base),
        projections, None,
    )  # fmt: skip


def _bert(module: Any, config: Any) -> ForeignAttention:
    names = {"q_proj": module.query, "k_proj": module.key, "v_proj": module.value}
    projections = {name: Projection(x.weight, x.bias) for name, x in names.items()}
    return ForeignAttention(
        "bert", config.hidden_size, config.num_attention_heads,
        bool(getattr(module, "is_causal", False)), getattr(module, "layer_idx", 0) or 0, None,
        projections, None,
    )  # fmt: skip


def _repeated(linear: nn.Linear, head_dim: int, groups: int) -> Projection:
    """Returns a projection of key and value heads, each repeated for its group of queries."""

    def repeat(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (-1, head_dim)).repeat_interleave(groups, 0).flatten(0, 1)

    bias: Tensor | None = getattr(linear, "bias", None)
    return Projection(repeat(linear.weight), None if bias is None else repeat(bias))


def masks(
    attention_mask: Any, num_queries: int, batch: int, is_causal: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Returns the padding, ``(batch, keys)``, and what else a mask of Transformers hides.

    Args:
        attention_mask: None, ``(batch, keys)``, or rank 4 ``(batch, heads | 1, queries, keys)``,
            boolean with True where attention is allowed or additive with 0 there.
        num_queries: Number of queries, the last of the keys.
        batch: Number of sequences.
        is_causal: Whether the future is hidden anyway.

    Returns:
        Key mask and attention mask, both boolean, each None where it hides nothing more.

    Raises:
        TypeError: If it is none of these.
    """
    if attention_mask is None:
        return None, None
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.dim() not in {2, 4}:
        raise TypeError(
            f"`attention_mask` must be None or a tensor of rank 2 or 4; got "
            f"{type(attention_mask).__name__}. Load the model with attn_implementation='sdpa' or "
            f"'eager'."
        )
    mask = _allowed(attention_mask)
    if mask.dim() == 2:
        return (None if bool(mask.all()) else mask), None
    mask = mask.expand(batch, -1, -1, -1)
    # What some query sees is real; in packed rows that alone does not describe the mask.
    real = mask[:, 0].any(1)
    expected = real[:, None, None, :]
    if is_causal:
        expected = expected & _lower(num_queries, mask)
    plain = mask.shape[1] == 1 and bool((mask == expected).all())
    if plain:
        return (None if bool(real.all()) else real), None
    return None, mask


def _allowed(mask: Tensor) -> Tensor:
    if mask.is_floating_point():
        return mask > torch.finfo(mask.dtype).min / 2
    return mask.bool() if mask.dim() == 2 else mask != 0


def _lower(num_queries: int, mask: Tensor) -> Tensor:
    keys = mask.shape[-1]
    query = torch.arange(keys - num_queries, keys, device=mask.device)
    return torch.arange(keys, device=mask.device) <= query[:, None]
