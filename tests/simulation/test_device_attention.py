import math

import pytest
import torch

from syncattn.reference import oscillator_attention_weights
from syncattn.simulation.device_attention import device_weights, program, settle
from syncattn.simulation.device_random import Draws
from syncattn.simulation.devices import Device
from syncattn.simulation.theory_sphere import lohe_equilibrium
from tests.simulation.star import star

CPU = torch.device("cpu")


def draws(seed=0, *, chip=True):
    return Draws(seed, 0, chip, CPU)


def states(W, r):
    h = W @ r
    return h / h.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("dim", [2, 3, 8])
@pytest.mark.parametrize("readout", ["state", "cosine"])
def test_a_perfect_device_is_the_definition(dim, readout):
    W, r, mask = star(dim, unit=False)
    for power, gain in ((1, 1.0), (4, 2.5)):
        weights, state, _ = device_weights(
            W, r, Device(readout=readout), draws(), mask=mask, readout_power=power,
            readout_gain=gain,
        )  # fmt: skip
        expected = oscillator_attention_weights(
            states(W, r), r, readout_power=power, readout_gain=gain, mask=mask
        )
        torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(state, states(W, r))


EVERYTHING = {
    "coupling_mismatch": 0.2, "coupling_bits": 5, "anchor_phase_error": 0.1,
    "natural_frequency_spread": 0.1, "phase_lag": 0.2, "thermal_noise": 0.05,
    "num_readout_samples": 3, "read_noise": 0.1, "converter_bits": 6, "settling_time": 2.0,
}  # fmt: skip


@pytest.mark.parametrize("dim", [2, 5])
@pytest.mark.parametrize("changes", [
    {}, {"readout": "cosine"}, {"start": "previous"}, {"thermal_readout": "mean"},
    {"gain_control": True}, {"draw": "inference"}, {"settling_time": None},
])  # fmt: skip
def test_all_at_once_still_gives_weights(dim, changes):
    W, r, mask = star(dim)
    device = Device(**(EVERYTHING | changes))
    weights, _, settled = device_weights(W, r, device, draws(), mask=mask)
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert not weights[~mask.expand(weights.shape)].any()
    assert settled.unlocked is not None
    again, _, _ = device_weights(W, r, device, draws(), mask=mask)
    assert torch.equal(weights, again)


def test_masked_links_stay_absent_and_anchors_keep_their_length():
    W, r, mask = star(4, unit=False)
    held, moved = program(W, r, Device(coupling_mismatch=0.5, anchor_phase_error=0.3), draws())
    assert not held[~mask.expand(W.shape)].any()
    torch.testing.assert_close(moved.norm(dim=-1), r.norm(dim=-1))
    assert (held[W > 0] != W[W > 0]).all()


def test_a_calibrated_lag_does_nothing_and_an_uncalibrated_one_turns():
    for dim in (2, 5):
        W, r, mask = star(dim)
        lagged = Device(phase_lag=0.4, lag_calibrated=True)
        _, state, _ = device_weights(W, r, lagged, draws(), mask=mask)
        torch.testing.assert_close(state, states(W, r), atol=1e-5, rtol=0)
    W, r, mask = star(2)
    _, state, _ = device_weights(W, r, Device(phase_lag=0.4), draws(), mask=mask)
    cosine = (state * states(W, r)).sum(-1)
    torch.testing.assert_close(cosine, torch.full_like(cosine, math.cos(0.4)))


def test_gain_control_changes_the_rate_and_not_the_place():
    W, r, _ = star(3)
    held, anchor = program(W, r, Device(gain_control=True), draws())
    settled = settle(held, anchor, Device(gain_control=True), draws())
    torch.testing.assert_close(settled.state, states(W, r), atol=1e-5, rtol=0)
    torch.testing.assert_close(settled.rate, (W @ r).norm(dim=-1) / W.sum(-1))


def test_detuning_stronger_than_the_drive_unlocks_even_dimensions_alone():
    for dim, unlocks in ((2, True), (3, False)):
        W, r, _ = star(dim)
        settled = settle(0.01 * W, r, Device(natural_frequency_spread=5.0), draws())
        assert bool(settled.unlocked.float().mean() > 0.5) is unlocks
        torch.testing.assert_close(settled.state.norm(dim=-1), torch.ones(2, 2, 12))


def test_locked_states_rest_where_theory_says():
    W, r, _ = star(2)
    settled = settle(W, r, Device(natural_frequency_spread=0.1), draws(3))
    omega = 0.1 * draws(3).built("frequency", 2, (2, 12, 1))
    skew = torch.zeros(1, 2, 12, 2, 2)
    skew[..., 0, 1], skew[..., 1, 0] = -omega[..., 0], omega[..., 0]
    rest, rate = lohe_equilibrium((W @ r).double(), skew.double().expand(2, 2, 12, 2, 2))
    locked = rate.isfinite()
    assert torch.equal(~locked, settled.unlocked)
    torch.testing.assert_close(settled.state[locked].double(), rest[locked], atol=1e-5, rtol=0)


def test_a_long_chain_of_previous_states_settles():
    W, r, _ = star(4)
    settled = settle(W, r, Device(settling_time=1e4, start="previous"), draws())
    torch.testing.assert_close(settled.state, states(W, r), atol=1e-4, rtol=0)
    short = settle(W, r, Device(settling_time=0.0, start="previous"), draws()).state
    torch.testing.assert_close(short, short[:, :, :1].expand(short.shape), atol=1e-5, rtol=0)


def test_the_mean_of_thermal_noise_shrinks_and_many_samples_approach_it():
    W, r, mask = star(3, batch=1, heads=1, length=4)
    mean, _, _ = device_weights(
        W, r, Device(thermal_noise=0.5, thermal_readout="mean"), draws(), mask=mask
    )
    many, _, _ = device_weights(
        W, r, Device(thermal_noise=0.5, num_readout_samples=500), draws(), mask=mask
    )
    one, _, _ = device_weights(W, r, Device(thermal_noise=0.5), draws(), mask=mask)
    assert float((many - mean).abs().max()) < 0.05
    assert float((one - mean).abs().max()) > 0.1


def test_a_second_harmonic_counts_the_bistable_and_refuses_the_sphere():
    W, r, mask = star(2)
    settled = settle(W, r, Device(injection_strength=100.0), draws())
    assert settled.bistable.all()
    assert not settle(W, r, Device(second_harmonic=1e-6), draws()).bistable.any()
    W, r, mask = star(3)
    with pytest.raises(ValueError, match="`second_harmonic`"):
        device_weights(W, r, Device(second_harmonic=0.1), draws(), mask=mask)


@pytest.mark.parametrize("settling_time", [0.0, 0.5, None])
def test_an_oscillator_is_unlocked_wherever_it_is_read(settling_time):
    W, r, _ = star(2)
    detuned = settle(W, r, Device(natural_frequency_spread=3.0), draws()).unlocked
    harmonic = Device(
        natural_frequency_spread=3.0, second_harmonic=1e-9, settling_time=settling_time
    )
    settled = settle(W, r, harmonic, draws())
    assert torch.equal(settled.unlocked, detuned)
    assert 0.05 < detuned.float().mean() < 0.95
    assert not settled.rate[detuned].any()


@pytest.mark.parametrize("changes", [
    {"settling_time": 0.0, "second_harmonic": 1e-9},
    {"settling_time": 0.5, "injection_strength": 3.0},
    {"natural_frequency_spread": 5.0},
    {"natural_frequency_spread": 5.0, "settling_time": 1.0},
    {"natural_frequency_spread": 5.0, "second_harmonic": 0.3},
    {"natural_frequency_spread": 5.0, "settling_time": 1.0, "start": "previous"},
])  # fmt: skip
@pytest.mark.parametrize("readout", ["sample", "mean"])
def test_little_thermal_noise_changes_little(changes, readout):
    W, r, mask = star(2)
    noise = {"thermal_noise": 1e-9, "thermal_readout": readout}
    _, still, _ = device_weights(W, r, Device(**changes), draws(), mask=mask)
    _, noisy, _ = device_weights(W, r, Device(**changes, **noise), draws(), mask=mask)
    torch.testing.assert_close(noisy, still, atol=5e-3, rtol=0)


def test_thermal_noise_works_against_the_rate_at_rest():
    W, r, _ = star(2)
    device = Device(injection_strength=0.3)
    settled = settle(W, r, device, draws())
    torch.testing.assert_close(settled.hold, settled.rate)
    moving = settle(W, r, Device(injection_strength=0.3, settling_time=0.0), draws())
    torch.testing.assert_close(moving.hold, (W @ r).norm(dim=-1) + 0.6)


def test_hooks_see_their_stage():
    W, r, mask = star(2)
    shapes = {}

    def hook(name, factor):
        def change(tensor, generator):
            assert isinstance(generator, torch.Generator)
            shapes[name] = tuple(tensor.shape)
            return tensor * factor

        return change

    device = Device(
        on_couplings=hook("W", 2.0), on_anchors=hook("r", 1.0), on_states=hook("x", 1.0),
        on_cosines=hook("c", 0.0),
    )  # fmt: skip
    weights, _, settled = device_weights(W, r, device, draws(), mask=mask)
    assert shapes == {"W": W.shape, "r": r.shape, "x": (2, 2, 12, 2), "c": W.shape}
    torch.testing.assert_close(settled.rate, 2 * (W @ r).norm(dim=-1))
    torch.testing.assert_close(weights, (mask / mask.sum(-1, keepdim=True)).expand(W.shape))


def test_nothing_coupled_reads_out_evenly_and_nothing_seen_reads_nothing():
    W, r, mask = star(3)
    mask = mask.clone()
    mask[..., 0, :] = False
    weights, _, _ = device_weights(0 * W, r, Device(), draws(), mask=mask)
    assert not weights[..., 0, :].any()
    torch.testing.assert_close(weights[..., 3, :4], torch.full_like(weights[..., 3, :4], 0.25))
