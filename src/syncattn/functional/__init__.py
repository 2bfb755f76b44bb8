"""The operators: what users call; documents, validates, chooses a backend."""

from syncattn.functional.frustrated_synchronization import frustrated_synchronization
from syncattn.functional.kuramoto_attention import kuramoto_attention, kuramoto_attention_weights
from syncattn.functional.oscillator_attention import (
    oscillator_attention,
    oscillator_attention_weights,
)
from syncattn.functional.oscillator_diagnostics import SettlingDiagnostics, settling_diagnostics
from syncattn.functional.oscillator_settling import initial_oscillators, settle, settling_mode
from syncattn.functional.oscillator_state import OscillatorState, oscillator_attention_step
from syncattn.functional.oscillators import order_parameter, rotary_drift, wrap_phase
from syncattn.functional.phase_drift import phase_drift
from syncattn.functional.phase_energy import phase_energy
from syncattn.functional.phase_state import (
    PhaseState,
    frustrated_synchronization_step,
    kuramoto_attention_step,
)
from syncattn.functional.phase_transition import phase_transition
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
    "OscillatorState",
    "PairExplanation",
    "PhaseState",
    "SettlingDiagnostics",
    "SynchronizationState",
    "explain_backend",
    "explain_pair",
    "frustrated_synchronization",
    "frustrated_synchronization_step",
    "initial_oscillators",
    "kuramoto_attention",
    "kuramoto_attention_step",
    "kuramoto_attention_weights",
    "order_parameter",
    "oscillator_attention",
    "oscillator_attention_step",
    "oscillator_attention_weights",
    "phase_drift",
    "phase_energy",
    "phase_transition",
    "rotary_drift",
    "selective_synchronization",
    "selective_synchronization_step",
    "selective_synchronization_weights",
    "settle",
    "settling_diagnostics",
    "settling_mode",
    "wrap_phase",
]
