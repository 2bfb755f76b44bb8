import pytest
import torch

from syncattn import nn as sync_nn
from syncattn.benchmarks.controls_weights import (
    MixedBy,
    Silent,
    fixed_rule,
    identity_rule,
    mean_rule,
)

LAYERS = {
    "softmax": lambda: sync_nn.SoftmaxAttention(16, 2),
    "selective": lambda: sync_nn.SelectiveSynchronization(16, 2),
    "oscillator": lambda: sync_nn.OscillatorAttention(16, 2, max_positions=32),
    "kuramoto": lambda: sync_nn.KuramotoAttention(16, 2),
    "frustrated": lambda: sync_nn.FrustratedSynchronization(16, 2),
}
ANGLES = ("kuramoto", "frustrated")


@pytest.fixture(params=LAYERS)
def named(request):
    torch.manual_seed(1)
    return request.param, LAYERS[request.param]()


def stream(length=10):
    return torch.randn(2, length, 16)


class Given(torch.nn.Module):
    """A rule that says what a layer itself said."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, visible):
        return self.weights


@pytest.mark.parametrize("is_causal", [True, False])
def test_with_its_own_weights_a_layer_is_itself(named, is_causal):
    _, layer = named
    x = stream()
    weights = layer.synchrony(x, is_causal=is_causal).weights
    mixed = MixedBy(layer, Given(weights))(x, is_causal=is_causal)
    torch.testing.assert_close(mixed, layer(x, is_causal=is_causal), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("rule", ["identity", "fixed", "mean"])
@pytest.mark.parametrize("is_causal", [True, False])
def test_rules_depend_on_what_is_visible_alone(named, rule, is_causal):
    name, layer = named
    rules = {"identity": identity_rule(), "mean": mean_rule(),
             "fixed": fixed_rule(2, 32, layer=0, density=None)}  # fmt: skip
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[0, 7:] = False
    mixed = MixedBy(layer, rules[rule])
    weights = mixed.synchrony(stream(), is_causal=is_causal, key_mask=mask).weights
    assert torch.equal(
        weights, mixed.synchrony(stream(), is_causal=is_causal, key_mask=mask).weights
    )
    sums = weights.sum(-1)
    assert ((sums - 1).abs() < 1e-5).logical_or(sums == 0).all()
    if rule == "identity":
        assert torch.equal(weights[0, 0], torch.eye(10))
        return
    assert (weights[0, :, :, 7:] == 0).all()
    if is_causal:
        above = torch.ones(10, 10).triu(0 if name in ANGLES else 1).bool()
        assert (weights[..., above] == 0).all()


def test_identity_mixes_nothing(named):
    _, layer = named
    mixed = MixedBy(layer, identity_rule())
    x = stream()
    other = x.clone()
    other[:, 5] += 1.0
    kept = torch.arange(10) != 5
    torch.testing.assert_close(
        mixed(x, is_causal=False)[:, kept], mixed(other, is_causal=False)[:, kept], atol=0, rtol=0
    )


def test_without_differences_phases_feel_their_static_angles_alone():
    layer = sync_nn.KuramotoAttention(16, 2)
    assert (MixedBy(layer, identity_rule())(stream(), is_causal=True) == 0).all()
    frustrated = sync_nn.FrustratedSynchronization(16, 2)
    pushed = MixedBy(frustrated, identity_rule())(stream(), is_causal=True)
    kernel = frustrated.coupling_kernel
    expected = (kernel.signed_amplitude * kernel.frustration.sin()).sum((1, 2)).flatten()
    torch.testing.assert_close(pushed[0, 3], expected)


def test_the_mean_is_the_mean():
    layer = sync_nn.SoftmaxAttention(16, 2)
    x = stream()
    expected = layer.o_proj(layer.v_proj(x).cumsum(1) / torch.arange(1, 11)[:, None])
    torch.testing.assert_close(MixedBy(layer, mean_rule())(x, is_causal=True), expected)


def test_a_future_token_moves_nothing_under_any_rule(named):
    _, layer = named
    for rule in (mean_rule(), fixed_rule(2, 32, layer=0, density=0.3), identity_rule()):
        mixed = MixedBy(layer, rule)
        x = stream()
        other = x.clone()
        other[:, 6:] += 1.0
        torch.testing.assert_close(
            mixed(x, is_causal=True)[:, :6], mixed(other, is_causal=True)[:, :6], atol=0, rtol=0
        )


def test_fixed_weights_keep_their_density_and_the_diagonal():
    rule = fixed_rule(4, 200, layer=0, density=0.2)
    visible = torch.ones(1, 1, 200, 200, dtype=torch.bool)
    weights = rule(visible)
    off = ~torch.eye(200, dtype=torch.bool)
    assert (weights[..., off] > 0).double().mean() == pytest.approx(0.2, abs=0.01)
    assert (weights.diagonal(dim1=-2, dim2=-1) > 0).all()
    assert not torch.equal(weights, fixed_rule(4, 200, layer=1, density=0.2)(visible))
    assert torch.equal(weights, fixed_rule(4, 200, layer=0, density=0.2)(visible))


def test_fixed_weights_are_no_parameters():
    mixed = MixedBy(sync_nn.SoftmaxAttention(16, 2), fixed_rule(2, 8, layer=0, density=None))
    assert len(list(mixed.parameters())) == 4
    assert "rule.scores" not in mixed.state_dict()


def test_a_module_without_values_is_averaged_as_it_is():
    x = stream()
    mixed = MixedBy(torch.nn.Linear(16, 16), mean_rule())
    torch.testing.assert_close(mixed(x, is_causal=False), x.mean(1, keepdim=True).expand_as(x))
    torch.testing.assert_close(MixedBy(torch.nn.Identity(), identity_rule())(x), x)


def test_silence_is_zero_and_keeps_its_parameters(named):
    _, layer = named
    silent = Silent(layer)
    assert (silent(stream(), is_causal=True) == 0).all()
    assert len(list(silent.parameters())) == len(list(layer.parameters()))
