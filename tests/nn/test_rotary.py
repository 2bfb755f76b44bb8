import torch

from syncattn.nn.rotary import rotate
from tests.tolerance import assert_same


def test_planes_turn_with_the_place():
    x = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, 1, 3, 4)
    out = rotate(x, base=100.0)[0, 0]
    t = torch.arange(3.0)
    expected = torch.stack([t.cos(), (t / 10).cos(), t.sin(), (t / 10).sin()], -1)
    torch.testing.assert_close(out, expected)


def test_inner_products_know_differences_of_place_alone():
    q, k = (torch.randn(1, 2, 4, 6, dtype=torch.float64) for _ in range(2))
    here = rotate(q) @ rotate(k).mT
    there = rotate(q, offset=50) @ rotate(k, offset=50).mT
    assert_same(there, here, 1e-5)


def test_an_offset_is_a_place_in_a_longer_sequence():
    x = torch.randn(1, 1, 6, 4)
    torch.testing.assert_close(rotate(x[:, :, 4:], offset=4), rotate(x)[:, :, 4:])


def test_norms_stay():
    x = torch.randn(1, 1, 300, 4)
    torch.testing.assert_close(rotate(x).norm(dim=-1), x.norm(dim=-1))
    assert rotate(x.bfloat16()).dtype == torch.bfloat16
