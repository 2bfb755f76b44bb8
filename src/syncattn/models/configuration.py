"""One PretrainedConfig for every mechanism."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from syncattn import _validation as check
from syncattn.nn.phase_features import PHASE_FEATURES

EUCLIDEAN = ("softmax", "selective", "oscillator")
TORUS = ("kuramoto", "frustrated")
MECHANISMS = EUCLIDEAN + TORUS
FEEDFORWARDS = ("swiglu", "mean-field", "none")
POOLINGS = ("mean", "last")


class SyncAttnConfig(PreTrainedConfig):
    r"""The configuration of a network of one mechanism.

    Args:
        mechanism: ``"softmax"``, ``"selective"``, ``"oscillator"``, ``"kuramoto"`` or
            ``"frustrated"``.
        vocab_size: Number of tokens.
        hidden_size: Width of the stream, or number of phases of a token.
        num_hidden_layers: Number of blocks.
        num_attention_heads: Number of heads; divides `hidden_size`.
        intermediate_size: Width of the feed-forward, or number of collective modes;
            ``4 * hidden_size`` when None.
        max_position_embeddings: Longest sequence.
        feedforward: ``"swiglu"``, ``"mean-field"`` (torus only) or ``"none"``.
        phase_features: What it reads of phases (torus only): ``"sine"`` with learned offsets, or
            ``"cosine-sine"``; see `syncattn.nn.PhaseFeatures`.
        attention_options: Keyword arguments of the mechanism's module in `syncattn.nn`.
        initializer_range: Standard deviation of projections; one over the root of the fan-in when
            None.
        phase_embedding_std: Spread of the phase table in radians (torus only).
        rms_norm_eps: Epsilon of the norms.
        is_causal: Whether a token sees those before it alone. False suits classification; a
            language model must be causal.
        pooling: How a classifier sums up a sequence: ``"mean"`` of the real tokens, or the
            ``"last"`` real one.
        feature_size: Numbers of one frame; the network then takes `input_features` in place of
            tokens. None for tokens.
        **kwargs: Everything a `PreTrainedConfig` takes, such as `tie_word_embeddings`.

    Raises:
        TypeError: If a value is of another type than its default.
        ValueError: If a count is smaller than 1, a number negative, heads do not divide, or a
            choice is unknown.
    """

    model_type = "syncattn"

    def __init__(
        self,
        mechanism: str = "softmax",
        vocab_size: int = 256,
        hidden_size: int = 128,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        intermediate_size: int | None = None,
        max_position_embeddings: int = 1024,
        feedforward: str = "swiglu",
        phase_features: str = "sine",
        attention_options: dict[str, Any] | None = None,
        initializer_range: float | None = None,
        phase_embedding_std: float = 0.7,
        rms_norm_eps: float = 1e-6,
        is_causal: bool = True,
        pooling: str = "mean",
        feature_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        check.require_choice(mechanism, "mechanism", MECHANISMS)
        check.require_choice(feedforward, "feedforward", FEEDFORWARDS)
        check.require_choice(phase_features, "phase_features", PHASE_FEATURES)
        check.require_choice(pooling, "pooling", POOLINGS)
        if feature_size is not None:
            check.require_integer(feature_size, "feature_size", minimum=1)
        if attention_options is not None:
            remedy = "Pass keyword arguments of the mechanism's module."
            check.require_instance(attention_options, "attention_options", dict, remedy)
        check.require_integer(hidden_size, "hidden_size", minimum=1)
        if intermediate_size is None:
            intermediate_size = 4 * hidden_size
        for name, number in {
            "initializer_range": 0.0 if initializer_range is None else initializer_range,
            "phase_embedding_std": phase_embedding_std,
            "rms_norm_eps": rms_norm_eps,
        }.items():
            check.require_number(number, name, minimum=0.0)
        check.require_flag(is_causal, "is_causal")
        for name, count in {
            "vocab_size": vocab_size,
            "num_hidden_layers": num_hidden_layers,
            "num_attention_heads": num_attention_heads,
            "intermediate_size": intermediate_size,
            "max_position_embeddings": max_position_embeddings,
        }.items():
            check.require_integer(count, name, minimum=1)
        check.require_divisible(
            hidden_size, "hidden_size", num_attention_heads, "num_attention_heads"
        )
        if feedforward == "mean-field" and mechanism not in TORUS:
            raise ValueError(
                f"`feedforward` 'mean-field' couples phases and must come with a mechanism on the "
                f"torus; got {mechanism!r}. Use one of {', '.join(TORUS)}, or 'swiglu'."
            )
        self.mechanism = mechanism
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.max_position_embeddings = max_position_embeddings
        self.feedforward = feedforward
        self.phase_features = phase_features
        self.attention_options = dict(attention_options or {})
        self.initializer_range = initializer_range
        self.phase_embedding_std = phase_embedding_std
        self.rms_norm_eps = rms_norm_eps
        self.is_causal = is_causal
        self.pooling = pooling
        self.feature_size = feature_size
        kwargs.setdefault("tie_word_embeddings", mechanism in EUCLIDEAN and feature_size is None)
        if kwargs["tie_word_embeddings"] and mechanism in TORUS:
            raise ValueError(
                f"`tie_word_embeddings` must be False on the torus, where the table holds phases "
                f"and the read-out cosines and sines; got True for {mechanism!r}. Leave it out."
            )
        kwargs.setdefault("use_cache", True)
        super().__init__(**kwargs)

    @property
    def on_torus(self) -> bool:
        """True when the stream holds phases."""
        return self.mechanism in TORUS

    @property
    def readout_size(self) -> int:
        """Width of what a head reads: cosines and sines on the torus."""
        return 2 * self.hidden_size if self.on_torus else self.hidden_size
