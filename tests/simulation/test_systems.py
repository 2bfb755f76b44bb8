"""Laws of every system: a state is checked, energy falls along the drift, motion stays on it."""

import pytest
import torch

from syncattn.simulation.systems import SphereSystem, per_batch, tangent, unit_vectors
from tests.simulation.laws import SYSTEMS

each = pytest.mark.parametrize("name", SYSTEMS)


def draw(name, seed=0):
    return SYSTEMS[name].random_state(generator=torch.Generator().manual_seed(seed))


@each
def test_a_random_state_is_a_state_and_repeats(name):
    state = draw(name)
    SYSTEMS[name].check_state(state)
    assert torch.equal(state, draw(name))
    assert not torch.equal(state, draw(name, 1))
    batched = SYSTEMS[name].random_state(3, *state.shape[: -len(SYSTEMS[name].state_axes)])
    SYSTEMS[name].check_state(batched)


@each
def test_the_drift_is_minus_the_gradient_of_the_energy(name):
    system, state = SYSTEMS[name], draw(name).requires_grad_()
    energy = system.energy(state)
    if energy is None:
        return
    (gradient,) = torch.autograd.grad(energy.sum(), state)
    if isinstance(system, SphereSystem):
        gradient = tangent(state, gradient)
    torch.testing.assert_close(system.drift(state, 0.0), -gradient)


def test_where_there_is_no_energy():
    without = {name for name in SYSTEMS if SYSTEMS[name].energy(draw(name)) is None}
    assert without == {"one-sided", "sakaguchi", "lohe turning", "driven turning"}


@each
def test_shapes_and_ranges(name):
    system, state = SYSTEMS[name], draw(name)
    batch = state.shape[: -len(system.state_axes)]
    assert system.drift(state, 0.0).shape == state.shape
    for number in (system.order_parameter(state), system.residual(state)):
        assert number.shape == batch
        assert (number >= 0).all()
    assert (system.order_parameter(state) <= 1 + 1e-12).all()
    assert system.fastest_rate() >= 0


@each
def test_populations_of_a_batch_do_not_meet(name):
    system, state = SYSTEMS[name], draw(name)
    both = torch.stack((state, draw(name, 1)))
    torch.testing.assert_close(system.drift(both, 0.0)[0], system.drift(state, 0.0))


@each
def test_a_wrong_state_is_refused(name):
    system, state = SYSTEMS[name], draw(name)
    with pytest.raises(ValueError, match="`state` must"):
        system.check_state(state.narrow(-1, 0, 1))
    with pytest.raises(TypeError, match="`state` must have the dtype"):
        system.check_state(state.float())
    spoiled = state.clone()
    spoiled.view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match="`state` must be finite; got 1 NaN"):
        system.check_state(spoiled)


def test_a_state_of_another_batch_is_refused():
    with pytest.raises(ValueError, match="batch of the system's parameters"):
        SYSTEMS["batched"].check_state(torch.zeros(3, 6).double())
    with pytest.raises(ValueError, match="unit vectors; got one whose norm is off by 1"):
        SYSTEMS["driven"].check_state(2 * draw("driven"))


@pytest.mark.parametrize("name", ["lohe", "lohe turning", "driven", "driven turning"])
def test_motion_on_the_sphere_is_along_it(name):
    system, state = SYSTEMS[name], draw(name)
    radial = (state * system.drift(state, 0.0)).sum(-1)
    torch.testing.assert_close(radial, torch.zeros_like(radial))
    torch.testing.assert_close(system.project(3 * state), state)


def test_small_tools():
    assert per_batch(2.0) == 2.0
    assert per_batch(torch.ones(3), 2).shape == (3, 1, 1)
    assert torch.equal(unit_vectors(torch.zeros(2, 3)), torch.zeros(2, 3))
    torch.testing.assert_close(unit_vectors(torch.tensor([[3.0, 4.0]])), torch.tensor([[0.6, 0.8]]))
