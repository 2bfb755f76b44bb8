import math

import numpy as np
import pytest
import torch

from syncattn.analysis.copy_depth import loss_by_copy_depth
from syncattn.analysis.coupling import coupling_functions, frustration_parts, order_by_layer
from syncattn.analysis.phase_figures import (
    coupling_curves,
    frustration_histograms,
    loss_curves,
    order_curves,
)
from syncattn.nn import FrustratedSynchronization, KuramotoAttention
from tests.analysis.canvas import faults, pixels, texts


def trained(heads=2, **options):
    layer = FrustratedSynchronization(8 * heads, heads, **options)
    with torch.no_grad():
        layer.coupling_kernel.raw_amplitude.normal_()
        if layer.coupling_kernel.raw_frustration is not None:
            layer.coupling_kernel.raw_frustration.normal_()
    return layer


@pytest.mark.parametrize(
    ("heads", "options"),
    [(1, {}), (2, {"num_harmonics": 4}), (4, {"num_delays": 1}), (6, {"num_delays": 3})],
)
def test_coupling_curves_are_readable(heads, options):
    figure = coupling_curves(coupling_functions(trained(heads, **options)))
    assert faults(figure) == []
    assert len(figure.axes) == heads
    written = " ".join(texts(figure))
    assert f"head {heads}" in texts(figure) and "head 0" not in texts(figure)
    for s in range(options.get("num_delays", 2)):
        assert f"delay {s}: α" in written


def test_a_curve_is_drawn_where_it_is():
    layer = KuramotoAttention(8, 2, step_size=0.5, coupled=1.0)
    figure = coupling_curves(coupling_functions(layer))
    (line,) = [x for x in figure.axes[1].lines if len(x.get_xdata()) > 2]
    np.testing.assert_allclose(line.get_ydata(), 0.5 * np.sin(line.get_xdata()), atol=1e-7)
    assert faults(figure) == []


def test_a_kernel_of_nothing_says_so():
    layer = trained()
    layer.coupling_kernel.set(head=1, delay=1, amplitude=0.0)
    figure = coupling_curves(coupling_functions(layer))
    assert "delay 1: none" in " ".join(texts(figure))
    layer.coupling_kernel.set(amplitude=0.0)
    assert faults(coupling_curves(coupling_functions(layer))) == []


@pytest.mark.parametrize("heads", [1, 2, 5])
def test_frustration_is_readable(heads):
    layer = trained(heads)
    layer.coupling_kernel.set(frustration=1.0, amplitude=1.0, sign=1)
    parts = frustration_parts(layer, torch.randn(2, 30, 8 * heads))
    figure = frustration_histograms(parts)
    assert faults(figure) == []
    assert "α +1.00, R 1.00" in " ".join(texts(figure))
    assert f"head {heads}" in texts(figure) and "head 0" not in texts(figure)
    assert len(figure.axes) == heads


@pytest.mark.parametrize("layers", [1, 3, 13])
def test_order_is_readable(layers):
    phases = [torch.randn(2, 20, 4) / (n + 1) for n in range(layers)]
    figure = order_curves(order_by_layer(phases))
    assert faults(figure) == []
    assert "harmonic 4" in texts(figure)
    np.testing.assert_allclose(
        figure.axes[0].lines[0].get_ydata(), order_by_layer(phases)[:, 0], atol=1e-12
    )


def test_loss_by_copy_depth_is_readable():
    ids = np.random.default_rng(0).integers(0, 3, (4, 80))
    bins = {
        name: loss_by_copy_depth(np.random.default_rng(n).random((4, 79)), ids)
        for n, name in enumerate(("softmax", "kuramoto", "frustrated"))
    }
    figure = loss_curves(bins)
    assert faults(figure) == []
    written = texts(figure)
    assert any(text.startswith("16 and more") for text in written)
    assert {"softmax", "kuramoto", "frustrated"} <= set(written)
    # Something other than white is inside the axes.
    assert (pixels(figure) < 250).any()


def test_an_empty_bin_leaves_a_gap():
    bins = loss_by_copy_depth(np.ones((1, 4)), np.array([[1, 2, 3, 4]]))
    assert math.isnan(bins[-1].mean)
    assert faults(loss_curves({"softmax": bins})) == []


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="`bins` must hold at least one model"):
        loss_curves({})
    ids, losses = np.array([[1, 1, 1, 1]]), np.ones((1, 4))
    mixed = {
        "a": loss_by_copy_depth(losses, ids), "b": loss_by_copy_depth(losses, ids, edges=(1,))
    }  # fmt: skip
    with pytest.raises(ValueError, match="`bins` must be the same for all models"):
        loss_curves(mixed)
