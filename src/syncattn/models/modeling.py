"""Backbone and causal language model of every mechanism; registered with Auto*."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationMixin
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from syncattn import _validation as check
from syncattn._typing import Float, Int, Tensor
from syncattn.models.blocks import build_block
from syncattn.models.cache import SyncAttnCache, cache_to_fill
from syncattn.models.configuration import SyncAttnConfig
from syncattn.models.inputs import loss_of_tokens, require_here, require_stream, require_tokens
from syncattn.models.padding import packed_lengths, ready_to_generate, visible_keys
from syncattn.models.pretrained import SyncAttnPreTrainedModel
from syncattn.nn.block import EuclideanBlock, PhaseBlock
from syncattn.nn.decay import without_decay
from syncattn.nn.decoding import DecodingAttention
from syncattn.nn.phase_features import cosine_sine
from syncattn.nn.synchrony import Synchrony


class SyncAttnModel(SyncAttnPreTrainedModel):
    """Embedding, blocks and final norm; the backbone of every mechanism.

    Args:
        config: The configuration.
    """

    def __init__(self, config: SyncAttnConfig) -> None:
        super().__init__(config)
        if config.feature_size is None:
            self.embed_tokens: nn.Module = nn.Embedding(config.vocab_size, config.hidden_size)
            if config.on_torus:
                without_decay(self.embed_tokens)
        else:
            self.embed_tokens = nn.Linear(config.feature_size, config.hidden_size)
            self.embed_tokens._gives_phases = config.on_torus  # pyright: ignore[reportArgumentType]
        self.layers = nn.ModuleList(build_block(config) for _ in range(config.num_hidden_layers))
        norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.norm = nn.Identity() if config.on_torus else norm
        self.gradient_checkpointing = False
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        position_ids: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """Returns the stream after the last block.

        Args:
            input_ids: ``(batch, length)``, or frames ``(batch, length, feature_size)``.
            attention_mask: ``(batch, length)``, 1 where a token is real; with a filled cache the
                tokens it holds come first.
            past_key_values: What a call before returned, to go on from; used and returned whatever
                `use_cache` says. A new `SyncAttnCache` takes the place of an empty cache of another
                kind: go on with the one in the output.
            inputs_embeds: The embedded tokens ``(batch, length, hidden_size)``, in place of
                `input_ids`.
            use_cache: Whether to start a cache where none is given, and return it; None for no. A
                network that cannot decode starts none.
            output_hidden_states: Whether to return the stream before every block too, and the
                normalised last one; as the configuration says when None.
            output_attentions: Whether to return the dense weights of every layer too, computed
                beside the output on its fast path; as the configuration says when None.
            position_ids: Where they begin anew, ``(1, length)``, another packed sequence does.
            **_: Arguments of other models, ignored.

        Returns:
            `last_hidden_state` of shape (batch, length, hidden_size).

        Raises:
            TypeError: If an argument is not a tensor of the right kind.
            ValueError: If the sequence is longer than `max_position_embeddings`, padding lies on
                both sides, a number is no token, a cache is given to a network that cannot decode,
                or arguments contradict each other.
        """
        x = self._embedded(input_ids, inputs_embeds)
        if output_attentions is None:
            output_attentions = bool(self.config.output_attentions)
        if output_hidden_states is None:
            output_hidden_states = bool(self.config.output_hidden_states)
        cache = self.cache_to_fill(past_key_values, use_cache)
        past = 0 if cache is None else cache.get_seq_length()
        visibility = self._visibility(x, attention_mask, past)
        if attention_mask is None and cache is None:
            visibility["cu_seqlens"] = packed_lengths(position_ids, x)
        if output_attentions and past:
            raise ValueError(
                f"`output_attentions` must come without a filled cache, which holds no queries of "
                f"the past; got one of {past} tokens. Pass `use_cache=False`."
            )
        states, weights = [x], []
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, EuclideanBlock | PhaseBlock)
            if output_attentions:
                weights.append(layer.synchrony(x, **visibility).weights)
            if cache is None:
                x = self._through(layer, x, visibility)
            else:
                x, state = layer.step(
                    x,
                    cache.state(number),
                    key_mask=visibility["key_mask"],
                    croppable=cache.record_past(number),
                )
                cache.set_state(number, state)
            states.append(x)
        states[-1] = self.norm(x)
        return BaseModelOutputWithPast(
            last_hidden_state=states[-1],
            past_key_values=cache,
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(weights) if output_attentions else None,
        )

    def cache_to_fill(self, given: Cache | None, use_cache: bool | None) -> SyncAttnCache | None:
        """Returns the cache that these layers fill, not an empty one of another kind; or None."""
        number, can_decode = len(self.layers), self.can_decode
        return cache_to_fill(given, use_cache, num_layers=number, can_decode=can_decode)

    @property
    def can_decode(self) -> bool:
        """True when every layer can go on from a state, and none looks ahead."""
        return self.config.is_causal and all(
            isinstance(layer.attention, DecodingAttention) for layer in self.layers
        )

    def readout(self, hidden_states: Float[Tensor, "batch length width"]) -> Tensor:
        r"""Returns what a head reads: on the torus the features :math:`[\cos\theta, \sin\theta]`.

        Args:
            hidden_states: `last_hidden_state`.

        Returns:
            ``(batch, length, readout_size)``.
        """
        if not self.config.on_torus:
            return hidden_states
        return cosine_sine(hidden_states)

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
        x = self._embedded(input_ids, None)
        visibility = self._visibility(x, attention_mask, 0)
        pictures: list[Synchrony] = []
        for layer in self.layers:
            assert isinstance(layer, EuclideanBlock | PhaseBlock)
            pictures.append(layer.synchrony(x, **visibility))
            x = layer(x, **visibility)
        return pictures

    def _through(self, layer: nn.Module, x: Tensor, visibility: dict[str, Any]) -> Tensor:
        if self.gradient_checkpointing and self.training:
            checkpointed: Any = self._gradient_checkpointing_func
            return checkpointed(partial(layer.__call__, **visibility), x)
        return layer(x, **visibility)

    def _embedded(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        if (input_ids is None) == (inputs_embeds is None):
            given = "neither" if input_ids is None else "both"
            raise ValueError(
                f"Exactly one of `input_ids` and `inputs_embeds` must be given; got {given}. "
                f"Pass one."
            )
        if input_ids is None:
            assert inputs_embeds is not None
            require_stream(inputs_embeds, self.config.hidden_size)
            require_here(inputs_embeds, "inputs_embeds", self.device)
            return inputs_embeds.to(self.dtype)
        if self.config.feature_size is None:
            require_tokens(input_ids, self.config.vocab_size)
            input_ids = input_ids.long()
        else:
            check.require_tensor(input_ids, "input_features", "batch frames features")
            input_ids = input_ids.to(self.dtype)
        require_here(input_ids, "input_ids", self.device)
        return self.embed_tokens(input_ids)

    def _visibility(self, x: Tensor, attention_mask: Tensor | None, past: int) -> dict[str, Any]:
        length, limit = past + x.shape[1], self.config.max_position_embeddings
        if length > limit:
            raise ValueError(
                f"`input_ids` must not be longer than `max_position_embeddings`; got {length} "
                f"tokens and {limit}. Cut the sequence, or build the model for longer ones."
            )
        key_mask = visible_keys(attention_mask, x, past)
        return {"is_causal": self.config.is_causal, "key_mask": key_mask}


class SyncAttnForCausalLM(SyncAttnPreTrainedModel, GenerationMixin):
    """A causal language model of any mechanism.

    Args:
        config: The configuration.

    Raises:
        ValueError: If the configuration is not causal, or takes frames.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: SyncAttnConfig) -> None:
        if not config.is_causal or config.feature_size is not None:
            wrong = "is_causal" if not config.is_causal else "feature_size"
            raise ValueError(
                f"`{wrong}` must be left out of a language model, which predicts tokens from those "
                f"before; got {getattr(config, wrong)}. Use a classifier, or drop it."
            )
        super().__init__(config)
        self.model = SyncAttnModel(config)
        self.lm_head = nn.Linear(config.readout_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Returns the logits of the next token and, with labels, the loss.

        Args:
            input_ids: ``(batch, length)``.
            attention_mask: See `SyncAttnModel.forward`.
            past_key_values: See `SyncAttnModel.forward`.
            inputs_embeds: See `SyncAttnModel.forward`.
            labels: ``(batch, length)``; shifted inside, -100 is ignored; the loss of none is 0.
            use_cache: See `SyncAttnModel.forward`.
            output_hidden_states: Whether to return the stream before every block too.
            output_attentions: Whether to return the dense weights of every layer too.
            logits_to_keep: Compute the last so many logits alone, or those at these places; all
                when 0.
            **kwargs: `position_ids`; for the loss `num_items_in_batch`, `shift_labels` and
                `ignore_index`; others are ignored.

        Returns:
            `logits` of shape (batch, length, vocab_size), `loss` in nats per token.

        Raises:
            TypeError: If an argument is not a tensor of the right kind.
            ValueError: If labels do not fit the logits; and see `SyncAttnModel.forward`.
        """
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            position_ids=kwargs.pop("position_ids", None),
        )
        if isinstance(logits_to_keep, Tensor):
            kept: Any = logits_to_keep
        else:
            check.require_integer(logits_to_keep, "logits_to_keep", minimum=0)
            kept = slice(-logits_to_keep, None)
        logits = self.lm_head(self.model.readout(outputs.last_hidden_state[:, kept]))
        loss = None
        if labels is not None:
            loss_function: Any = self.loss_function
            loss = loss_function(**loss_of_tokens(labels, logits, kwargs))
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """Returns continuations of the prompts; see `GenerationMixin.generate`.

        A batch padded on the right is moved to the left first, so the prompts come back padded on
        the left. Beyond `max_position_embeddings` the last tokens that fit are read anew for every
        token, and so is everything by a network of which a layer has no `step`.

        Args:
            inputs: Prompts ``(batch, length)``.
            *args: See `GenerationMixin.generate`.
            **kwargs: See `GenerationMixin.generate`.

        Returns:
            Prompts and continuations.

        Raises:
            ValueError: If a prompt is longer than the model allows, or padding lies on both sides.
        """
        # The mixin's own annotations ask for more than it needs.
        parent: Any = super()
        if not self.model.can_decode:
            # The mixin would hand over a cache that nobody can fill.
            kwargs.setdefault("use_cache", False)
        given = {
            "inputs": kwargs.pop("input_ids", None) if inputs is None else inputs,
            "inputs_embeds": kwargs.pop("inputs_embeds", None),
        }
        limit = self.config.max_position_embeddings
        prompts = ready_to_generate(given, kwargs, self.generation_config, limit=limit)
        return parent.generate(*args, **kwargs | prompts)

    def prepare_inputs_for_generation(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Returns the inputs of one step: the new tokens, or the last that fit the model.

        Args:
            input_ids: Everything so far, or one chunk of the prompt.
            next_sequence_length: How many of the last tokens are new.
            past_key_values: What the step before returned.
            attention_mask: 1 where a token is real.
            inputs_embeds: The embedded prompt, in place of its tokens.
            **kwargs: More arguments of `forward`.

        Returns:
            The keyword arguments of `forward`.
        """
        limit = self.config.max_position_embeddings
        if past_key_values is not None and not past_key_values.get_seq_length():
            past_key_values = self.model.cache_to_fill(past_key_values, None)
        if input_ids.shape[1] > limit:
            # Positions beyond the last do not exist: the window moves on and is read anew.
            input_ids, next_sequence_length = input_ids[:, -limit:], None
            attention_mask = None if attention_mask is None else attention_mask[:, -limit:]
            if past_key_values is not None:
                past_key_values.reset()
        elif past_key_values is None or past_key_values.get_seq_length() == 0:
            next_sequence_length = None
        parent: Any = super()
        return parent.prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )

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
