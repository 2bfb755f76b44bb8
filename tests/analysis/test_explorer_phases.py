import math

import pytest
import torch

from syncattn.analysis.explorer_phases import (
    FRAMES,
    depth_film,
    locking_film,
    settling_film,
    strongest_coordinate,
)
from tests.analysis.explored import build, ids


def first(mechanism, **options):
    model = build(mechanism, **options)
    block = model.model.layers[0]
    with torch.no_grad():
        return block.attention, block.attention_norm(model.model.embed_tokens(ids()))


def test_free_oscillators_settle():
    layer, stream = first("oscillator")
    film = settling_film(layer, stream, head=1, query=20)
    assert film.angle.shape == (FRAMES, 24)
    assert (film.angle.diff(dim=0) <= 1e-6).all()
    told = layer.diagnostics(stream, is_causal=True, angle=0.01)
    time = told.settling_time[0, 1].double()
    assert film.moments[-1] == pytest.approx(float(time.quantile(0.9)), rel=1e-3)
    assert (film.angle[-1] < 0.0101).float().mean() > 0.85
    # tan(angle / 2) decays at the rate of the drive.
    half = film.moments[FRAMES // 2]
    tangent = (film.angle / 2).tan()
    decayed = tangent[0] * torch.exp(-told.drive[0, 1].double() * half)
    torch.testing.assert_close(tangent[FRAMES // 2], decayed, rtol=1e-2, atol=1e-4)


def test_the_read_out_ends_at_the_weights_of_the_layer():
    layer, stream = first("oscillator")
    film = settling_film(layer, stream, head=0, query=11)
    settled = layer.synchrony(stream, is_causal=True).weights[0, 0, 11, :12].double()
    assert film.weights.shape == (FRAMES, 12)
    torch.testing.assert_close(film.weights.sum(-1), torch.ones(FRAMES).double())
    assert (film.weights[-1] - settled).abs().max() < (film.weights[0] - settled).abs().max()
    torch.testing.assert_close(film.weights[-1], settled, rtol=0.1, atol=0.02)


def test_one_token_settles_too():
    layer, stream = first("oscillator")
    film = settling_film(layer, stream[:, :1], head=0, query=0)
    assert film.angle.shape == (FRAMES, 1)
    assert torch.isfinite(film.angle).all()


def test_depth_shows_the_stream_itself():
    model = build("kuramoto")
    states = model.model(ids(), output_hidden_states=True).hidden_states
    film = depth_film(states, num_heads=2, head=1, coordinate=3)
    assert film.moments == [0.0, 1.0, 2.0]
    expected = torch.stack([x[0, :, 8 + 3] for x in states]).double()
    torch.testing.assert_close(film.angle, expected.detach())
    unit = torch.polar(torch.ones_like(film.angle), film.angle)
    torch.testing.assert_close(film.coherence, unit.mean(-1).abs())
    with pytest.raises(ValueError, match="`coordinate` must be at most 7; got 8"):
        depth_film(states, num_heads=2, head=1, coordinate=8)


@pytest.mark.parametrize("mechanism", ["kuramoto", "frustrated"])
def test_the_strongest_coordinate(mechanism):
    layer = build(mechanism).model.layers[0].attention
    with torch.no_grad():
        if mechanism == "kuramoto":
            layer.step_size[1, 0, 5] = -9.0
        else:
            layer.coupling_kernel.raw_amplitude[1, 1, 1, 5] = -9.0
    assert strongest_coordinate(layer, 1) == 5


def test_pairs_lock_where_the_layer_says_so():
    layer, stream = first("selective")
    for query in (0, 7, 23):
        film = locking_film(layer, stream, head=0, query=query)
        locked = layer.synchrony(stream, is_causal=True).locked[0, 0, query, : query + 1]
        assert film.locked.tolist() == locked.tolist()
        assert film.angle.shape == (FRAMES, query + 1)
    assert 0 < film.locked.float().mean() < 1


def test_locked_pairs_rest_at_the_angle_of_their_weight():
    layer, stream = first("selective")
    film = locking_film(layer, stream, head=0, query=23)
    last = film.angle[-1][film.locked]
    assert (last.abs() <= math.pi / 2).all()
    # Adler's equation, solved by small steps of another kind.
    omega = layer.natural_frequency(stream)[0, 0].double()
    rho = (omega - omega[23]).norm(dim=-1).detach()
    order = layer.synchrony(stream, is_causal=True).order_parameter[0, 0, 23].double()
    K, a = layer.coupling_strength[0].double(), layer.coupling_decay[0].double()
    threshold = (K * order * torch.exp(-a * rho.square())).detach()
    phase, steps = torch.zeros_like(rho), 400
    dt = (film.moments[1] - film.moments[0]) / steps
    for moment in range(1, 9):
        for _ in range(steps):
            middle = phase + dt / 2 * (rho - threshold * phase.sin())
            phase = phase + dt * (rho - threshold * middle.sin())
        torch.testing.assert_close(film.angle[moment], phase, rtol=1e-3, atol=1e-3)
    assert (film.angle[8][~film.locked] > math.pi / 2).any()


def test_without_coupling_everything_but_itself_drifts():
    layer, stream = first("selective")
    with torch.no_grad():
        layer.raw_coupling_strength.fill_(-30.0)
    film = locking_film(layer, stream, head=0, query=9)
    assert film.locked.tolist() == [False] * 9 + [True]
    assert torch.isfinite(film.angle).all()
