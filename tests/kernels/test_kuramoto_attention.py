import sys

import pytest
import torch

from syncattn import kernels, reference
from syncattn._masks import Visibility
from syncattn.kernels.kuramoto_attention import dense_weights
from syncattn.kernels.score import Score
from tests.conformance import SCENES
from tests.tolerance import assert_same

MODULE = sys.modules["syncattn.kernels.kuramoto_attention"]


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def drawn(scene, *, exclude_self=True, sink=None, drift=True):
    """Returns a score of a scene, and its weights by the definition."""
    queries, keys = scene.queries, scene.keys
    theta_u = 5 * normal(scene.batch, 2, keys, 3)
    theta_t = theta_u if queries == keys else theta_u[:, :, -queries:]
    g_t, g_u = normal(*theta_t.shape, seed=1), normal(*theta_u.shape, seed=2)
    angle = normal(keys, 3, seed=3)
    segment = None
    if scene.lengths is not None:
        segment = torch.arange(len(scene.lengths)).repeat_interleave(torch.tensor(scene.lengths))
    visibility = Visibility(
        queries, keys, scene.is_causal, scene.real, segment, scene.allowed, exclude_self
    )
    turn = (angle.cos(), angle.sin()) if drift else None
    score = Score(theta_t, theta_u, g_t, g_u, turn, 0.3, sink, visibility)
    angle = angle if drift else 0 * angle
    weights = reference.kuramoto_attention_weights(
        theta_t + angle[keys - queries :], theta_u + angle, g_t, g_u, scale=0.3, sink=sink,
        mask=scene.mask(exclude_self=exclude_self),
    )  # fmt: skip
    return score, weights


SINKS = pytest.mark.parametrize(
    "sink", [None, torch.tensor([0.3, -1.0], dtype=torch.float64)], ids=["plain", "sink"]
)


@SINKS
@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("drift", [True, False])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_it_is_the_sum_of_sines_under_the_weights(scene, drift, exclude_self, sink):
    score, weights = drawn(scene, exclude_self=exclude_self, sink=sink, drift=drift)
    assert_same(dense_weights(score), weights)
    expected = reference.kuramoto_attention(weights, score.query_phase, score.key_phase)
    assert_same(kernels.kuramoto_attention(score), expected)


@SINKS
@pytest.mark.parametrize("elements", [1, 40])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_parts_of_any_size_give_what_the_whole_gives(scene, elements, sink, monkeypatch):
    score, _ = drawn(scene, sink=sink)
    whole = kernels.kuramoto_attention(
        score._replace(key_phase=score.key_phase.clone().requires_grad_())
    ).detach()
    monkeypatch.setattr(MODULE, "CACHED_ELEMENTS", elements)
    assert_same(kernels.kuramoto_attention(score), whole, 1e-14)
    assert_same(
        kernels.kuramoto_attention(score._replace(query_phase=score.query_phase + 0)), whole
    )


def test_a_strong_sink_takes_everything_and_a_weak_one_nothing():
    scene = next(scene for scene in SCENES if scene.name == "causal")
    plain, weights = drawn(scene)
    for logit, expected in ((60.0, 0.0), (-60.0, 1.0)):
        sink = torch.full((2,), logit, dtype=torch.float64)
        found = dense_weights(plain._replace(sink=sink))
        assert_same(found, expected * weights)


def test_nothing_seen_means_no_motion():
    theta = torch.randn(1, 1, 1, 3, requires_grad=True)
    gate = torch.ones(1, 1, 1, 3)
    for sink in (None, torch.zeros(1)):
        out = kernels.kuramoto_attention(
            Score(
                theta, theta, gate, gate, None, 1.0, sink,
                Visibility(1, 1, is_causal=True, exclude_self=True),
            )
        )  # fmt: skip
        assert not out.any()
        (gradient,) = torch.autograd.grad(out.sum(), theta)
        assert not gradient.any()


def test_a_drift_that_alone_learns_is_not_split():
    # Large enough for parts, which are written in place.
    theta = torch.randn(4, 4, 130, 32)
    turn = [torch.randn(130, 32, requires_grad=True) for _ in range(2)]
    gate = torch.ones_like(theta)
    seen = Visibility(130, 130, is_causal=True, exclude_self=True)
    score = Score(theta, theta, gate, gate, tuple(turn), 0.3, None, seen)
    assert len(MODULE._parts(score._replace(drift=None), ())) > 1
    found = torch.autograd.grad(kernels.kuramoto_attention(score).square().sum(), turn)
    learned = theta.clone().requires_grad_()
    every = score._replace(key_phase=learned, query_phase=learned)
    expected = torch.autograd.grad(kernels.kuramoto_attention(every).square().sum(), turn)
    for x, other in zip(found, expected, strict=True):
        assert x.any()
        torch.testing.assert_close(x, other)
