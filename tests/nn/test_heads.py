import torch
from torch.nn.functional import linear

from syncattn.nn.heads import HeadwiseLinear, merge_heads, split_heads


def test_heads_are_neighbouring_columns():
    x = torch.arange(24.0).reshape(1, 3, 8)
    split = split_heads(x, 2)
    assert split.shape == (1, 2, 3, 4)
    assert torch.equal(split[0, 1], x[0, :, 4:])
    assert split.data_ptr() == x.data_ptr()
    assert torch.equal(merge_heads(split), x)


def test_a_headwise_map_is_one_linear_map_per_head():
    module = HeadwiseLinear(3, 4, 5)
    with torch.no_grad():
        module.bias.normal_()
    x = torch.randn(2, 3, 6, 4)
    y = module(x)
    for head in range(3):
        expected = linear(x[:, head], module.weight[head].mT, module.bias.view(3, 5)[head])
        torch.testing.assert_close(y[:, head], expected)
