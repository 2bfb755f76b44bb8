import copy
import functools

import pytest
import torch
from torch import nn

from syncattn.nn import SoftmaxAttention
from syncattn.simulation.device_layers import on_device, oscillator_layers
from syncattn.simulation.devices import Device
from tests.simulation.star import layer


@pytest.mark.parametrize("options", [
    {}, {"readout_power": 4}, {"readout_gain": 3.0}, {"anchors": "content"}, {"row_gain": True},
    {"variant": "paper"},
])  # fmt: skip
@pytest.mark.parametrize("dim", [2, 5])
def test_a_perfect_device_is_the_layer(dim, options):
    built, x = layer(dim, **options)
    masks = {"is_causal": True}
    with torch.no_grad(), on_device(built, Device()):
        noisy = built(x, **masks)
    torch.testing.assert_close(noisy, built(x, **masks).detach(), atol=1e-5, rtol=1e-4)


def test_padding_reaches_the_device():
    built, x = layer()
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, 9:] = False
    with torch.no_grad(), on_device(built, Device(read_noise=0.1)):
        before = built(x, key_mask=mask)
    x[0, 9:] = 1e3
    with torch.no_grad(), on_device(built, Device(read_noise=0.1)):
        after = built(x, key_mask=mask)
    torch.testing.assert_close(before[0, :9], after[0, :9])


def test_a_chip_repeats_itself_and_another_does_not():
    built, x = layer()
    device = Device(coupling_mismatch=0.3)
    with torch.no_grad():
        with on_device(built, device, seed=1):
            first, second = built(x), built(x)
            short = built(x[:, :5], is_causal=True)
            long = built(x, is_causal=True)
        with on_device(built, device, seed=2):
            other = built(x)
    assert torch.equal(first, second)
    torch.testing.assert_close(short, long[:, :5])
    assert not torch.allclose(first, other)


def test_noise_is_new_at_every_call_and_the_same_with_the_same_seed():
    built, x = layer()
    runs = []
    for _ in range(2):
        with torch.no_grad(), on_device(built, Device(thermal_noise=0.1), seed=3):
            runs.append((built(x), built(x)))
    assert torch.equal(runs[0][0], runs[1][0])
    assert not torch.equal(runs[0][0], runs[0][1])


def test_forward_is_noisy_and_backward_clean():
    built, x = layer(3)
    twin = copy.deepcopy(built)
    weight = torch.randn(2, 12, 16)
    (twin(x, is_causal=True) * weight).sum().backward()
    with on_device(built, Device(coupling_mismatch=0.5, read_noise=0.2)):
        out = built(x, is_causal=True)
        (out * weight).sum().backward()
    assert not torch.allclose(out, twin(x, is_causal=True), atol=1e-3)
    for clean, noisy in zip(twin.parameters(), built.parameters(), strict=True):
        torch.testing.assert_close(noisy.grad, clean.grad)


def test_fine_tuning_on_a_device_lowers_the_loss_on_it():
    built, x = layer(2)
    target = torch.randn(2, 12, 16)
    optimizer = torch.optim.Adam(built.parameters(), lr=5e-2)
    losses = []
    with on_device(built, Device(coupling_mismatch=0.5, phase_lag=0.5)):
        for _ in range(8):
            loss = (built(x) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_statistics_meet_the_prediction():
    built, x = layer(8, length=24)
    device = Device(coupling_mismatch=0.05, draw="inference")
    with torch.no_grad(), on_device(built, device, measure=True) as run:
        for _ in range(5):
            built(x, is_causal=True)
    (found,) = run.statistics()
    assert found.name == "layer"
    assert found.num_oscillators == 5 * 2 * 2 * 24
    assert found.rms_angle == pytest.approx(found.predicted_rms_angle, rel=0.1)
    assert found.unlocked_share is None
    with on_device(built, device) as run, pytest.raises(RuntimeError, match="`measure`"):
        run.statistics()


def test_an_oscillator_whose_drive_cancels_is_left_out_of_the_statistics():
    built, x = layer(2)
    with torch.no_grad(), on_device(built, Device(coupling_mismatch=0.1), measure=True) as run:
        couplings = built.couplings

        def cancelling(*arguments, **visibility):
            star = couplings(*arguments, **visibility)
            coupling, anchor = star.coupling.clone(), star.anchor.clone()
            anchor[..., 1, :] = -anchor[..., 0, :]
            coupling[..., 0, :] = 0.0
            coupling[..., 0, :2] = 100.0
            return star._replace(coupling=coupling, anchor=anchor)

        built.couplings = cancelling
        built(x)
    (found,) = run.statistics()
    assert 0 < found.predictable_share <= 11 / 12
    assert found.predicted_rms_angle < 0.5


def test_layers_are_found_by_name_and_given_back():
    built, x = layer()
    model = nn.ModuleDict({"first": built, "second": SoftmaxAttention(16, 2)})
    assert list(oscillator_layers(model)) == ["first"]
    before = built(x)
    with pytest.raises(ZeroDivisionError), on_device(model, Device(read_noise=1.0)):
        raise ZeroDivisionError
    assert torch.equal(built(x), before)
    assert "forward" not in vars(built)


def test_the_wrapper_of_another_library_is_kept():
    built, x = layer()
    plain, calls = built.forward, []

    @functools.wraps(plain)
    def wrapper(*arguments, **keywords):
        calls.append(1)
        return plain(*arguments, **keywords)

    built.forward = wrapper
    with torch.no_grad(), on_device(built, Device(read_noise=0.5)):
        noisy = built(x)
        with pytest.raises(RuntimeError, match="on a device already"), on_device(built, Device()):
            pass
    assert built.forward is wrapper
    assert not torch.allclose(built(x), noisy, atol=1e-3)
    assert calls


def test_a_device_inside_another_wrapper_is_seen():
    built, _ = layer()
    with on_device(built, Device()):
        inner = built.forward
        built.forward = functools.wraps(inner)(lambda *a, **k: inner(*a, **k))
        with pytest.raises(RuntimeError, match="on a device already"), on_device(built, Device()):
            pass
    assert "forward" not in vars(built)


def test_what_cannot_run_on_a_device_is_refused():
    with pytest.raises(ValueError, match=r"`model` must be or hold.*got SoftmaxAttention"):
        with on_device(SoftmaxAttention(16, 2), Device()):
            pass
    with pytest.raises(ValueError, match="got a Linear without attention"):
        oscillator_layers(nn.Linear(2, 2))
    built, x = layer()
    with on_device(built, Device()):
        with pytest.raises(RuntimeError, match="on a device already"), on_device(built, Device()):
            pass
        with pytest.raises(RuntimeError, match="whole sequences"):
            built.step(x)
    with pytest.raises(ValueError, match="`seed`"), on_device(built, Device(), seed=-1):
        pass
