"""Backbone and causal language model of every mechanism; registered with Auto*."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput
from transformers.modeling_utils import PreTrainedModel

from syncattn import nn as sync_nn
from syncattn._typing import Float, Int, Tensor
from syncattn.models.configuration import SyncAttnConfig
from syncattn.nn.block import EuclideanBlock, PhaseBlock
from syncattn.nn.synchrony import Synchrony

ATTENTIONS: dict[str, type[nn.Module]] = {
    "softmax": sync_nn.SoftmaxAttention,
    "selective": sync_nn.SelectiveSynchronization,
    "oscillator": sync_nn.OscillatorAttention,
    "kuramoto": sync_nn.KuramotoAttention,
    "frustrated": sync_nn.FrustratedSynchronization,
}
DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {
    "selective": {"position": "coordinate", "frequency_gain": 0.1}
}
"""What a causal language model needs and a bare layer leaves out."""


def build_block(config: SyncAttnConfig) -> nn.Module:
    """Returns one block of the mechanism.

    Args:
        config: The configuration.

    Returns:
        A block on the stream that the mechanism lives on.

    Raises:
        ValueError: If `attention_options` holds a name that the module does not take.
    """
    attention_type = ATTENTIONS[config.mechanism]
    options = dict(config.attention_options)
    if options.get("variant") != "paper":
        options = DEFAULT_OPTIONS.get(config.mechanism, {}) | options
    known = set(inspect.signature(attention_type).parameters)
    if "max_positions" in known:
        options.setdefault("max_positions", config.max_position_embeddings)
    known -= {"hidden_size", "num_heads"}
    for name in options:
        if name not in known:
            raise ValueError(
                f"`attention_options` of {config.mechanism!r} must be among "
                f"{', '.join(sorted(known))}; got {name!r}. Remove or rename it."
            )
    attention = attention_type(config.hidden_size, config.num_attention_heads, **options)
    feedforward = _build_feedforward(config)
    block: nn.Module = PhaseBlock(attention, feedforward)
    if not config.on_torus:
        eps = config.rms_norm_eps
        block = EuclideanBlock(attention, feedforward, config.hidden_size, eps=eps)
    for name, child in block.named_modules():
        # What adds to the stream starts smaller, so that the stream keeps its size over the depth.
        child._adds_to_stream = name.endswith(("o_proj", "down_proj"))  # pyright: ignore[reportArgumentType]
    return block


def _build_feedforward(config: SyncAttnConfig) -> nn.Module | None:
    if config.feedforward == "none":
        return None
    if config.feedforward == "mean-field":
        return sync_nn.MeanFieldCoupling(config.hidden_size, config.intermediate_size)
    feedforward = sync_nn.PhaseSwiGLU if config.on_torus else sync_nn.SwiGLU
    return feedforward(config.hidden_size, config.intermediate_size)


class SyncAttnPreTrainedModel(PreTrainedModel):
    """Loading, saving and initial values, shared by all networks of ours."""

    config_class = SyncAttnConfig
    config: SyncAttnConfig
    base_model_prefix = "model"
    _no_split_modules = ["EuclideanBlock", "PhaseBlock"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Sets the initial values of one module, children first."""
        parameters = list(module.parameters())
        if any(getattr(p, "_is_hf_initialized", False) for p in parameters):
            return
        if isinstance(module, nn.Linear):
            std = self.config.initializer_range or module.in_features**-0.5
            if getattr(module, "_adds_to_stream", False):
                std *= (2 * self.config.num_hidden_layers) ** -0.5
            module.weight.normal_(std=std)
            if module.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                module.bias.zero_()
        elif isinstance(module, nn.RMSNorm):
            module.weight.fill_(1.0)
        elif isinstance(module, nn.Embedding):
            torus = self.config.on_torus
            module.weight.normal_(std=self.config.phase_embedding_std if torus else 0.02)
        elif isinstance(module, tuple(ATTENTIONS.values())) and hasattr(module, "reset_parameters"):
            module.reset_parameters()  # pyright: ignore[reportCallIssue]


class SyncAttnModel(SyncAttnPreTrainedModel):
    """Embedding, blocks and final norm; the causal backbone of every mechanism.

    Args:
        config: The configuration.
    """

    def __init__(self, config: SyncAttnConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(build_block(config) for _ in range(config.num_hidden_layers))
        norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.norm = nn.Identity() if config.on_torus else norm
        self.post_init()

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> BaseModelOutput:
        """Returns the stream after the last block.

        Args:
            input_ids: ``(batch, length)``.
            attention_mask: ``(batch, length)``, 1 where a token is real.
            output_hidden_states: Whether to return the stream before every block too.
            **_: Arguments of other models, ignored.

        Returns:
            `last_hidden_state` of shape (batch, length, hidden_size).

        Raises:
            ValueError: If the sequence is longer than `max_position_embeddings`.
        """
        visibility = self._visibility(input_ids, attention_mask)
        x = self.embed_tokens(input_ids)
        states = [x]
        for layer in self.layers:
            x = layer(x, **visibility)
            states.append(x)
        return BaseModelOutput(
            last_hidden_state=self.norm(x),
            hidden_states=tuple(states) if output_hidden_states else None,
        )

    @torch.no_grad()
    def synchrony(
        self, input_ids: Int[Tensor, "batch length"], attention_mask: Tensor | None = None
    ) -> list[Synchrony]:
        """Returns the dense picture of every layer, first to last.

        Args:
            input_ids: ``(batch, length)``.
            attention_mask: ``(batch, length)``, 1 where a token is real.

        Returns:
            One `Synchrony` per layer.
        """
        visibility = self._visibility(input_ids, attention_mask)
        x = self.embed_tokens(input_ids)
        pictures: list[Synchrony] = []
        for layer in self.layers:
            assert isinstance(layer, EuclideanBlock | PhaseBlock)
            pictures.append(layer.synchrony(x, **visibility))
            x = layer(x, **visibility)
        return pictures

    def _visibility(self, input_ids: Tensor, attention_mask: Tensor | None) -> dict[str, Any]:
        length, limit = input_ids.shape[1], self.config.max_position_embeddings
        if length > limit:
            raise ValueError(
                f"`input_ids` must not be longer than `max_position_embeddings`; got {length} "
                f"tokens and {limit}. Cut the sequence, or build the model for longer ones."
            )
        key_mask = None
        if attention_mask is not None:
            if attention_mask.shape != input_ids.shape:
                raise ValueError(
                    f"`attention_mask` must have the shape of `input_ids`, "
                    f"{tuple(input_ids.shape)}; got {tuple(attention_mask.shape)}. "
                    f"Pass one number per token, 1 where it is real."
                )
            key_mask = attention_mask.bool()
            key_mask = None if bool(key_mask.all()) else key_mask
        return {"is_causal": True, "key_mask": key_mask}


class PhaseReadout(nn.Linear):
    r"""A linear read-out of the features :math:`[\cos\theta, \sin\theta]`.

    Args:
        hidden_size: Number of phases.
        vocab_size: Number of tokens.
    """

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__(2 * hidden_size, vocab_size, bias=False)

    def forward(self, input: Float[Tensor, "batch length width"]) -> Tensor:
        """Returns the logits of every token.

        Args:
            input: Phases ``(batch, length, hidden_size)`` in radians.

        Returns:
            ``(batch, length, vocab_size)``.
        """
        return super().forward(torch.cat([input.cos(), input.sin()], -1))


class SyncAttnForCausalLM(SyncAttnPreTrainedModel, GenerationMixin):
    """A causal language model of any mechanism.

    Args:
        config: The configuration.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: SyncAttnConfig) -> None:
        super().__init__(config)
        self.model = SyncAttnModel(config)
        if config.on_torus:
            self.lm_head: nn.Linear = PhaseReadout(config.hidden_size, config.vocab_size)
        else:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutput:
        """Returns the logits of the next token and, with labels, the loss.

        Args:
            input_ids: ``(batch, length)``.
            attention_mask: ``(batch, length)``, 1 where a token is real.
            labels: ``(batch, length)``; shifted inside, -100 is ignored.
            output_hidden_states: Whether to return the stream before every block too.
            logits_to_keep: Compute the last so many logits alone; all when 0.
            **kwargs: Arguments of other models, ignored.

        Returns:
            `logits` of shape (batch, length, vocab_size), `loss` in nats per token.
        """
        outputs = self.model(
            input_ids, attention_mask=attention_mask, output_hidden_states=output_hidden_states
        )
        logits = self.lm_head(outputs.last_hidden_state[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss_function: Any = self.loss_function
            loss = loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1])
        return CausalLMOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)

    def prepare_inputs_for_generation(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> dict[str, Any]:
        """Returns the inputs of one step: the last tokens that fit the model.

        Args:
            input_ids: Everything so far.
            attention_mask: 1 where a token is real.
            **_: Arguments of other models, ignored.

        Returns:
            The keyword arguments of `forward`.
        """
        limit = self.config.max_position_embeddings
        if attention_mask is not None:
            attention_mask = attention_mask[:, -limit:]
        return {
            "input_ids": input_ids[:, -limit:],
            "attention_mask": attention_mask,
            "logits_to_keep": 1,
        }

    def synchrony(
        self, input_ids: Int[Tensor, "batch length"], attention_mask: Tensor | None = None
    ) -> list[Synchrony]:
        """Returns the dense picture of every layer; see `SyncAttnModel.synchrony`.

        Args:
            input_ids: ``(batch, length)``.
            attention_mask: ``(batch, length)``, 1 where a token is real.

        Returns:
            One `Synchrony` per layer.
        """
        return self.model.synchrony(input_ids, attention_mask)


AutoConfig.register("syncattn", SyncAttnConfig)
AutoModel.register(SyncAttnConfig, SyncAttnModel)
AutoModelForCausalLM.register(SyncAttnConfig, SyncAttnForCausalLM)
