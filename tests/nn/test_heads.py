import torch

from syncattn.nn.heads import merge_heads, split_heads


def test_heads_are_neighbouring_columns():
    x = torch.arange(24.0).reshape(1, 3, 8)
    split = split_heads(x, 2)
    assert split.shape == (1, 2, 3, 4)
    assert torch.equal(split[0, 1], x[0, :, 4:])
    assert split.data_ptr() == x.data_ptr()
    assert torch.equal(merge_heads(split), x)
