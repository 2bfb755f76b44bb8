"""Attention by synchronization: attention whose weights come from coupled oscillators."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncattn import functional, nn, reference
    from syncattn._backends import BackendUnavailableError
    from syncattn.functional import (
        OscillatorState,
        PhaseState,
        SynchronizationState,
        explain_backend,
        explain_pair,
        frustrated_synchronization,
        frustrated_synchronization_step,
        kuramoto_attention,
        kuramoto_attention_step,
        order_parameter,
        oscillator_attention,
        oscillator_attention_step,
        selective_synchronization,
        selective_synchronization_step,
        wrap_phase,
    )
    from syncattn.kernels import fuse
    from syncattn.nn import (
        FrustratedSynchronization,
        KuramotoAttention,
        OscillatorAttention,
        SelectiveSynchronization,
    )

__version__ = version("syncattn")

_FLOORS = ("functional", "nn", "reference")
_HOMES = ("functional", "nn", "kernels", "_backends")
_MODELS = (
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
)

__all__ = [
    "BackendUnavailableError",
    "FrustratedSynchronization",
    "KuramotoAttention",
    "OscillatorAttention",
    "OscillatorState",
    "PhaseState",
    "SelectiveSynchronization",
    "SynchronizationState",
    "explain_backend",
    "explain_pair",
    "frustrated_synchronization",
    "frustrated_synchronization_step",
    "functional",
    "fuse",
    "kuramoto_attention",
    "kuramoto_attention_step",
    "nn",
    "order_parameter",
    "oscillator_attention",
    "oscillator_attention_step",
    "reference",
    "selective_synchronization",
    "selective_synchronization_step",
    "wrap_phase",
]


def __getattr__(name: str) -> Any:
    """Loads a name on demand: torch takes seconds, and the models need transformers."""
    if name in _MODELS:
        try:
            return getattr(import_module("syncattn.models"), name)
        except ModuleNotFoundError as error:
            raise ImportError(
                f"`syncattn.{name}` needs transformers, which is not installed ({error}). "
                f"Install the extra: pip install 'syncattn[models]'."
            ) from error
    if name not in __all__:
        raise AttributeError(f"module 'syncattn' has no attribute {name!r}")
    if name in _FLOORS:
        return import_module(f"syncattn.{name}")
    homes = (import_module(f"syncattn.{home}") for home in _HOMES)
    found = next(getattr(home, name) for home in homes if hasattr(home, name))
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODELS})
