import pytest
import torch
from torch import nn
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

from syncattn.models.foreign import masks, read_attention
from tests.models.foreign_networks import EVERY_FAMILY, network


@EVERY_FAMILY
def test_self_attention_is_found_and_nothing_else(family):
    found = [read for x in network(family).modules() if (read := read_attention(x)) is not None]
    assert [read.layer_idx for read in found] == [0, 1]
    for read in found:
        assert read.family == family
        assert read.is_causal == (family != "bert")
        assert read.rotary_base == (10_000.0 if family == "llama" else None)
        assert ("o_proj" in read.projections) == (family != "bert")
        for projection in read.projections.values():
            assert projection.weight.shape == (16, 16)


def test_cross_attention_is_none():
    config = network("gpt2").config
    assert read_attention(GPT2Attention(config, is_cross_attention=True)) is None
    assert read_attention(nn.Linear(2, 2)) is None


def causal(real):
    length = real.shape[1]
    return (real[:, None, None] & torch.ones(length, length).bool().tril()).clone()


def test_plain_masks_become_padding():
    real = torch.tensor([[True, True, True], [False, True, True]])
    full = causal(real)
    additive = torch.where(full, 0.0, torch.finfo(torch.float32).min)
    for mask in (real, real.long(), full, additive):
        key_mask, rest = masks(mask, 3, 2, True)
        assert torch.equal(key_mask, real)
        assert rest is None
    key_mask, rest = masks(full[:, :, -1:], 1, 2, True)
    assert torch.equal(key_mask, real)
    assert rest is None
    everything = torch.ones(2, 3).bool()
    for mask in (None, everything, causal(everything)):
        assert masks(mask, 3, 2, True) == (None, None)
    assert masks(torch.ones(1, 1, 3, 3).bool(), 3, 2, False) == (None, None)


def test_packed_rows_and_windows_stay_whole():
    segment = torch.tensor([0, 0, 1])
    packed = (segment[:, None] == segment)[None, None] & torch.ones(3, 3).bool().tril()
    key_mask, rest = masks(packed, 3, 2, True)
    assert key_mask is None
    assert torch.equal(rest, packed.expand(2, -1, -1, -1))
    per_head = torch.ones(1, 2, 3, 3).bool().tril()
    assert masks(per_head, 3, 1, True)[1] is not None


def test_other_masks_are_refused():
    for mask in ("causal", torch.ones(3)):
        with pytest.raises(TypeError, match="`attention_mask` must be None or a tensor of rank"):
            masks(mask, 3, 2, True)
