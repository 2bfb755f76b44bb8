"""The fast forms: the same names as the definitions, private, only tensors."""

from syncattn.kernels.compiled import fuse, fused
from syncattn.kernels.frustrated_synchronization import (
    frustrated_synchronization,
    frustrated_synchronization_dense,
)
from syncattn.kernels.kuramoto_attention import kuramoto_attention
from syncattn.kernels.oscillator_attention import (
    COUPLING_KINDS,
    oscillator_drive,
    oscillator_readout,
)
from syncattn.kernels.scaled_dot_product import attend
from syncattn.kernels.selective_synchronization import (
    EDGE_FLOOR,
    Method,
    selective_synchronization,
)
from syncattn.kernels.triton_availability import triton_requirements, with_triton

__all__ = [
    "COUPLING_KINDS",
    "EDGE_FLOOR",
    "Method",
    "attend",
    "frustrated_synchronization",
    "frustrated_synchronization_dense",
    "fuse",
    "fused",
    "kuramoto_attention",
    "oscillator_drive",
    "oscillator_readout",
    "selective_synchronization",
    "triton_requirements",
    "with_triton",
]
