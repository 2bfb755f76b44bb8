"""Byte pairs: a tokenizer learned from the training text alone."""

from __future__ import annotations

from typing import Any

from syncattn import _validation as check

__all__ = ["train_bpe"]


def train_bpe(text: str, *, vocabulary_size: int) -> Any:
    """Returns a byte-level tokenizer of byte pairs learned from a text.

    Args:
        text: The training text.
        vocabulary_size: Number of tokens, the 256 bytes included.

    Returns:
        A `tokenizers.Tokenizer`; every text can be encoded and comes back the same.

    Raises:
        TypeError: If `vocabulary_size` is not an integer.
        ValueError: If it is below 256.
        ModuleNotFoundError: If `tokenizers` is not installed.

    References:
        | Neural Machine Translation of Rare Words with Subword Units (Sennrich et al., 2016)
    """
    check.require_integer(vocabulary_size, "vocabulary_size", minimum=256)
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer
