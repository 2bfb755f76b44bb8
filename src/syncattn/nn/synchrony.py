"""What a layer tells about its oscillators: weights, order parameter, locked pairs."""

from typing import NamedTuple

from syncattn._typing import Bool, Float, Tensor


class Synchrony(NamedTuple):
    """The dense picture of one layer.

    Attributes:
        weights: ``(batch, heads, queries, keys)``, rows sum to 1, or to 0 where nothing is seen.
        order_parameter: ``(batch, heads, queries)`` in [0, 1], NaN for a token that sees nothing;
            None without oscillators.
        locked: ``(batch, heads, queries, keys)``, pairs that lock or attract; None without
            oscillators.
    """

    weights: Float[Tensor, "batch heads queries keys"]
    order_parameter: Float[Tensor, "batch heads queries"] | None = None
    locked: Bool[Tensor, "batch heads queries keys"] | None = None
