import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from syncattn.nn import SoftmaxAttention
from syncattn.nn.rotary import rotate
from tests.nn.battery import WIDTH, ModuleLaws


class TestSoftmaxAttention(ModuleLaws):
    def build(self):
        return SoftmaxAttention(WIDTH, 2)


def test_it_is_rotary_softmax_attention():
    module, x = SoftmaxAttention(8, 2), torch.randn(2, 5, 8)

    def heads(projection):
        return projection(x).unflatten(-1, (2, 4)).transpose(1, 2)

    query, key = (rotate(heads(p)) for p in (module.q_proj, module.k_proj))
    out = scaled_dot_product_attention(query, key, heads(module.v_proj), is_causal=True)
    expected = module.o_proj(out.transpose(1, 2).flatten(-2))
    torch.testing.assert_close(module(x, is_causal=True), expected)


def test_heads_must_be_even():
    with pytest.raises(ValueError, match=r"`hidden_size` must be a multiple of `2 \* num_heads`"):
        SoftmaxAttention(6, 2)


def test_an_unknown_mask_is_refused_with_the_names_of_the_others():
    with pytest.raises(TypeError, match=r"by `key_mask` .*, `attn_mask`, .*; got `attention_mask`"):
        SoftmaxAttention(8, 2)(torch.zeros(1, 3, 8), attention_mask=torch.ones(1, 3).bool())
