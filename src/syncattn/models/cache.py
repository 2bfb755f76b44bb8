"""The cache of every mechanism, as Transformers' generation moves it about."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from syncattn import _validation as check
from syncattn._typing import Int, Tensor
from syncattn.nn.decoding import DecodingState


class SyncAttnCacheLayer(CacheLayerMixin):
    """The state of one layer.

    Attributes:
        state: What the layer's last step returned; None before the first.
        record_past: Whether the state keeps all that `crop` needs; see `activate_past_recording`.
    """

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.state: DecodingState | None = None
        self.record_past = False

    def activate_past_recording(self) -> None:
        """Keeps from the first token on all that `crop` needs.

        Oscillator attention at power 1 decodes from running sums, which cannot be cropped; it then
        keeps the values too. The other mechanisms can always be cropped. Once tokens are there it
        is too late, and nothing changes.
        """
        self.record_past = self.record_past or self.state is None

    @property
    def is_croppable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True unless running sums stand for what is gone."""
        return self.state is None or getattr(self.state, "value", self.state) is not None

    def get_seq_length(self) -> int:
        """Returns the number of tokens so far, padding included."""
        return 0 if self.state is None else self.state.length

    def get_max_length(self) -> int:
        """Returns -1: the layer grows as long as the model allows."""
        return -1

    # The name of the same in older releases of Transformers.
    get_max_cache_shape = get_max_length

    def get_mask_sizes(self, query_length: Any) -> tuple[int, int]:
        """Returns the number of keys that the next tokens see, and 0, the first of them.

        Args:
            query_length: Number of the next tokens.
        """
        return self.get_seq_length() + int(query_length), 0

    def lazy_initialization(self, *_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Does nothing: a state begins with the first step."""

    def update(self, *_: Any, **__: Any) -> Any:
        """Refuses keys and values of a foreign attention.

        Args:
            *_: Keys and values.
            **__: More of them.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            "A SyncAttnCache must be filled by the steps of this package's layers; got keys and "
            "values of another attention. Use a DynamicCache there."
        )

    def reset(self) -> None:
        """Forgets the past."""
        self.state = None

    def reorder_cache(self, beam_idx: Int[Tensor, " beams"]) -> None:
        """Lets every sequence go on from another, as beam search does.

        Args:
            beam_idx: The sequence that each continues.
        """
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Int[Tensor, " chosen"]) -> None:
        """Keeps some sequences of the batch.

        Args:
            indices: Which, in their order.
        """
        if self.state is not None:
            # One index serves the layers of every device.
            _, device = _batch_of(self.state)
            self.state = self.state.select(indices.to(device))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeats every sequence of the batch.

        Args:
            repeats: How many times.
        """
        if self.state is not None:
            size, device = _batch_of(self.state)
            index = torch.arange(size, device=device)
            self.state = self.state.select(index.repeat_interleave(repeats))

    def crop(self, tokens_to_remove: int) -> None:
        """Forgets the last tokens.

        Args:
            tokens_to_remove: Minus their number; a positive number is what to keep at most, as in
                older releases of Transformers. 0 does nothing.

        Raises:
            RuntimeError: If the state keeps running sums alone.
        """
        length = self.get_seq_length()
        kept = length + tokens_to_remove if tokens_to_remove <= 0 else tokens_to_remove
        if kept <= 0:
            self.reset()
        elif self.state is not None and kept < length:
            try:
                self.state = self.state.crop(kept)
            except RuntimeError as error:
                raise RuntimeError(
                    "The cache must record the past to be cropped; got running sums alone. Call "
                    "`activate_past_recording()` on a SyncAttnCache before its first token."
                ) from error

    def offload(self) -> None:
        """Leaves the state where it is: it moves with the model alone."""

    def prefetch(self) -> None:
        """Does nothing, see `offload`."""


class SyncAttnCache(Cache):
    """What all layers keep of the past; `generate` makes, reorders, crops and returns it.

    Args:
        num_layers: Number of layers of the model.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is smaller than 1.
    """

    def __init__(self, num_layers: int) -> None:
        check.require_integer(num_layers, "num_layers", minimum=1)
        super().__init__(layers=[SyncAttnCacheLayer() for _ in range(num_layers)])

    def activate_past_recording(self) -> None:
        """Keeps from the first token on all that `crop` needs; see the layer's method."""
        for number in range(len(self.layers)):
            self._layer(number).activate_past_recording()

    def record_past(self, layer: int) -> bool:
        """Returns whether a layer keeps all that `crop` needs.

        Args:
            layer: Its number, from 0.
        """
        return self._layer(layer).record_past

    def state(self, layer: int) -> DecodingState | None:
        """Returns the state of one layer, None before the first step.

        Args:
            layer: Its number, from 0.
        """
        return self._layer(layer).state

    def set_state(self, layer: int, state: DecodingState) -> None:
        """Replaces the state of one layer.

        Args:
            layer: Its number, from 0.
            state: What its last step returned.
        """
        self._layer(layer).state = state

    def _layer(self, layer: int) -> SyncAttnCacheLayer:
        found = self.layers[layer]
        assert isinstance(found, SyncAttnCacheLayer)
        return found


def cache_to_fill(
    given: Cache | None, use_cache: bool | None, *, num_layers: int, can_decode: bool
) -> SyncAttnCache | None:
    """Returns the cache that a network fills, a new one in place of an empty one of another kind.

    Args:
        given: What the caller passed; used whatever `use_cache` says.
        use_cache: Whether to start one where none is given.
        num_layers: Blocks of the network.
        can_decode: Whether all of them can go on from a state.

    Raises:
        ValueError: If a cache is given to a network that cannot decode, has another number of
            layers, or holds what another network filled in.
    """
    if given is None:
        return SyncAttnCache(num_layers) if use_cache and can_decode else None
    if not can_decode:
        raise ValueError(
            f"`past_key_values` must be None for a network that looks ahead or whose layers have "
            f"no step; got a {type(given).__name__}. Leave it out, or build the network with "
            f"is_causal=True."
        )
    if isinstance(given, SyncAttnCache):
        if len(given) != num_layers:
            raise ValueError(
                f"`past_key_values` must have one layer per block; got {len(given)} layers and "
                f"{num_layers} blocks. Start with None."
            )
        return given
    if given.get_seq_length():
        raise ValueError(
            f"`past_key_values` must be a SyncAttnCache; got a filled {type(given).__name__}, "
            f"which holds keys and values alone. Start with None."
        )
    return SyncAttnCache(num_layers)


def _batch_of(state: Any) -> tuple[int, torch.device]:
    """Returns the size of the batch and the device of a state, a tuple of tensors."""
    for field in state:
        if isinstance(field, torch.Tensor) and field.dim() > 0:
            return field.shape[0], field.device
    raise TypeError(f"The state must hold a tensor; got a {type(state).__name__} without one.")
