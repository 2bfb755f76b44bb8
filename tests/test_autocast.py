import torch

from syncattn._autocast import autocast_dtype, without_autocast


def test_products_keep_their_dtype_inside():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        assert autocast_dtype(x) == torch.bfloat16
        with without_autocast(x):
            assert (x @ x).dtype == torch.float32
            assert autocast_dtype(x) is None
    assert autocast_dtype(x) is None


def test_a_device_without_autocast_has_none():
    x = torch.ones(2, 2, device="meta")
    assert autocast_dtype(x) is None
    with without_autocast(x):
        assert (x @ x).dtype == torch.float32
