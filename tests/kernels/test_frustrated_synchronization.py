import pytest
import torch

from syncattn import kernels, reference
from syncattn.kernels.frustrated_synchronization import harmonics
from tests.conformance import SCENES, Scene
from tests.kernels.test_kuramoto_attention import MODULE, SINKS, drawn, normal
from tests.tolerance import assert_same


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_harmonics_by_recurrence_are_the_cosines_and_sines_of_multiples(count):
    theta = 5 * torch.randn(3, 4, dtype=torch.float64)
    cosines, sines = harmonics(theta.cos(), theta.sin(), count)
    assert len(cosines) == len(sines) == count
    for m, (cosine, sine) in enumerate(zip(cosines, sines, strict=True), start=1):
        assert_same(cosine, (m * theta).cos())
        assert_same(sine, (m * theta).sin())


def test_a_state_of_length_zero_has_no_harmonics():
    nothing = torch.zeros(3)
    for columns in harmonics(nothing, nothing, 5):
        assert not any(column.any() for column in columns)


@SINKS
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("delays", [1, 2])
@pytest.mark.parametrize("elements", [1, 10**6])
@pytest.mark.parametrize("queries", [1, 2, 6])
def test_folding_the_kernel_into_the_values_is_the_double_sum(
    queries, elements, delays, width, sink, monkeypatch
):
    monkeypatch.setattr(MODULE, "CACHED_ELEMENTS", elements)
    score, weights = drawn(Scene("causal", queries=queries, is_causal=True), sink=sink)
    a, alpha = normal(2, delays, 3, width, seed=5), normal(2, delays, 3, width, seed=6)
    out = kernels.frustrated_synchronization(score, a, alpha)
    theta = score.query_phase, score.key_phase
    expected = reference.frustrated_synchronization(weights, *theta, a, alpha)
    assert_same(out, expected)


@SINKS
@pytest.mark.parametrize("delays", [1, 2, 4])
@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_the_dense_form_takes_every_mask_and_every_delay(scene, exclude_self, delays, sink):
    score, weights = drawn(scene, exclude_self=exclude_self, sink=sink)
    a, alpha = normal(2, delays, 2, 3, seed=5), normal(2, delays, 2, 3, seed=6)
    reach = scene.mask(include_self=True)
    out = kernels.frustrated_synchronization_dense(score, a, alpha, reach=reach)
    theta = score.query_phase, score.key_phase
    expected = reference.frustrated_synchronization(weights, *theta, a, alpha, reach=reach)
    assert_same(out, expected)
