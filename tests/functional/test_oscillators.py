import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from syncattn import functional, reference
from syncattn._masks import Visibility, segments
from syncattn.functional.oscillators import at_least_float32, visible_order_parameter
from tests.conformance import SCENES
from tests.tolerance import assert_same


@given(st.floats(-1e6, 1e6))
def test_wrapping_keeps_the_point_of_the_circle(phase):
    theta = torch.tensor(phase, dtype=torch.float64)
    wrapped = functional.wrap_phase(theta)
    assert -torch.pi < wrapped.item() <= torch.pi
    assert abs(wrapped.cos() - theta.cos()) < 1e-9
    assert abs(wrapped.sin() - theta.sin()) < 1e-9


def test_wrapping_at_the_ends():
    pi = torch.tensor(torch.pi, dtype=torch.float64)
    above = torch.nextafter(pi, torch.tensor(4.0, dtype=torch.float64))
    for theta in (pi, -pi, above, 3 * pi, -3 * pi, torch.zeros_like(pi)):
        wrapped = functional.wrap_phase(theta).item()
        assert -torch.pi < wrapped <= torch.pi
    assert functional.wrap_phase(-pi).item() == torch.pi


def test_order_parameter_by_hand():
    half = torch.tensor([0.0, torch.pi / 2], dtype=torch.float64)
    z = functional.order_parameter(half)
    assert z.dtype == torch.complex128
    assert_same(torch.view_as_real(z), torch.tensor([0.5, 0.5], dtype=torch.float64))
    antiphase = torch.tensor([0.0, torch.pi], dtype=torch.float64)
    assert functional.order_parameter(antiphase).abs() < 1e-15
    assert abs(functional.order_parameter(antiphase, harmonic=2).abs() - 1) < 1e-15
    with pytest.raises(ValueError, match="`harmonic` must be at least 1; got 0"):
        functional.order_parameter(half, harmonic=0)


def test_order_parameter_turns_with_its_population():
    phase = torch.randn(3, 7, dtype=torch.float64)
    z = functional.order_parameter(phase, harmonic=3)
    turned = functional.order_parameter(phase + 0.4, harmonic=3)
    assert_same(turned.abs(), z.abs())
    expected = z * torch.exp(torch.tensor(1.2j, dtype=torch.complex128))
    assert_same(torch.view_as_real(turned), torch.view_as_real(expected))


def test_order_parameter_ignores_what_is_hidden():
    phase = torch.tensor([[0.0, 1.0, torch.nan]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([True, True, False])
    z = functional.order_parameter(phase, mask=mask)
    shown = functional.order_parameter(phase[:, :2])
    assert torch.equal(z, shown)
    (gradient,) = torch.autograd.grad(z.abs().sum(), phase)
    assert gradient.isfinite().all()
    assert functional.order_parameter(phase, mask=torch.zeros(3, dtype=torch.bool)).abs() == 0


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(narrow):
    phase = torch.randn(5).to(narrow)
    assert functional.order_parameter(phase).dtype == torch.complex64
    assert at_least_float32(phase).dtype == torch.float32
    wide = phase.double()
    assert at_least_float32(wide) is wide


def test_rotary_drift_is_a_ladder():
    ladder = functional.rotary_drift(4, base=10_000.0)
    torch.testing.assert_close(ladder, torch.tensor([1.0, 0.1, 0.01, 0.001]))
    with pytest.raises(ValueError, match="`base` must be finite and strictly between 1 and inf"):
        functional.rotary_drift(4, base=1.0)
    with pytest.raises(ValueError, match="`dim` must be at least 1"):
        functional.rotary_drift(0)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_linear_time_order_parameter_is_the_row_sum_of_the_definition(scene, unbiased):
    phase = torch.randn(scene.batch, 2, scene.keys, 3, dtype=torch.float64, requires_grad=True)
    named = scene.visibility()
    segment = named.pop("cu_seqlens", None)
    visibility = Visibility(
        scene.queries, scene.keys, named["is_causal"], named.get("key_mask"),
        None if segment is None else segments(segment, scene.keys), named.get("attn_mask"),
    )  # fmt: skip
    r = visible_order_parameter(phase, visibility, unbiased=unbiased)
    expected = reference.row_order_parameter(phase, scene.mask(), unbiased=unbiased)
    assert_same(r, expected)
    assert ((r >= 0) & (r <= 1)).all()
    ours, theirs = (torch.autograd.grad(x.square().sum(), phase)[0] for x in (r, expected))
    assert_same(ours, theirs, 1e-10)
