import numpy as np
import pytest
import torch

from syncattn.analysis.settling_figures import settling_curves
from tests.analysis.canvas import faults, texts


@pytest.mark.parametrize("heads", [1, 4, 8])
def test_settling_is_readable(heads):
    torch.manual_seed(0)
    drive = torch.rand(heads, 20)
    figure = settling_curves(drive, 5 / drive)
    assert faults(figure) == []
    assert f"head {heads}" in texts(figure)


def test_the_share_that_has_settled_rises_to_what_settles():
    time = np.array([[1.0, 2.0, np.inf, 4.0]])
    figure = settling_curves(np.array([[3.0, 2.0, 0.0, 1.0]]), time, names=["only"])
    line = figure.axes[1].lines[0]
    np.testing.assert_allclose(line.get_xdata()[:4], [0, 1, 2, 4])
    np.testing.assert_allclose(line.get_ydata()[:4], [0, 0.25, 0.5, 0.75])
    drives = figure.axes[0].lines[0]
    np.testing.assert_allclose(drives.get_xdata(), [0, 1, 2, 3])


def test_nothing_that_settles_is_drawn_too():
    figure = settling_curves(np.zeros((2, 3)), np.full((2, 3), np.inf))
    assert faults(figure) == []


@pytest.mark.parametrize("shape", [(3,), (0, 2)])
def test_shapes_must_fit(shape):
    with pytest.raises(ValueError, match="one shape"):
        settling_curves(np.zeros((2, 3)), np.zeros(shape))
