import pytest
import torch

from syncattn.nn import OscillatorAttention
from tests.nn.battery import WIDTH, ModuleLaws


class TestOscillatorAttention(ModuleLaws):
    def build(self):
        return OscillatorAttention(WIDTH, 2, max_positions=16, oscillator_dim=3)


class TestPublishedForm(ModuleLaws):
    def build(self):
        return OscillatorAttention(
            WIDTH, 2, max_positions=16, oscillator_dim=2, anchor_norm="free", rotary_base=None,
            bias=True,
        )  # fmt: skip


@pytest.mark.parametrize("coupling", ["softplus", "relu", "elu"])
@pytest.mark.parametrize("readout_power", [1, 2, 4])
def test_every_option_trains(coupling, readout_power):
    module = OscillatorAttention(
        8, 2, max_positions=9, coupling=coupling, readout_power=readout_power, anchor_norm="unit"
    )
    module(torch.randn(2, 9, 8), is_causal=True).square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in module.parameters())


def test_anchor_norms():
    for norm, low, high in (("unit", 1 - 1e-6, 1 + 1e-6), ("ball", 0.0, 1.0), ("free", 2.9, 3.1)):
        module = OscillatorAttention(8, 2, max_positions=9, anchor_norm=norm)
        with torch.no_grad():
            module.raw_anchor.mul_(3.0)
        size = module.anchor(5).norm(dim=-1)
        assert size.shape == (1, 2, 5)
        assert ((size >= low) & (size <= high)).all()
    fresh = OscillatorAttention(8, 2, max_positions=9).anchor(9).norm(dim=-1)
    torch.testing.assert_close(fresh, torch.full_like(fresh, 0.5**0.5))


@pytest.mark.parametrize("norm", ["unit", "ball", "free"])
def test_vanishing_anchors_keep_gradients_finite(norm):
    module = OscillatorAttention(8, 2, max_positions=9, anchor_norm=norm)
    with torch.no_grad():
        module.raw_anchor.mul_(1e-20)
    module(torch.randn(2, 9, 8), is_causal=True).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    with torch.no_grad():
        module.raw_anchor.zero_()
    with pytest.raises(ValueError, match="`anchor` must have vectors of length above 0"):
        module(torch.randn(2, 9, 8), is_causal=True)


def test_a_sequence_longer_than_the_table_is_refused():
    module = OscillatorAttention(8, 2, max_positions=4)
    with pytest.raises(ValueError, match=r"`max_positions` must be at least the length .*got 4"):
        module(torch.randn(1, 5, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, r"`hidden_size` must be a multiple of `2 \* num_heads`"),
        ({"max_positions": 0}, "`max_positions` must be at least 1"),
        ({"oscillator_dim": 1}, "`oscillator_dim` must be at least 2"),
        ({"readout_power": 3}, "`readout_power` must be one of 1, 2, 4; got 3"),
        ({"anchor_norm": "cube"}, "`anchor_norm` must be one of 'ball', 'unit', 'free'"),
        ({"coupling": "exp"}, "`coupling` must be one of 'softplus', 'relu', 'elu'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OscillatorAttention(8, **({"num_heads": 2, "max_positions": 4} | options))
