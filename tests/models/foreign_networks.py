"""Small random networks of other families, built on the spot."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

VOCABULARY, LENGTH = 31, 9


def bert(**options):
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32, **options,
    )  # fmt: skip
    return BertForMaskedLM(config)


def gpt2(**options):
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=1,
        eos_token_id=None, pad_token_id=0, **options,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def llama(**options):
    sizes = {"num_key_value_heads": 2} | options
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=32, max_position_embeddings=32, bos_token_id=1, eos_token_id=None,
        pad_token_id=0, **sizes,
    )  # fmt: skip
    return LlamaForCausalLM(config)


FAMILIES = {"bert": bert, "gpt2": gpt2, "llama": llama}
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
CAUSAL_FAMILIES = pytest.mark.parametrize("family", ["gpt2", "llama"])
EVERY_KIND = pytest.mark.parametrize("implementation", ["sdpa", "eager"])


def network(family, **options):
    torch.manual_seed(0)
    model = FAMILIES[family](**options).eval()
    with torch.no_grad():
        # Large enough weights that a mistake would show, and biases that are not 0.
        for name, parameter in model.named_parameters():
            if "norm" not in name.lower() and "ln_" not in name:
                parameter.normal_(std=0.2)
    return model


def ids(batch=2, length=LENGTH, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, VOCABULARY, (batch, length), generator=generator)
