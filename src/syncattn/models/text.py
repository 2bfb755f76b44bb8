"""Text in, text out: bytes are the tokens."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from syncattn import _validation as check
from syncattn._typing import Int, Tensor
from syncattn.models.modeling import SyncAttnForCausalLM


def encode(text: str) -> Int[Tensor, "1 length"]:
    """Returns the UTF-8 bytes of a text as token numbers.

    Args:
        text: Any text.

    Returns:
        ``(1, length)``.

    Raises:
        TypeError: If it is not a text.
        ValueError: If it has half a character, as text of another encoding read as UTF-8 has.
    """
    check.require_instance(text, "text", str, "Decode it first.")
    try:
        spelled = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"`text` must hold whole characters; got {text[error.start]!r} at place {error.start}. "
            f"Decode it with the encoding that it is in."
        ) from None
    return torch.tensor([list(spelled)], dtype=torch.long)


def decode(tokens: Int[Tensor, " length"]) -> str:
    """Returns the text of token numbers; bytes that are not UTF-8 become U+FFFD.

    Args:
        tokens: ``(length,)``, each below 256.

    Returns:
        The text.
    """
    return bytes(tokens.tolist()).decode("utf-8", errors="replace")


def byte_tokenizer(max_length: int | None = None) -> PreTrainedTokenizerFast:
    """Returns the bytes as a tokenizer of Transformers, for pipelines, collators and harnesses.

    Token numbers are the bytes of the UTF-8 text, as `encode` gives them. Byte 0, which no text
    needs, begins, ends and pads; padding goes to the left.

    Args:
        max_length: Longest sequence of the model, for callers that ask; unlimited when None.

    Returns:
        The tokenizer; `save_pretrained` puts it beside a model.

    Raises:
        TypeError: If `max_length` is not an integer.
        ValueError: If it is smaller than 1.
    """
    spelled = _spelled_bytes()
    tokenizer = Tokenizer(models.BPE({letter: byte for byte, letter in enumerate(spelled)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    options: dict[str, Any] = {}
    if max_length is not None:
        check.require_integer(max_length, "max_length", minimum=1)
        options["model_max_length"] = max_length
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=spelled[0],
        eos_token=spelled[0],
        pad_token=spelled[0],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        **options,
    )


def _spelled_bytes() -> list[str]:
    """Returns the letter by which byte-level tokenizers spell each byte."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    moved = iter(range(256, 512))
    return [chr(byte if byte in plain else next(moved)) for byte in range(256)]


def generate_text(
    model: SyncAttnForCausalLM,
    prompt: str,
    *,
    max_new_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int | None = None,
    seed: int | None = None,
) -> str:
    """Returns the prompt and its continuation.

    Args:
        model: A model over bytes.
        prompt: At least one character.
        max_new_tokens: Bytes to add.
        temperature: Of the sampling; 0 takes the likeliest byte.
        top_k: Sample among so many likeliest bytes; all when None.
        seed: Seed of the sampling; None leaves the generator alone.

    Returns:
        Prompt and continuation.

    Raises:
        TypeError: If the prompt is not a text, or a count not an integer.
        ValueError: If the prompt is empty or a number is out of its range.
    """
    check.require_instance(prompt, "prompt", str, "Pass the beginning of a text.")
    if not prompt:
        raise ValueError("`prompt` must hold at least one character; got none. Give a beginning.")
    check.require_integer(max_new_tokens, "max_new_tokens", minimum=1)
    check.require_number(temperature, "temperature", minimum=0.0)
    if top_k is not None:
        check.require_integer(top_k, "top_k", minimum=1)
    if seed is not None:
        check.require_integer(seed, "seed", minimum=0)
        torch.manual_seed(seed)
    model.eval()
    input_ids = encode(prompt).to(model.device)
    sampling = {"do_sample": True, "temperature": temperature, "top_k": top_k or 0}
    generate: Any = getattr(model, "generate")  # noqa: B009, its stub asks for more than it needs
    out = generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=max_new_tokens,
        pad_token_id=0,
        **(sampling if temperature > 0 else {"do_sample": False}),
    )
    return decode(out[0])
