import math

import pytest
import torch
from torch import nn

from syncattn.functional.oscillator_diagnostics import SettlingDiagnostics
from syncattn.simulation.device_layers import on_device
from syncattn.simulation.device_settling import (
    bits_per_token,
    model_diagnostics,
    settling_curve,
    settling_summary,
)
from syncattn.simulation.devices import Device
from tests.simulation.star import layer


class Model(nn.Module):
    """A causal language model with one layer, as small as can be."""

    def __init__(self):
        super().__init__()
        self.attention, _ = layer(2)
        self.embedding = nn.Embedding(7, 16)
        self.head = nn.Linear(16, 7)

    def forward(self, input_ids):
        class Output:
            logits = self.head(self.attention(self.embedding(input_ids), is_causal=True))

        return Output


def model():
    torch.manual_seed(0)
    return Model(), [torch.randint(0, 7, (3, 13)) for _ in range(2)]


def test_bits_are_those_of_the_cross_entropy():
    net, batches = model()
    nats = [
        nn.functional.cross_entropy(net(b[:, :-1]).logits.flatten(0, 1), b[:, 1:].flatten())
        for b in batches
    ]
    expected = float(sum(nats).detach()) / 2 / math.log(2)
    assert bits_per_token(net, batches) == pytest.approx(expected, rel=1e-5)


def test_the_curve_ends_at_the_settled_model():
    net, batches = model()
    points = settling_curve(net, batches, [0.1, 1.0, 1e5, math.inf], seeds=(0, 1, 2))
    settled = bits_per_token(net, batches)
    assert points[-1].mean == pytest.approx(settled, rel=1e-6)
    assert points[2].mean == pytest.approx(settled, rel=1e-5)
    assert points[0].deviation > points[2].deviation
    assert [len(point.values) for point in points] == [3] * 4
    with on_device(net, Device(settling_time=0.1), seed=1):
        assert bits_per_token(net, batches) == points[0].values[1]


def test_any_metric_and_any_device():
    net, batches = model()
    device = Device(start="previous", read_noise=0.1)
    points = settling_curve(
        net, batches, [1.0], metric=lambda net, batches: float(len(batches)), device=device
    )
    assert points[0].values == (2.0,)
    assert points[0].deviation is None


@pytest.mark.parametrize("change", [{"times": []}, {"seeds": []}, {"times": [-1.0]}])
def test_bad_curves_are_refused(change):
    net, batches = model()
    with pytest.raises(ValueError, match="got"):
        settling_curve(net, batches, **({"times": [1.0]} | change))


def test_diagnostics_of_every_layer():
    net, batches = model()
    found = model_diagnostics(net, batches[0][:, :-1])
    assert list(found) == ["attention"]
    told = settling_summary(found["attention"])
    star = net.attention.couplings(net.embedding(batches[0][:, :-1]), is_causal=True)
    drive = (star.coupling @ star.anchor).norm(dim=-1)
    assert told["drive_quantile_0.5"] == pytest.approx(float(drive.detach().median()), rel=0.05)
    assert 0 <= told["near_antipode_share"] <= 1
    assert told["settling_time_quantile_0.99"] > told["settling_time_quantile_0.01"]
    assert not net.attention._forward_pre_hooks
    time = found["attention"].settling_time
    exact = time.flatten().double().quantile(0.99, interpolation="nearest")
    assert told["settling_time_quantile_0.99"] == float(exact)


@pytest.mark.parametrize("number", [0, 5, pytest.param(2**24 + 1, marks=pytest.mark.slow)])
def test_a_summary_of_no_oscillators_or_of_very_many(number):
    values = torch.arange(number, dtype=torch.float32)[None, None]
    nothing = torch.zeros_like(values, dtype=torch.bool)
    diagnostics = SettlingDiagnostics(values, values, values, nothing, nothing, ~nothing)
    told = settling_summary(diagnostics)
    for name in ("drive", "order_parameter", "settling_time"):
        middle = told[f"{name}_quantile_0.5"]
        assert middle == number // 2 if number else math.isnan(middle)
