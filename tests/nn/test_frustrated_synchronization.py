import inspect
import json

import pytest
import torch

from syncattn.nn import FrustratedSynchronization, KuramotoAttention
from tests.nn.battery import WIDTH, ModuleLaws
from tests.tolerance import assert_same


class TestFrustratedSynchronization(ModuleLaws):
    torus = True

    def build(self):
        return FrustratedSynchronization(WIDTH, 2)


class TestKernelOfEachHead(ModuleLaws):
    torus = True

    def build(self):
        return FrustratedSynchronization(
            WIDTH, 2, num_harmonics=1, num_delays=1, per_coordinate=False, gate="query",
            sink="learned",
        )  # fmt: skip

    def test_the_picture_is_that_of_the_forward_pass(self):
        picture = self.build().synchrony(self.stream(), is_causal=True)
        assert (picture.weights.sum(-1) < 1).all()


def test_the_simplest_kernel_is_kuramoto_attention():
    module = FrustratedSynchronization(8, 2, num_harmonics=1, num_delays=1, frustration=False)
    kuramoto, phase = KuramotoAttention(8, 2), torch.randn(2, 5, 8)
    gates = {name: x for name, x in module.state_dict().items() if "gate" in name}
    kuramoto.load_state_dict(gates, strict=False)
    torch.testing.assert_close(module(phase, is_causal=True), kuramoto(phase, is_causal=True))


def test_it_starts_at_the_token_and_its_successor_hardly_frustrated():
    kernel = FrustratedSynchronization(32, 2, num_harmonics=3, step_size=0.7).coupling_kernel
    assert kernel.amplitude.shape == (2, 2, 3, 16)
    assert (kernel.amplitude[:, :, 0, ::2] == 0.7).all()
    assert not kernel.amplitude[:, :, 0, 1::2].any()
    assert not kernel.amplitude[:, :, 1:].any()
    assert 0 < kernel.frustration.abs().max() < 0.2


ABLATIONS = [
    {}, {"num_delays": 1}, {"num_delays": 3}, {"delay_only": True}, {"frustration": False},
    {"num_harmonics": 1}, {"num_harmonics": 4}, {"exclude_self": False}, {"gate": "static"},
    {"per_coordinate": False}, {"drift_base": None}, {"drift_base": 100.0}, {"step_size": 0.1},
    {"coupled": 1.0}, {"repulsion": False},
    {"sink": "fixed"}, {"sink": "learned"},
]  # fmt: skip


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_every_ablation_is_plain_data_learns_and_goes_on_from_a_state(options):
    options = json.loads(json.dumps(options))
    module = FrustratedSynchronization(8, 2, **options).double()
    phase = torch.randn(2, 6, 8, dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    whole, state, parts = module(phase, is_causal=True), None, []
    for t in range(6):
        out, state = module.step(phase[:, t : t + 1], state)
        parts.append(out)
    assert_same(torch.cat(parts, 1), whole)
    whole.square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_ablations_change_what_they_say():
    plain = FrustratedSynchronization(8, 2)
    count = sum(p.numel() for p in plain.parameters())
    bare = FrustratedSynchronization(8, 2, frustration=False)
    assert sum(p.numel() for p in bare.parameters()) == count - 2 * 2 * 2 * 4
    assert not bare.coupling_kernel.frustration.any()
    late = FrustratedSynchronization(8, 2, delay_only=True).coupling_kernel
    assert not late.amplitude[:, 0].any()
    assert (late.amplitude[:, 1, 0, ::2] == 1).all()
    late.reset_parameters()
    assert not late.amplitude[:, 0].any()


def test_the_delay_alone_moves_by_successors():
    # Weights of the second token are all on the first, whose successor is the second itself.
    module = FrustratedSynchronization(8, 2, delay_only=True, num_harmonics=1, frustration=False)
    out = module(torch.randn(1, 3, 8), is_causal=True)
    assert out[:, :2].abs().max() < 1e-6
    assert out[:, 2].abs().max() > 1e-3


def test_a_longer_delay_generates_from_the_first_token_on():
    module = FrustratedSynchronization(8, 2, num_delays=3)
    for length in (1, 2, 5):
        assert module(torch.randn(1, length, 8), is_causal=True).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_harmonics": 0}, "`num_harmonics` must be at least 1; got 0"),
        ({"num_delays": 0}, "`num_delays` must be at least 1; got 0"),
        ({"num_delays": 1, "delay_only": True}, "`delay_only` needs a delay"),
        ({"num_heads": 3}, "`hidden_size` must be a multiple of `num_heads`; got 8 and 3"),
        ({"num_heads": 0}, "`num_heads` must be at least 1; got 0"),
        ({"sink": "open"}, "`sink` must be one of None, 'fixed', 'learned'"),
        ({"drift_base": 1.0}, "`drift_base` must be finite and strictly between 1"),
        ({"step_size": float("nan")}, "`amplitude` must be finite"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FrustratedSynchronization(8, **({"num_heads": 2} | options))


def test_a_number_of_delays_that_is_none_is_refused():
    for options in ({}, {"delay_only": True}):
        with pytest.raises(TypeError, match=r"`num_delays` must be an integer; got torch\.float32"):
            inspect.unwrap(FrustratedSynchronization.__init__)(
                FrustratedSynchronization.__new__(FrustratedSynchronization), 8, 2,
                num_delays=torch.float32, **options,
            )  # fmt: skip


def test_angles_that_are_not_finite_are_refused():
    module = FrustratedSynchronization(8, 2)
    with torch.no_grad():
        module.coupling_kernel.raw_frustration[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="`frustration` must be finite"):
        module(torch.randn(1, 3, 8))
    with pytest.raises(ValueError, match="`query_phase` must be finite"):
        FrustratedSynchronization(8, 2, gate="static")(torch.full((1, 3, 8), torch.inf))
