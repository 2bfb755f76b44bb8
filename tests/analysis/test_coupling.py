import inspect
import math

import pytest
import torch

from syncattn.analysis.coupling import (
    coupling_functions,
    frustration_parts,
    order_by_head,
    order_by_layer,
)
from syncattn.nn import CouplingKernel, FrustratedSynchronization, KuramotoAttention
from syncattn.reference import frustrated_synchronization_coupling
from tests.tolerance import assert_same


def frustrated(**options):
    layer = FrustratedSynchronization(8, 2, **options)
    with torch.no_grad():
        layer.coupling_kernel.raw_amplitude.normal_()
        layer.coupling_kernel.raw_frustration.normal_()
    return layer


def test_the_curve_is_the_coupling_of_the_definition():
    kernel = frustrated(num_harmonics=3, per_coordinate=False).coupling_kernel.double()
    found = coupling_functions(kernel, num_points=17)
    phi = found.phase_difference
    assert phi[0] == -math.pi
    assert phi[-1] == math.pi
    for h in range(2):
        for s in range(2):
            amplitude, angle = (x[h, s] for x in (kernel.signed_amplitude, kernel.frustration))
            expected = frustrated_synchronization_coupling(phi[:, None], amplitude, angle)[:, 0]
            assert_same(found.pull[h, s], expected.detach())
    assert torch.equal(found.lower, found.pull)
    assert torch.equal(found.upper, found.pull)


def test_coordinates_are_averaged_and_their_spread_is_shown():
    kernel = frustrated().coupling_kernel
    each = torch.stack([coupling_functions(_one(kernel, k)).pull for k in range(4)])
    found = coupling_functions(kernel)
    assert_same(found.pull, each.mean(0))
    assert (found.lower <= found.upper).all()
    assert (found.lower >= each.amin(0) - 1e-12).all()
    assert (found.upper <= each.amax(0) + 1e-12).all()
    assert ((found.agreement > 0) & (found.agreement < 1)).all()


def _one(kernel, coordinate):
    single = CouplingKernel(*kernel.raw_amplitude.shape[:3], 1)
    with torch.no_grad():
        single.raw_amplitude.copy_(kernel.raw_amplitude[..., coordinate, None])
        single.raw_frustration.copy_(kernel.raw_frustration[..., coordinate, None])
    return single


def test_named_numbers_are_those_that_were_set():
    kernel = CouplingKernel(2, 2, 2, 4)
    kernel.set(amplitude=0.0, frustration=0.0)
    kernel.set(head=0, delay=0, harmonic=1, amplitude=1.0, frustration=0.4)
    kernel.set(head=0, delay=0, harmonic=2, amplitude=3.0, frustration=0.0)
    kernel.set(head=0, delay=1, harmonic=1, amplitude=4.0, frustration=0.4, sign=-1)
    found = coupling_functions(kernel)
    assert_same(found.sakaguchi_angle[0], torch.tensor([0.4, 0.4 - math.pi]).double(), 1e-6)
    assert_same(found.harmonic_share[0, 0], torch.tensor([0.25, 0.75]).double(), 1e-6)
    assert_same(found.delay_share[0], torch.tensor([0.5, 0.5]).double(), 1e-6)
    slope = torch.tensor([math.cos(0.4) + 6, -4 * math.cos(0.4)], dtype=torch.float64)
    assert_same(found.slope[0], slope, 1e-6)
    # The slope is that of the curve at zero.
    middle = len(found.phase_difference) // 2
    step = found.phase_difference[1] - found.phase_difference[0]
    measured = (found.pull[..., middle + 1] - found.pull[..., middle - 1]) / (2 * step)
    assert_same(measured, found.slope, 1e-3)
    assert found.harmonic_share[1].isnan().all()


def test_kuramoto_attention_has_a_sine_of_the_size_of_its_step():
    layer = KuramotoAttention(8, 2, step_size=0.5, coupled=1.0)
    found = coupling_functions(layer)
    assert_same(found.pull, (0.5 * found.phase_difference.sin()).expand(2, 1, -1), 1e-7)
    assert not found.sakaguchi_angle.any()
    half = coupling_functions(KuramotoAttention(8, 2, step_size=0.5))
    assert_same(half.pull, 0.5 * found.pull, 1e-7)


def test_other_layers_are_refused():
    with pytest.raises(TypeError, match="`layer` must be a FrustratedSynchronization"):
        inspect.unwrap(coupling_functions)(torch.nn.Linear(2, 2))


def test_static_and_driven_frustration_are_told_apart():
    layer = FrustratedSynchronization(8, 2)
    layer.coupling_kernel.set(frustration=0.5)
    steady = 0.3 * torch.arange(40.0)[None, :, None].expand(2, 40, 8)
    parts = frustration_parts(layer, steady)
    assert_same(parts.static_angle, torch.full((2,), 0.5).double(), 1e-6)
    assert_same(parts.static_concentration, torch.ones(2).double(), 1e-6)
    assert_same(parts.transition_angle, torch.full((2,), 0.3).double(), 1e-5)
    assert_same(parts.transition_concentration, torch.ones(2).double(), 1e-6)
    assert (parts.transition_count.sum(1) == 2 * 39 * 4).all()
    assert ((parts.transition_count > 0).sum(1) == 1).all()
    random = frustration_parts(layer, 100 * torch.randn(2, 40, 8))
    assert (random.transition_concentration < 0.4).all()
    assert_same(random.static_angle, parts.static_angle)


def test_coordinates_that_disagree_have_no_static_angle_in_common():
    layer = FrustratedSynchronization(8, 2)
    for k in range(4):
        layer.coupling_kernel.set(coordinate=k, frustration=k * math.pi / 2)
    parts = frustration_parts(layer, torch.randn(1, 5, 8))
    assert (parts.static_concentration < 1e-6).all()


def test_padding_and_boundaries_do_not_count():
    layer, phase = FrustratedSynchronization(8, 2), torch.randn(1, 6, 8)
    real = torch.tensor([[True, True, True, False, False, False]])
    assert (frustration_parts(layer, phase, key_mask=real).transition_count.sum(1) == 2 * 4).all()
    ends = torch.tensor([0, 2, 6])
    assert (frustration_parts(layer, phase, cu_seqlens=ends).transition_count.sum(1) == 16).all()
    with pytest.raises(ValueError, match="`phase` must hold a token with a successor"):
        frustration_parts(layer, phase[:, :1])
    with pytest.raises(ValueError, match="`delay` must be one of the layer's, at most 1; got 2"):
        frustration_parts(layer, phase, delay=2)


def test_order_by_layer_tells_agreement_and_clusters():
    together, halves = torch.full((2, 8, 3), 1.3), torch.zeros(2, 8, 3)
    halves[:, ::2] = math.pi
    found = order_by_layer([together, halves, torch.randn(2, 8, 3)], num_harmonics=2)
    assert_same(found[0], torch.ones(2).double(), 1e-6)
    assert_same(found[1], torch.tensor([0.0, 1.0]).double(), 1e-6)
    assert ((found[2] > 0) & (found[2] < 1)).all()


def test_order_by_layer_passes_padding_over():
    phase = torch.zeros(1, 4, 3)
    phase[:, 2:] = math.pi
    real = torch.tensor([[True, True, False, False]])
    assert_same(order_by_layer([phase], key_mask=real), torch.ones(1, 4).double(), 1e-6)
    with pytest.raises(ValueError, match="`phases` must hold at least one layer"):
        order_by_layer([])


def test_order_by_head_is_that_of_its_own_coordinates():
    phases = [torch.randn(2, 7, 12) for _ in range(3)]
    found = order_by_head(phases, 3, num_harmonics=2)
    assert found.shape == (3, 3, 2)
    for head in range(3):
        own = [x[..., 4 * head : 4 * head + 4] for x in phases]
        torch.testing.assert_close(found[:, head], order_by_layer(own, num_harmonics=2))
    torch.testing.assert_close(found.mean(1), order_by_layer(phases, num_harmonics=2))


def test_heads_must_divide_the_coordinates():
    with pytest.raises(ValueError, match="num_heads"):
        order_by_head([torch.zeros(1, 3, 10)], 4)


def test_parts_of_a_trained_layer_keep_no_graph():
    layer = FrustratedSynchronization(8, 2)
    phase = torch.randn(1, 5, 8, requires_grad=True)
    parts = frustration_parts(layer, phase)
    assert not parts.static_angle.requires_grad
    assert not parts.transition_angle.requires_grad
