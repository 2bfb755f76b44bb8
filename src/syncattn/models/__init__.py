"""The networks: Hugging Face compatible."""

from syncattn.models.cache import SyncAttnCache
from syncattn.models.classification import (
    SyncAttnForAudioClassification,
    SyncAttnForSequenceClassification,
)
from syncattn.models.configuration import MECHANISMS, SyncAttnConfig
from syncattn.models.convert import ConversionReport, convert, load_converted
from syncattn.models.distill import distill
from syncattn.models.interface import register_attention
from syncattn.models.modeling import SyncAttnForCausalLM, SyncAttnModel

__all__ = [
    "MECHANISMS",
    "ConversionReport",
    "SyncAttnCache",
    "SyncAttnConfig",
    "SyncAttnForAudioClassification",
    "SyncAttnForCausalLM",
    "SyncAttnForSequenceClassification",
    "SyncAttnModel",
    "convert",
    "distill",
    "load_converted",
    "register_attention",
]
