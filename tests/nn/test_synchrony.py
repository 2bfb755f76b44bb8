import torch

from syncattn.nn import SoftmaxAttention, Synchrony


def test_a_mechanism_without_oscillators_has_weights_alone():
    picture = SoftmaxAttention(4, 1).synchrony(torch.randn(1, 3, 4))
    assert isinstance(picture, Synchrony)
    assert picture.order_parameter is None
    assert picture.locked is None
    weights, order_parameter, locked = picture
    assert weights.shape == (1, 1, 3, 3)
    assert order_parameter is locked is None
