import math

import pytest
import torch
from torch.nn.functional import silu

from syncattn.nn import MeanFieldCoupling, PhaseSwiGLU, SwiGLU
from syncattn.nn.phase_features import PHASE_FEATURES
from tests.tolerance import assert_same


@pytest.mark.parametrize("layer", [PhaseSwiGLU, MeanFieldCoupling])
def test_unknown_features_are_refused(layer):
    with pytest.raises(ValueError, match="`features` must be one of"):
        layer(4, 6, features="tangent")


def test_phase_swiglu_is_swiglu_of_its_features():
    module, theta = PhaseSwiGLU(4, 6), torch.randn(2, 3, 4)
    w1, w2, w3 = (p.weight for p in (module.gate_proj, module.up_proj, module.down_proj))
    f = torch.sin(theta + module.features.offset)
    torch.testing.assert_close(module(theta), (silu(f @ w1.T) * (f @ w2.T)) @ w3.T)


def test_swiglu_by_hand():
    module, x = SwiGLU(4, 6), torch.randn(2, 3, 4)
    w1, w2, w3 = (p.weight for p in (module.gate_proj, module.up_proj, module.down_proj))
    torch.testing.assert_close(module(x), (silu(x @ w1.T) * (x @ w2.T)) @ w3.T)


@pytest.mark.parametrize("features", PHASE_FEATURES)
@pytest.mark.parametrize("layer", [PhaseSwiGLU, MeanFieldCoupling])
def test_whole_turns_change_nothing(layer, features):
    module = layer(4, 6, features=features).double()
    phase = torch.randn(2, 3, 4, dtype=torch.float64)
    turned = phase + 2 * math.pi * torch.randint(-3, 4, phase.shape).double()
    assert_same(module(turned), module(phase), 1e-11)


@pytest.mark.parametrize("gated", [True, False])
def test_mean_field_by_complex_numbers(gated):
    module = MeanFieldCoupling(4, 6, gated=gated, features="cosine-sine").double()
    theta = torch.randn(2, 3, 4, dtype=torch.float64)
    feature = torch.cat([theta.cos(), theta.sin()], -1)
    gate = silu(module.gate_proj(feature)) if gated else 1.0
    u, v = module.mode_proj.weight.chunk(2, -1)
    # Re Z = Σ (u cos θ + v sin θ) is the real part of (u - iv) e^{iθ}.
    z = torch.exp(1j * theta) @ torch.complex(u, -v).mT
    real, imaginary = module.down_proj.weight.chunk(2, 0)
    field = (gate * z) @ torch.complex(real, imaginary).mT
    assert_same(module(theta), (torch.exp(-1j * theta) * field).imag)


class Adapted(torch.nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base
        self.weight, self.in_features = base.weight, base.in_features
        self.extra = torch.nn.Parameter(torch.randn_like(base.weight))

    def forward(self, x):
        return self.base(x) + x @ self.extra.mT


@pytest.mark.parametrize("name", ["mode_proj", "gate_proj", "down_proj"])
def test_an_adapter_around_a_projection_of_the_mean_field_counts(name):
    module, theta = MeanFieldCoupling(4, 6), torch.randn(2, 3, 4)
    plain = module(theta)
    adapter = Adapted(getattr(module, name))
    setattr(module, name, adapter)
    assert (module(theta) - plain).abs().max() > 1e-3
    with torch.no_grad():
        adapter.weight.add_(adapter.extra)
    adapted = MeanFieldCoupling(4, 6)
    state = {k: v for k, v in module.state_dict().items() if "extra" not in k and "base" not in k}
    adapted.load_state_dict(state)
    with torch.no_grad():
        adapter.weight.sub_(adapter.extra)
    assert_same(module(theta), adapted(theta), 1e-5)


def test_one_angle_added_to_all_oscillators_leaves_the_ungated_field_as_it_is():
    module = MeanFieldCoupling(4, 6, gated=False).double()
    theta = torch.randn(2, 3, 4, dtype=torch.float64)
    assert_same(module(theta + 0.7), module(theta))
    assert module(theta).any()


def test_the_phase_feed_forward_by_hand():
    module, theta = PhaseSwiGLU(4, 6, features="cosine-sine"), torch.randn(2, 3, 4)
    x = torch.cat([theta.cos(), theta.sin()], -1)
    w1, w2, w3 = (p.weight for p in (module.gate_proj, module.up_proj, module.down_proj))
    torch.testing.assert_close(module(theta), (silu(x @ w1.T) * (x @ w2.T)) @ w3.T)


@pytest.mark.parametrize("layer", [SwiGLU, PhaseSwiGLU, MeanFieldCoupling])
def test_tokens_do_not_mix_and_all_parameters_learn(layer):
    module, x = layer(4, 6), torch.randn(1, 3, 4)
    changed = x.clone()
    changed[:, 1] += 1.0
    before, after = module(x), module(changed)
    assert torch.equal(after[:, ::2], before[:, ::2])
    assert not torch.equal(after[:, 1], before[:, 1])
    before.square().sum().backward()
    assert all(p.grad.any() for p in module.parameters())


@pytest.mark.parametrize("layer", [SwiGLU, PhaseSwiGLU, MeanFieldCoupling])
def test_a_width_of_zero_is_refused(layer):
    with pytest.raises(ValueError, match="`intermediate_size` must be at least 1; got 0"):
        layer(4, 0)
