import math

import pytest
import torch

from syncattn.nn import SelectiveSynchronization, locking_loss
from syncattn.nn.calibration import frequency_std, squared_cutoff

K = A = math.log1p(math.e)


def loss_of(omega, target=0.3, **options):
    heads = omega.shape[1]
    return locking_loss(
        omega,
        coupling_strength=torch.full((heads,), K),
        coupling_decay=torch.full((heads,), A),
        target_locked_fraction=target,
        **options,
    )


def gaussian(target, shape=(2, 2, 64, 8)):
    return frequency_std(target, squared_cutoff(K, A), shape[-1]) * torch.randn(shape)


def locked_fraction(omega):
    u = (omega[..., None, :] - omega[..., None, :, :]).square().sum(-1)
    other = ~torch.eye(omega.shape[2], dtype=torch.bool)
    return (u < squared_cutoff(K, A))[..., other].float().mean(-1)


@pytest.mark.parametrize("target", [0.05, 0.3, 0.8])
def test_it_is_least_at_the_target(target):
    omega = gaussian(target)
    losses = [loss_of(s * omega, target, num_pairs=63).item() for s in (0.5, 0.8, 1.0, 1.25, 2.0)]
    assert min(losses) == losses[2] >= 0
    assert losses[2] < 0.02
    assert losses == sorted(losses[:3], reverse=True) + sorted(losses[3:])


@pytest.mark.parametrize("distance", [3.0, 30.0, 1e4])
def test_its_gradient_pulls_from_any_distance(distance):
    omega = (distance * gaussian(0.3)).requires_grad_()
    assert locked_fraction(omega).max() == 0 or distance == 3.0
    loss_of(omega).backward()
    # The derivative by the logarithm of a common scale is of order one at any distance.
    assert 0.5 < (omega.grad * omega).sum().item() < 50


# theory: SS-8
@pytest.mark.parametrize("unit", [1e-3, 1e-7, 1e4])
def test_the_unit_of_time_changes_nothing(unit):
    omega = gaussian(0.3).double()
    omega[:, :, :8] = omega[:, :, :1]
    order = torch.rand(2, 2, 64).double()

    def loss(s):
        torch.manual_seed(1)
        return locking_loss(
            omega * s,
            coupling_strength=torch.full((2,), K * s, dtype=torch.float64),
            coupling_decay=torch.full((2,), A / s**2, dtype=torch.float64),
            target_locked_fraction=0.3,
            order_parameter=order * (order > 0.1),
        ).item()

    assert loss(unit) == pytest.approx(loss(1.0), rel=1e-9)


def test_equal_tokens_and_collapse_have_finite_gradients():
    omega = torch.zeros(1, 1, 10, 3, requires_grad=True)
    loss = loss_of(omega)
    loss.backward()
    assert loss.isfinite()
    assert omega.grad.isfinite().all()


def test_a_collapsed_head_spreads_again():
    omega = (0.05 * gaussian(0.3)).requires_grad_()
    optimizer = torch.optim.Adam([omega], lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        loss_of(omega).backward()
        optimizer.step()
    assert (locked_fraction(omega.detach()) < 0.6).all()


def test_a_dead_head_comes_back_within_a_few_hundred_steps():
    module = SelectiveSynchronization(32, 2, target_locked_fraction=(0.2, 0.5))
    with torch.no_grad():
        module.frequency_proj.weight.mul_(8)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    other = ~torch.eye(48, dtype=torch.bool)

    def share(x):
        return module.synchrony(x, is_causal=False).locked[..., other].float().mean((0, 2))

    test = torch.nn.functional.layer_norm(torch.randn(8, 48, 32), (32,))
    assert (share(test) == 0).all()
    module(test).square().mean().backward()
    assert not module.frequency_proj.weight.grad.any(), "synchronization alone has no gradient"
    for _ in range(250):
        x = torch.nn.functional.layer_norm(torch.randn(2, 32, 32), (32,))
        optimizer.zero_grad()
        module.locking_loss(x, num_pairs=8).backward()
        optimizer.step()
    torch.testing.assert_close(share(test), torch.tensor([0.2, 0.5]), atol=0.07, rtol=0)


def test_couplings_learn_too_and_coherence_narrows():
    omega, strength = gaussian(0.3), torch.full((2,), K, requires_grad=True)
    decay = torch.full((2,), A, requires_grad=True)
    arguments = {"coupling_strength": strength, "coupling_decay": decay}
    half = torch.full((2, 2, 64), 0.3)
    full = locking_loss(omega, target_locked_fraction=0.3, num_pairs=63, **arguments)
    narrow = locking_loss(
        omega, target_locked_fraction=0.3, num_pairs=63, order_parameter=half, **arguments
    )
    assert narrow > 5 * full
    narrow.backward()
    assert (strength.grad < 0).all(), "more coupling locks more"
    assert (decay.grad > 0).all()


@pytest.mark.parametrize("hidden", [1e3, torch.nan])
def test_padding_does_not_count(hidden):
    omega = gaussian(0.3, (2, 2, 24, 4))
    real = torch.ones(2, 24, dtype=torch.bool)
    real[:, 16:] = False
    padded = torch.where(real[:, None, :, None], omega, hidden)
    with_padding = loss_of(padded, key_mask=real, num_pairs=23)
    torch.testing.assert_close(with_padding, loss_of(omega[:, :, :16], num_pairs=15))


def test_without_pairs_it_is_zero():
    for omega, mask in (
        (torch.randn(2, 2, 1, 4), None),
        (torch.randn(1, 2, 5, 4), torch.arange(5)[None] < 1),
    ):
        omega.requires_grad_()
        loss = loss_of(omega, key_mask=mask)
        loss.backward()
        assert loss == 0
        assert not omega.grad.any()


def test_half_precision_is_computed_in_single():
    omega = gaussian(0.3).bfloat16()
    loss = loss_of(omega, num_pairs=63)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_of(omega.float(), num_pairs=63))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": 1.0}, ValueError, "`target_locked_fraction` must be finite and strictly"),
        ({"target": (0.1, 0.2, 0.3)}, ValueError, "`target_locked_fraction` must be a number or"),
        ({"temperature": 0.0}, ValueError, "`temperature` must be finite and strictly"),
        ({"num_pairs": 0}, ValueError, "`num_pairs` must be at least 1"),
        ({"num_pairs": True}, TypeError, "`num_pairs` must be an integer"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        loss_of(torch.randn(1, 2, 4, 3), **options)
