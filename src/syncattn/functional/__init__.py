"""The operators: what users call; documents, validates, chooses a backend."""

from syncattn.functional.frustrated_synchronization import frustrated_synchronization
from syncattn.functional.kuramoto_attention import kuramoto_attention, kuramoto_attention_weights
from syncattn.functional.oscillator_attention import (
    oscillator_attention,
    oscillator_attention_weights,
)
from syncattn.functional.oscillators import order_parameter, rotary_drift, wrap_phase
from syncattn.functional.selective_backends import BackendChoice, explain_backend
from syncattn.functional.selective_explain import PairExplanation, explain_pair
from syncattn.functional.selective_state import (
    SynchronizationState,
    selective_synchronization_step,
)
from syncattn.functional.selective_synchronization import (
    selective_synchronization,
    selective_synchronization_weights,
)

__all__ = [
    "BackendChoice",
    "PairExplanation",
    "SynchronizationState",
    "explain_backend",
    "explain_pair",
    "frustrated_synchronization",
    "kuramoto_attention",
    "kuramoto_attention_weights",
    "order_parameter",
    "oscillator_attention",
    "oscillator_attention_weights",
    "rotary_drift",
    "selective_synchronization",
    "selective_synchronization_step",
    "selective_synchronization_weights",
    "wrap_phase",
]
