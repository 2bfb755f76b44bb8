"""Classifiers of token sequences and of feature frames, for every mechanism."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForAudioClassification, AutoModelForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from syncattn import _validation as check
from syncattn._typing import Bool, Float, Tensor
from syncattn.models.configuration import SyncAttnConfig
from syncattn.models.inputs import loss_of_sequences
from syncattn.models.modeling import SyncAttnModel
from syncattn.models.padding import packed_lengths
from syncattn.models.pretrained import SyncAttnPreTrainedModel


class _Classifier(SyncAttnPreTrainedModel):
    """Backbone, pooling and a linear head."""

    # The loss is the mean of its own batch: `Trainer` must divide by the steps it accumulates. It
    # takes the keyword arguments of `forward` for a loss that divides by all items of those steps.
    accepts_loss_kwargs = False

    def __init__(self, config: SyncAttnConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or {})
        self.model = SyncAttnModel(config)
        self.score = nn.Linear(config.readout_size, self.num_labels, bias=False)
        # The loss is chosen by the labels (or `problem_type`), whatever the class is called.
        self.loss_type = "ForSequenceClassification"
        self.post_init()

    def _classify(
        self,
        attention_mask: Tensor | None,
        labels: Tensor | None,
        position_ids: Tensor | None,
        **inputs: Any,
    ) -> SequenceClassifierOutput:
        outputs = self.model(attention_mask=attention_mask, use_cache=False, **inputs)
        mask = None if attention_mask is None else attention_mask.bool()
        features = self.model.readout(outputs.last_hidden_state)
        _require_one_sequence(position_ids, features)
        logits = self.score(pool(features, mask, self.config.pooling))
        loss = None
        if labels is not None:
            arguments = loss_of_sequences(labels, logits, self.config.problem_type)
            self.config.problem_type = arguments.pop("problem_type")
            loss_function: Any = self.loss_function
            loss = loss_function(config=self.config, **arguments)
        return SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def _require_one_sequence(position_ids: Tensor | None, x: Tensor) -> None:
    if torch.compiler.is_compiling() or packed_lengths(position_ids, x) is None:
        return
    raise ValueError(
        "`position_ids` must not begin anew within a row of a classifier, which has one answer a "
        "row; got packed sequences. Give each a row and pass `attention_mask`."
    )


def pool(
    features: Float[Tensor, "batch length width"],
    mask: Bool[Tensor, "batch length"] | None,
    pooling: str,
) -> Float[Tensor, "batch width"]:
    """Returns one vector per sequence.

    Args:
        features: ``(batch, length, width)``.
        mask: True where a token is real; None for all.
        pooling: ``"mean"`` of the real tokens, or the ``"last"`` real one.

    Returns:
        ``(batch, width)``; 0 for a sequence without a real token.
    """
    if features.shape[1] == 0:
        return features.new_zeros(features.shape[0], features.shape[2])
    if mask is None:
        return features.mean(1) if pooling == "mean" else features[:, -1]
    some = mask.any(-1, keepdim=True)
    if pooling == "mean":
        real = torch.where(mask[..., None], features, 0.0)
        return real.sum(1) / mask.sum(-1, keepdim=True).clamp(min=1).to(features.dtype)
    place = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, place, 0).argmax(-1)
    return torch.where(some, features[torch.arange(len(last), device=mask.device), last], 0.0)


class SyncAttnForSequenceClassification(_Classifier):
    """A classifier of token sequences; see `pooling` and `is_causal` of the configuration.

    Args:
        config: The configuration, with `num_labels`.

    Raises:
        ValueError: If the configuration takes frames.
    """

    def __init__(self, config: SyncAttnConfig) -> None:
        if config.feature_size is not None:
            raise ValueError(
                f"`feature_size` must be None for sequences of tokens; got {config.feature_size}. "
                f"Use SyncAttnForAudioClassification for frames."
            )
        super().__init__(config)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **others: Any,
    ) -> SequenceClassifierOutput:
        """Returns the logits of every sequence and, with labels, the loss.

        Args:
            input_ids: ``(batch, length)``.
            attention_mask: ``(batch, length)``, 1 where a token is real.
            inputs_embeds: In place of `input_ids`.
            labels: ``(batch,)`` classes, ``(batch, num_labels)`` numbers between 0 and 1, or
                numbers to predict, as `problem_type` says.
            output_hidden_states: Whether to return the stream before every block too.
            output_attentions: Whether to return the dense weights of every layer too.
            **others: Arguments of other models, ignored; `position_ids` must not begin anew.

        Returns:
            `logits` of shape (batch, num_labels).

        Raises:
            TypeError: If an argument is not a tensor of the right kind.
            ValueError: If labels do not fit `problem_type`, several sequences are packed in a row;
                and see `SyncAttnModel.forward`.
        """
        return self._classify(
            attention_mask,
            labels,
            others.get("position_ids"),
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )


class SyncAttnForAudioClassification(_Classifier):
    """A classifier of sequences of feature frames, such as a log-mel spectrogram.

    Args:
        config: The configuration, with `num_labels` and `feature_size`.

    Raises:
        ValueError: If the configuration takes tokens.
    """

    main_input_name = "input_features"

    def __init__(self, config: SyncAttnConfig) -> None:
        if config.feature_size is None:
            raise ValueError(
                "`feature_size` must be the numbers of one frame, such as 80 mel bands; got None. "
                "Set it in the configuration."
            )
        super().__init__(config)

    @can_return_tuple
    def forward(
        self,
        input_features: Float[Tensor, "batch frames features"],
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **others: Any,
    ) -> SequenceClassifierOutput:
        """Returns the logits of every sequence and, with labels, the loss.

        Args:
            input_features: ``(batch, frames, feature_size)``, best of unit variance.
            attention_mask: ``(batch, frames)``, 1 where a frame is real.
            labels: ``(batch,)`` classes, ``(batch, num_labels)`` numbers between 0 and 1, or
                numbers to predict, as `problem_type` says.
            output_hidden_states: Whether to return the stream before every block too.
            output_attentions: Whether to return the dense weights of every layer too.
            **others: Arguments of other models, ignored; `position_ids` must not begin anew.

        Returns:
            `logits` of shape (batch, num_labels).

        Raises:
            TypeError: If frames are not a floating tensor, or labels not of the right kind.
            ValueError: If they have another size or other axes, labels do not fit `problem_type`,
                or several sequences are packed in a row.
        """
        check.require_tensor(input_features, "input_features", "batch frames features")
        if input_features.shape[-1] != self.config.feature_size:
            raise ValueError(
                f"`input_features` must have frames of `feature_size` numbers; got "
                f"{input_features.shape[-1]} and {self.config.feature_size}. Transpose them if "
                f"time comes last."
            )
        return self._classify(
            attention_mask,
            labels,
            others.get("position_ids"),
            input_ids=input_features,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )


AutoModelForSequenceClassification.register(SyncAttnConfig, SyncAttnForSequenceClassification)
AutoModelForAudioClassification.register(SyncAttnConfig, SyncAttnForAudioClassification)
