import math

import pytest
import torch

from syncattn.analysis.observation import observe
from syncattn.functional.oscillators import wrap_phase
from syncattn.nn.heads import split_heads
from tests.benchmarks.finished_run import MECHANISMS, model

TEXT = b"locks and drifts"


@pytest.fixture(scope="module", params=MECHANISMS)
def seen(request):
    return observe(model(request.param), TEXT)


def test_a_picture_of_every_layer_and_nothing_hidden_has_weight(seen):
    assert len(seen.layers) == 2
    for layer in seen.layers:
        assert layer.weights.shape == (2, len(TEXT), len(TEXT))
        assert not layer.weights[:, ~seen.visible].any()


def test_what_is_particular_to_the_mechanism_is_there(seen):
    there = {
        name
        for name in ("film", "order_by_head", "coupling", "frustration", "settling", "locking")
        if getattr(seen, name) is not None and getattr(seen, name) != []
    }
    expected = {
        "softmax": set(),
        "selective": {"film", "locking"},
        "oscillator": {"film", "settling"},
        "kuramoto": {"film", "order_by_head", "coupling"},
        "frustrated": {"film", "order_by_head", "coupling", "frustration"},
    }
    assert there == expected[seen.mechanism]


def test_phases_lie_on_the_circle_and_every_moment_has_a_name(seen):
    if seen.film is None:
        assert seen.mechanism == "softmax"
        return
    phase = seen.film.phase
    assert phase.shape[:3] == (len(seen.film.moments), 2, len(TEXT))
    known = phase[phase.isfinite()]
    assert ((known > -math.pi - 1e-6) & (known <= math.pi + 1e-6)).all()


def test_the_film_of_the_torus_is_the_stream():
    net = model("kuramoto")
    film = observe(net, TEXT).film
    ids = torch.tensor([list(TEXT)])
    states = net.model(ids, output_hidden_states=True).hidden_states
    for moment, state in zip(film.phase, states, strict=True):
        torch.testing.assert_close(moment, wrap_phase(split_heads(state, 2)[0]).detach())


def test_oscillators_come_nearer_and_settle_at_their_time():
    seen = observe(model("oscillator"), TEXT)
    angle = seen.film.phase[:9, :, :, 0]
    known = angle.isfinite().all(0)
    assert known.any()
    assert (angle[:, known].diff(dim=0) <= 1e-6).all()
    # At its own settling time an oscillator is within the angle, just before it is not.
    layer = seen.settling[0]
    last = float(layer.settling_time[layer.settling_time.isfinite()].double().quantile(0.9))
    done = (layer.settling_time <= last) & layer.coupled
    assert (angle[-1][done] <= 0.0100001).all()
    assert (angle[-1][~done & known] > 0.0099).all()


@pytest.mark.parametrize(
    ("text", "named"), [(b"a", "from 2 to 48"), (b"a" * 49, "got 49"), (b"", "got 0")]
)
def test_a_text_that_does_not_fit(text, named):
    with pytest.raises(ValueError, match=named):
        observe(model("softmax"), text)


def test_a_model_of_other_tokens_is_refused():
    net = model("softmax")
    net.config.vocab_size = 200
    with pytest.raises(ValueError, match="must read bytes"):
        observe(net, TEXT)
