"""The fast forms: the same names as the definitions, private, only tensors."""

from syncattn.kernels.frustrated_synchronization import frustrated_synchronization
from syncattn.kernels.kuramoto_attention import kuramoto_attention
from syncattn.kernels.scaled_dot_product import attend
from syncattn.kernels.selective_synchronization import (
    EDGE_FLOOR,
    Method,
    selective_synchronization,
)
from syncattn.kernels.selective_synchronization_fused import fuse

__all__ = [
    "EDGE_FLOOR",
    "Method",
    "attend",
    "frustrated_synchronization",
    "fuse",
    "kuramoto_attention",
    "selective_synchronization",
]
