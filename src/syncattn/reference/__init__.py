"""The definition: dense, exact in float64, one equation per line, torch alone."""

from syncattn.reference.frustrated_synchronization import (
    frustrated_synchronization,
    frustrated_synchronization_coupling,
)
from syncattn.reference.kuramoto_attention import (
    kuramoto_attention,
    kuramoto_attention_energy,
    kuramoto_attention_weights,
)
from syncattn.reference.oscillator_attention import (
    drive,
    equilibrium,
    oscillator_attention,
    oscillator_attention_weights,
    settled,
)
from syncattn.reference.selective_synchronization import (
    PAPER_EPSILON,
    paper_synchronization,
    row_order_parameter,
    selective_synchronization,
    synchronization,
    synchronization_weights,
)

__all__ = [
    "PAPER_EPSILON",
    "drive",
    "equilibrium",
    "frustrated_synchronization",
    "frustrated_synchronization_coupling",
    "kuramoto_attention",
    "kuramoto_attention_energy",
    "kuramoto_attention_weights",
    "oscillator_attention",
    "oscillator_attention_weights",
    "paper_synchronization",
    "row_order_parameter",
    "selective_synchronization",
    "settled",
    "synchronization",
    "synchronization_weights",
]
