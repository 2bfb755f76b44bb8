import math

import pytest
import torch

from syncattn.simulation import sensitivity
from syncattn.simulation.device_attention import device_weights, predicted_angle
from syncattn.simulation.device_random import Draws
from syncattn.simulation.devices import Device
from syncattn.simulation.theory_sphere import lohe_equilibrium
from tests.simulation.star import star

CPU = torch.device("cpu")
DRAWS = 30
SMALL = [
    ({"coupling_mismatch": 0.05}, 0.06),
    ({"anchor_phase_error": 0.03}, 0.06),
    ({"coupling_bits": 6, "coupling_range": "layer"}, 0.15),
    ({"natural_frequency_spread": 0.01}, 0.1),
    ({"thermal_noise": 0.003}, 0.06),
    ({"read_noise": 0.03}, 0.06),
    ({"converter_bits": 7}, 0.15),
    ({"read_noise": 0.06, "num_readout_samples": 4}, 0.06),
]


def ratio(dim, device, *, largest=0.1, unit=True, batch=4):
    """Returns the rms over draws and oscillators of simulated over predicted angle."""
    W, r, mask = star(dim, batch=batch, unit=unit)
    h = W @ r
    ideal = h / h.norm(dim=-1, keepdim=True)
    squares = []
    for seed in range(DRAWS):
        _, state, _ = device_weights(W, r, device, Draws(seed, 0, False, CPU), mask=mask)
        along = (state * ideal).sum(-1)
        across = (state - along.unsqueeze(-1) * ideal).norm(dim=-1)
        squares.append(torch.atan2(across, along) ** 2)
    predicted = predicted_angle(W, r, device)
    small = (predicted < largest) & (predicted > 1e-6)
    assert small.float().mean() > 0.5
    return float((torch.stack(squares).mean(0)[small] / predicted[small] ** 2).mean().sqrt())


@pytest.mark.parametrize("dim", [2, 3, 8])
@pytest.mark.parametrize(("changes", "tolerance"), SMALL, ids=lambda v: str(v)[:40])
def test_small_errors_are_as_large_as_predicted(dim, changes, tolerance):
    # Programmed levels are not drawn: only more oscillators make more cases.
    batch = 32 if "coupling_bits" in changes else 4
    found = ratio(dim, Device(**changes, draw="inference"), unit=dim != 3, batch=batch)
    assert found == pytest.approx(1, abs=tolerance)


def test_harmonics_are_predicted_with_gain_control_too():
    W, r, mask = star(2)
    device = Device(gain_control=True, second_harmonic=0.004, injection_strength=0.002)
    _, state, _ = device_weights(20 * W, r, device, Draws(0, 0, True, CPU), mask=mask)
    h = W @ r
    cross = state[..., 0] * h[..., 1] - state[..., 1] * h[..., 0]
    angle = torch.atan2(cross, (state * h).sum(-1)).abs()
    predicted = predicted_angle(20 * W, r, device)
    small = predicted < 0.02
    assert small.float().mean() > 0.5
    torch.testing.assert_close(angle[small], predicted[small], atol=5e-4, rtol=0.1)
    assert predicted[small].max() > 0.005


def test_a_large_mismatch_is_still_predicted_where_anchors_do_not_cancel():
    device = Device(coupling_mismatch=0.3, draw="inference")
    assert ratio(8, device, largest=0.3) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_what_is_left_after_a_time(dim):
    rate = torch.tensor([0.2, 1.0, 3.0])
    coupling, anchor = rate.reshape(1, 1, 3, 1), torch.eye(dim)[None, None, :1]
    coupling = coupling.repeat(1500, 1, 1, 1)
    device = Device(settling_time=1.5)
    _, state, _ = device_weights(coupling, anchor, device, Draws(0, 0, True, CPU))
    angle = torch.acos(state[:, 0, :, 0].clamp(-1, 1).double())
    predicted = sensitivity.settling_angle(rate, 1.5, dim).double()
    torch.testing.assert_close(angle.square().mean(0).sqrt(), predicted, rtol=0.12, atol=0)


def test_a_drive_that_cancels_has_no_finite_prediction():
    coupling = torch.tensor([[[[100.0, 100.0], [100.0, 0.0], [0.0, 0.0]]]])
    anchor = torch.tensor([[[[1.0, 1.0], [-1.0, -1.0]]]])
    for angle in (
        sensitivity.coupling_mismatch_angle(coupling, anchor, 0.1),
        sensitivity.anchor_error_angle(coupling, anchor, 0.1),
        sensitivity.coupling_quantisation_angle(coupling, anchor, 4),
    ):
        assert angle[0, 0, 0] == math.inf
        assert angle[0, 0, 1].isfinite()
        assert angle[0, 0, 2] == 0
    with pytest.raises(ValueError, match="overflow"):
        sensitivity.coupling_mismatch_angle(1e30 * coupling, anchor, 0.1)
    device = Device(coupling_mismatch=0.1, coupling_bits=4, anchor_phase_error=0.1)
    assert predicted_angle(coupling, anchor, device)[0, 0, 0] == math.inf


def test_the_step_of_the_couplings_is_that_of_the_sequence():
    W, r, _ = star(3)
    among = sensitivity.coupling_quantisation_angle(torch.cat((W, 100 * W)), r, 4, "layer")
    torch.testing.assert_close(among[:2], sensitivity.coupling_quantisation_angle(W, r, 4, "layer"))


def test_detuning_follows_the_arcsine_and_the_equation_above_the_circle():
    h = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    skew = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    state, _ = lohe_equilibrium(h, skew[None])
    angle = float(torch.atan2(state[0, 1], state[0, 0]))
    one, two = torch.tensor(1.0), torch.tensor(2.0)
    assert angle == pytest.approx(float(sensitivity.detuning_angle(one, two)))
    assert math.isnan(float(sensitivity.detuning_angle(2 * two, two)))


def test_thermal_and_converter_angles_have_their_limits():
    rate = torch.tensor([1e4])
    thermal = float(sensitivity.thermal_angle(rate, 1.0, 8))
    assert thermal == pytest.approx(math.sqrt(7 / 1e4), rel=1e-3)
    assert float(sensitivity.thermal_angle(rate, 0.0, 8)) == 0
    assert sensitivity.converter_angle(4, 2) == pytest.approx(math.pi / 8 / math.sqrt(12))


@pytest.mark.parametrize("dim", [2, 8])
def test_weights_change_by_less_than_the_bound(dim):
    W, r, mask = star(dim)
    clean, x, _ = device_weights(W, r, Device(), Draws(0, 0, True, CPU), mask=mask)
    noisy, y, _ = device_weights(W, r, Device(read_noise=0.2), Draws(0, 0, True, CPU), mask=mask)
    angle = 2 * torch.asin((x - y).norm(dim=-1) / 2)
    seen = mask.float()
    mean = (seen @ r) / seen.sum(-1, keepdim=True)
    bound = sensitivity.weights_bound(angle, x, mean.expand(x.shape))
    change = (clean - noisy).abs().sum(-1)
    assert (change <= bound + 1e-6).all()
    assert float((change / bound.clamp(min=1e-9)).max()) > 0.1
