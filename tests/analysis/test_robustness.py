import numpy as np
import pytest

from syncattn.analysis.robustness import robustness_panels, settling_figure
from tests.analysis.canvas import faults, pixels, texts


def sweep(name, *, log=True, seeds=3, angles=True):
    random = np.random.default_rng(len(name))
    values = (0.05, 0.1, 0.2, 0.5, 1.0) if log else (2, 3, 4, 6, 8)
    points = [
        {
            "value": value,
            "scores": (2.5 + 0.1 * k + 0.02 * random.standard_normal(seeds)).tolist(),
            "rms_angle": 0.1 * value if angles else None,
            "predicted_rms_angle": 0.11 * value if angles else None,
        }
        for k, value in enumerate(values)
    ]
    return {"label": name, "log": log, "points": points}


def layers():
    random = np.random.default_rng(0)
    return {
        f"layer {k}": {
            "drive": random.lognormal(1, 1, 500).tolist(),
            "order_parameter": random.random(500).tolist(),
        }
        for k in range(3)
    }


@pytest.mark.parametrize("count", [1, 2, 8, 10])
def test_panels_have_no_faults(count):
    sweeps = [sweep(f"effect number {k} (rad)", log=k != 1) for k in range(count)]
    figure = robustness_panels(sweeps, baseline=2.5)
    assert not faults(figure)
    assert len(figure.axes) == 2 * count
    assert any("perfect device" in text for text in texts(figure))


def test_panels_bear_one_seed_and_no_angles():
    figure = robustness_panels([sweep("effect", seeds=1, angles=False)], baseline=2.5)
    assert not faults(figure)
    assert not any("seeds" in text for text in texts(figure))
    assert "the states are read exactly" in texts(figure)


def test_the_score_is_drawn():
    one, other = ([sweep("effect")] for _ in range(2))
    other[0]["points"][3]["scores"] = [9.0, 9.1, 9.2]
    assert (pixels(robustness_panels(one, baseline=2.5)).shape
            == pixels(robustness_panels(other, baseline=2.5)).shape)  # fmt: skip
    assert (pixels(robustness_panels(one, baseline=2.5))
            != pixels(robustness_panels(other, baseline=2.5))).any()  # fmt: skip


def test_the_settling_figure_has_no_faults():
    curves = {
        start: [{"time": t, "scores": [2.5 + 1 / t, 2.6 + 1 / t]} for t in (0.1, 1.0, 10.0, 100.0)]
        for start in ("random", "previous")
    }
    figure = settling_figure(curves, layers(), baseline=2.5, median_rate=8.2)
    assert not faults(figure)
    assert any("settling rate" in text for text in texts(figure))


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="`sweeps`"):
        robustness_panels([], baseline=1.0)
    with pytest.raises(ValueError, match="`sweeps`"):
        robustness_panels([{"label": "x", "points": []}], baseline=1.0)
    with pytest.raises(ValueError, match="`curves`"):
        settling_figure({}, layers(), baseline=1.0, median_rate=1.0)
