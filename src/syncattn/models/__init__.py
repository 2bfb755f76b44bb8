"""The networks: Hugging Face compatible."""

from syncattn.models.configuration import MECHANISMS, SyncAttnConfig
from syncattn.models.modeling import SyncAttnForCausalLM, SyncAttnModel

__all__ = ["MECHANISMS", "SyncAttnConfig", "SyncAttnForCausalLM", "SyncAttnModel"]
