import pytest
import torch

from syncattn.nn import FrustratedSynchronization, KuramotoAttention
from tests.nn.battery import WIDTH, ModuleLaws


class TestFrustratedSynchronization(ModuleLaws):
    torus = True

    def build(self):
        return FrustratedSynchronization(WIDTH, 2)


class TestKernelOfEachHead(ModuleLaws):
    torus = True

    def build(self):
        return FrustratedSynchronization(
            WIDTH, 2, num_harmonics=1, num_delays=1, per_coordinate=False, gate="query"
        )


def test_the_simplest_kernel_is_kuramoto_attention():
    module = FrustratedSynchronization(8, 2, num_harmonics=1, num_delays=1)
    with torch.no_grad():
        module.frustration.zero_()
    kuramoto, phase = KuramotoAttention(8, 2), torch.randn(2, 5, 8)
    kuramoto.load_state_dict(module.state_dict() | kuramoto.state_dict() | {
        name: tensor for name, tensor in module.state_dict().items() if "gate" in name
    }, strict=False)  # fmt: skip
    torch.testing.assert_close(module(phase, is_causal=True), kuramoto(phase, is_causal=True))


def test_it_starts_at_the_token_and_its_successor_hardly_frustrated():
    module = FrustratedSynchronization(32, 2, num_harmonics=3)
    amplitude = module.harmonic_amplitude
    assert amplitude.shape == (2, 2, 3, 16)
    assert (amplitude[:, :, 0] == 1).all()
    assert not amplitude[:, :, 1:].any()
    assert 0 < module.frustration.abs().max() < 0.2


def test_a_longer_delay_generates_from_the_first_token_on():
    module = FrustratedSynchronization(8, 2, num_delays=3)
    for length in (1, 2, 5):
        assert module(torch.randn(1, length, 8), is_causal=True).isfinite().all()


@pytest.mark.parametrize("name", ["num_harmonics", "num_delays"])
def test_bad_options_are_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1; got 0"):
        FrustratedSynchronization(8, 2, **{name: 0})
