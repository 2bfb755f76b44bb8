import copy
import math

import pytest
import torch

from syncattn.nn import Coefficient, CouplingKernel
from syncattn.nn.coupling_kernel import coupled_coordinates
from tests.tolerance import assert_same


def made(**options):
    kernel = CouplingKernel(2, 2, 3, 4, **options)
    with torch.no_grad():
        kernel.raw_amplitude.normal_()
        if kernel.raw_frustration is not None:
            kernel.raw_frustration.normal_()
    return kernel


def test_names_lead_to_the_entries_of_the_equation():
    kernel = made()
    found = kernel.coefficient(delay=1, harmonic=2, head=0)
    assert isinstance(found, Coefficient)
    raw = kernel.raw_amplitude[0, 1, 1]
    assert torch.equal(found.amplitude, raw.abs())
    assert torch.equal(found.sign, raw.sign())
    assert torch.equal(found.frustration, kernel.raw_frustration[0, 1, 1])
    torch.testing.assert_close(found.value, raw * torch.exp(1j * found.frustration))
    torch.testing.assert_close(found.value, kernel.value[0, 1, 1])
    one = kernel.coefficient(delay=1, harmonic=2, head=0, coordinate=3)
    assert torch.equal(one.amplitude, found.amplitude[3:])


def test_what_is_set_is_read_and_nothing_else_moves():
    kernel = made()
    before = kernel.signed_amplitude.clone(), kernel.frustration.clone()
    kernel.set(delay=1, harmonic=3, head=1, amplitude=0.5, frustration=0.25, sign=-1)
    found = kernel.coefficient(delay=1, harmonic=3, head=1)
    assert found.amplitude.tolist() == [0.5] * 4
    assert found.sign.tolist() == [-1.0] * 4
    assert found.frustration.tolist() == [0.25] * 4
    moved = kernel.signed_amplitude != before[0], kernel.frustration != before[1]
    for mask in moved:
        assert mask[1, 1, 2].all()
        assert mask.sum() == 4


def test_an_amplitude_keeps_its_sign_and_a_sign_its_amplitude():
    kernel = made()
    signs = kernel.sign.clone()
    kernel.set(amplitude=2.0)
    assert torch.equal(kernel.signed_amplitude, 2 * signs)
    kernel.set(head=0, sign=-1)
    assert (kernel.signed_amplitude[0] == -2).all()
    assert torch.equal(kernel.signed_amplitude[1], 2 * signs[1])
    kernel.set(amplitude=0.0)
    kernel.set(head=1, amplitude=torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert kernel.signed_amplitude[1, 0, 0].abs().tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_frozen_entries_stay_whatever_an_optimizer_does(optimizer):
    kernel = made()
    kernel.freeze(frustration=True)
    kernel.freeze(amplitude=True, delay=0, harmonic=1)
    amplitude, angle = kernel.signed_amplitude.clone(), kernel.frustration.clone()
    steps = optimizer(kernel.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        steps.zero_grad()
        (kernel.signed_amplitude.square().sum() + kernel.frustration.cos().sum()).backward()
        steps.step()
    assert torch.equal(kernel.frustration, angle)
    held = kernel.amplitude_frozen
    assert held.sum() == 2 * 4
    assert torch.equal(kernel.signed_amplitude[held], amplitude[held])
    assert (kernel.signed_amplitude[~held] != amplitude[~held]).all()
    assert not kernel.raw_frustration.requires_grad
    kernel.unfreeze()
    # It goes on from where it stood.
    assert torch.equal(kernel.frustration, angle)
    kernel.frustration.cos().sum().backward()
    assert kernel.raw_frustration.grad.any()


def test_both_kinds_freeze_when_none_is_named_and_a_set_reaches_frozen_ones():
    kernel = made()
    kernel.freeze(head=1)
    assert kernel.amplitude_frozen[1].all()
    assert kernel.frustration_frozen[1].all()
    assert not kernel.amplitude_frozen[0].any()
    kernel.set(head=1, amplitude=3.0, frustration=1.0)
    assert (kernel.amplitude[1] == 3).all()
    assert (kernel.frustration[1] == 1).all()
    kernel.unfreeze(amplitude=True, head=1)
    assert not kernel.amplitude_frozen.any()
    assert kernel.frustration_frozen[1].all()
    assert (kernel.amplitude[1] == 3).all()


def test_what_is_frozen_survives_saving():
    kernel, other = made(), made()
    kernel.freeze(frustration=True, harmonic=2)
    other.load_state_dict(kernel.state_dict())
    assert torch.equal(other.frustration_frozen, kernel.frustration_frozen)
    assert torch.equal(other.value, kernel.value)


def test_the_flags_follow_a_reset_and_a_load():
    kernel, fresh = made(), made().state_dict()
    kernel.freeze()
    kernel.reset_parameters()
    assert all(p.requires_grad for p in kernel.parameters())
    kernel.freeze()
    held = copy.deepcopy(kernel.state_dict())
    kernel.load_state_dict(fresh)
    assert all(p.requires_grad for p in kernel.parameters())
    torch.nn.ModuleList([kernel]).load_state_dict({f"0.{n}": x for n, x in held.items()})
    assert not any(p.requires_grad for p in kernel.parameters())
    copied = copy.deepcopy(kernel)
    copied.unfreeze(amplitude=True)
    assert [p.requires_grad for p in copied.parameters()] == [True, False]
    assert not kernel.raw_amplitude.requires_grad


def test_what_the_user_switched_off_stays_off():
    kernel = made().requires_grad_(False)
    kernel.freeze(harmonic=2, amplitude=True)
    kernel.freeze()
    kernel.unfreeze()
    kernel.reset_parameters()
    assert not any(p.requires_grad for p in kernel.parameters())


def test_fixed_angles_have_no_parameter():
    kernel = made(learn_frustration=False)
    assert [name for name, _ in kernel.named_parameters()] == ["raw_amplitude"]
    assert not kernel.frustration.any()
    kernel.unfreeze()
    assert not kernel.frustration.requires_grad
    with pytest.raises(ValueError, match="`frustration` must be learned to be set"):
        kernel.set(frustration=0.1)


def test_a_reset_forgets_what_was_frozen():
    kernel = made(delay_only=True)
    kernel.freeze()
    kernel.reset_parameters()
    assert not kernel.frustration_frozen.any()
    assert kernel.amplitude_frozen[:, 0].all()
    assert not kernel.amplitude_frozen[:, 1].any()


def test_the_table_names_every_coefficient():
    kernel = CouplingKernel(1, 2, 2, 2)
    kernel.set(amplitude=0.0, frustration=0.0)
    kernel.set(delay=1, harmonic=1, amplitude=0.5, sign=-1, frustration=0.25)
    kernel.set(delay=0, harmonic=2, amplitude=2.0, frustration=torch.tensor([0.0, math.pi / 2]))
    kernel.freeze(frustration=True, delay=1)
    rows = [line.split() for line in kernel.table().splitlines()]
    assert rows[0][:3] == ["head", "delay", "harmonic"]
    assert len(rows) == 5
    assert rows[2] == ["0", "0", "2", "2.000", "100%", "+0.785", "0.71", "-"]
    # A repulsive coefficient is half a turn away.
    assert rows[3] == ["0", "1", "1", "0.500", "0%", f"{0.25 - math.pi:+.3f}", "1.00", "α"]
    assert "heads=1, delays=2, harmonics=2, width=2" in repr(kernel)
    assert "frozen_frustrations=4" in repr(kernel)


def test_half_precision_has_a_complex_value():
    kernel = made().bfloat16()
    assert kernel.value.dtype == torch.complex64
    assert_same(kernel.value.abs().double(), kernel.amplitude.double(), 1e-6)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"delay": 2}, "`delay` must be at most 1; got 2. The kernel has 2"),
        ({"harmonic": 0}, "`harmonic` must be at least 1; got 0"),
        ({"harmonic": 4}, "`harmonic` must be at most 3; got 4"),
        ({"head": -1}, "`head` must be at least 0; got -1"),
        ({"coordinate": 4}, "`coordinate` must be at most 3"),
        ({"amplitude": -1.0}, "`amplitude` must be at least 0; got -1. Pass the sign as"),
        ({"frustration": math.inf}, "`frustration` must be finite"),
        ({"sign": 0}, "`sign` must be one of 1, -1"),
    ],
)
def test_what_does_not_exist_is_refused(where, message):
    with pytest.raises(ValueError, match=message):
        made().set(**where)


def test_a_kernel_of_nothing_is_refused():
    for sizes in ((0, 2, 2), (2, 0, 2), (2, 2, 0), (2, 2, 2, 0)):
        with pytest.raises(ValueError, match="must be at least 1; got 0"):
            CouplingKernel(*sizes)
    with pytest.raises(ValueError, match="`num_delays` must be at least 2; got 1"):
        CouplingKernel(2, 1, 1, delay_only=True)


def test_without_repulsion_amplitudes_stay_positive_and_all_learn():
    kernel = CouplingKernel(1, 2, 2, 3, repulsion=False)
    optimizer = torch.optim.SGD(kernel.parameters(), lr=0.3)
    for _ in range(5):
        optimizer.zero_grad()
        (kernel.signed_amplitude + 1.0).square().sum().backward()
        assert kernel.raw_amplitude.grad.ne(0).all()
        optimizer.step()
    assert (kernel.signed_amplitude >= 0).all()
    assert kernel.sign.min() >= 0
    with pytest.raises(ValueError, match="`sign`"):
        kernel.set(sign=-1)


@pytest.mark.parametrize(
    ("width", "coupled", "expected"),
    [
        (4, 0.5, [1, 0, 1, 0]),
        (5, 0.5, [1, 0, 1, 0, 1]),
        (4, 0.0, [0] * 4),
        (4, 1.0, [1] * 4),
        (1, 0.5, [1]),
    ],
)
def test_a_share_of_the_coordinates_starts_coupled(width, coupled, expected):
    kernel = CouplingKernel(2, 2, 2, width, amplitude=0.7, coupled=coupled)
    first = kernel.signed_amplitude[:, :, 0]
    assert torch.equal(first, 0.7 * torch.tensor(expected).expand_as(first).float())
    assert not kernel.signed_amplitude[:, :, 1].any()


def test_a_rounded_product_couples_no_coordinate_too_many():
    for width, share in ((100, 0.07), (100, 0.55), (64, 0.35), (16, 0.7)):
        expected = math.ceil(round(width * share, 9))
        assert coupled_coordinates(torch.zeros(width), share).sum() == expected


def test_without_repulsion_uncoupled_first_harmonics_learn_too():
    kernel = CouplingKernel(1, 2, 2, 4, coupled=0.5, repulsion=False)
    torch.testing.assert_close(kernel.raw_amplitude[0, 0, 0].detach(), torch.tensor([1, 0.02] * 2))
    kernel.value.real.sum().backward()
    assert kernel.raw_amplitude.grad.all()
    both = CouplingKernel(1, 2, 2, 4, coupled=0.5)
    assert both.raw_amplitude[0, 0, 0].tolist() == [1, 0, 1, 0]
