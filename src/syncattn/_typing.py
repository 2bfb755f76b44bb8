"""The vocabulary of axis names and the tensor aliases built from it."""

from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

__all__ = [
    "AttentionMask",
    "Bool",
    "Complex",
    "Float",
    "Int",
    "KeyMask",
    "Keys",
    "Order",
    "Queries",
    "Tensor",
    "Values",
    "Weights",
]

Queries = Float[Tensor, "batch heads queries dim"]
Keys = Float[Tensor, "batch heads keys dim"]
Values = Float[Tensor, "batch heads keys value_dim"]
Weights = Float[Tensor, "batch heads queries keys"]
Order = Float[Tensor, "batch heads queries"]
AttentionMask = Bool[Tensor, "*#batch #queries #keys"]
KeyMask = Bool[Tensor, "batch keys"]
