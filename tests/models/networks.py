"""Small networks of every mechanism and batches for them."""

import pytest
import torch

from syncattn.models import MECHANISMS, SyncAttnConfig, SyncAttnForCausalLM

VOCABULARY = 23
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2,
         "num_attention_heads": 2, "max_position_embeddings": 24,
         "initializer_range": 0.25}  # fmt: skip
"""The default lets the blocks of a Euclidean stream add little at first; a leak must show here."""
KINDS = [(mechanism, "swiglu") for mechanism in MECHANISMS] + [
    ("softmax", "none"),
    ("kuramoto", "mean-field"),
    ("frustrated", "mean-field"),
    ("frustrated", "none"),
]
EVERY_KIND = pytest.mark.parametrize(("mechanism", "feedforward"), KINDS)
EVERY_MECHANISM = pytest.mark.parametrize("mechanism", MECHANISMS)


def config(mechanism, **options):
    return SyncAttnConfig(mechanism=mechanism, **(SIZES | options))


def build(mechanism, feedforward="swiglu", **options):
    torch.manual_seed(0)
    return SyncAttnForCausalLM(config(mechanism, feedforward=feedforward, **options)).eval()


def tokens(batch=2, length=9, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (batch, length), generator=generator)


def left_padded(ids, padding):
    """Returns the batch with its second sequence cut and padded on the left, and the mask."""
    short = ids[1:, : ids.shape[1] - padding]
    batch = torch.cat([ids[:1], torch.cat([torch.zeros_like(ids[1:, :padding]), short], 1)])
    mask = torch.ones_like(batch)
    mask[1, :padding] = 0
    return batch, mask


def right_padded(ids, padding):
    """Returns the batch with its second sequence cut and padded on the right, and the mask."""
    batch, mask = ids.clone(), torch.ones_like(ids)
    batch[1, -padding:] = 0
    mask[1, -padding:] = 0
    return batch, mask
