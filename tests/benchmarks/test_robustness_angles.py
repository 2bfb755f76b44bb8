"""Statistics of several layers are those of all oscillators."""

import statistics

import pytest
import torch

from syncattn.benchmarks.robustness_angles import joined
from syncattn.nn import OscillatorAttention
from syncattn.simulation.device_layers import on_device
from syncattn.simulation.devices import Device


def test_the_median_is_that_of_all_oscillators():
    torch.manual_seed(0)
    layer = OscillatorAttention(8, 2, max_positions=8)
    runs = []
    for noise, length in ((0.01, 2), (1.0, 7)):
        with on_device(layer, Device(read_noise=noise), measure=True) as run, torch.no_grad():
            layer(torch.randn(1, length, 8), is_causal=True)
        runs.append(run)
    angles = [a for run in runs for calls in run._seen.values() for c in calls for a in c["angle"]]
    found = joined(runs)
    assert found["median_angle"] == pytest.approx(statistics.median_low(map(float, angles)))
    seen = [layer for run in runs for layer in run.statistics()]
    counts = [layer.num_oscillators for layer in seen]
    mean = sum(n * s.median_angle for n, s in zip(counts, seen, strict=True)) / sum(counts)
    assert abs(found["median_angle"] - mean) > 1e-3
    assert found["unlocked_share"] is None and 0 < found["predictable_share"] <= 1
