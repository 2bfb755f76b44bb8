import math
import sys

import pytest
import torch

from syncattn.simulation import (
    RK4,
    DrivenLohe,
    Euler,
    EulerMaruyama,
    Kuramoto,
    StochasticHeun,
    driven_flow,
    integrate,
)

OMEGA = torch.tensor([-1.0, -0.4, 0.1, 0.3, 1.1]).double()


def population(K=3.0, **more):
    return Kuramoto(OMEGA, coupling_strength=K, **more)


def start(system=None, seed=0, *batch):
    return (system or population()).random_state(
        *batch, generator=torch.Generator().manual_seed(seed)
    )


def test_what_is_recorded():
    solution = integrate(population(), RK4(), start(), duration=1.0, step=0.1, save_every=3)
    torch.testing.assert_close(solution.times, torch.tensor([0, 0.3, 0.6, 0.9, 1.0]).double())
    assert solution.trajectory.shape == (5, 5)
    assert torch.equal(solution.trajectory[0], start())
    assert torch.equal(solution.trajectory[-1], solution.final_state)
    for record in (solution.order_parameter, solution.energy, solution.residual):
        assert record.shape == (5,)
    assert (solution.num_steps, solution.num_evaluations) == (10, 40)
    assert solution.success
    assert solution.status == "Finished at time 1."
    assert solution.settled is None
    assert (solution.energy.diff() < 0).all()


def test_times_or_duration_are_the_same_journey():
    by_duration = integrate(population(), RK4(), start(), duration=1.0, step=0.05)
    by_times = integrate(
        population(), RK4(), start(), times=[0.0, 0.3, 1.0], step=0.05, keep_trajectory=False
    )
    torch.testing.assert_close(by_times.final_state, by_duration.final_state)
    assert by_times.trajectory is None
    assert by_times.times.tolist() == [0.0, 0.3, 1.0]
    as_tensor = integrate(
        population(),
        RK4(),
        start(),
        times=torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64),
        step=0.05,
    )
    assert torch.equal(as_tensor.final_state, by_times.final_state)


def test_the_given_state_stays_and_the_step_divides_the_duration():
    state = start()
    before = state.clone()
    solution = integrate(population(), Euler(), state, duration=1.0, step=0.3)
    assert torch.equal(state, before)
    assert solution.num_steps == 4
    assert solution.times[-1].item() == 1.0


def test_batches_are_independent():
    states = start(None, 0, 3)
    together = integrate(population(), RK4(), states, duration=1.0, step=0.1)
    alone = integrate(population(), RK4(), states[1], duration=1.0, step=0.1)
    torch.testing.assert_close(together.final_state[1], alone.final_state)
    assert together.order_parameter.shape == (11, 3)
    assert together.statistics.rotation_number.shape == (3, 5)
    assert together.statistics.locked_fraction.shape == (3,)


def test_noise_is_decided_by_the_generator():
    system = population(noise_intensity=0.1)

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return integrate(system, StochasticHeun(), start(), duration=1.0, step=0.1,
                         generator=generator).final_state  # fmt: skip

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


@pytest.mark.parametrize("solver", [EulerMaruyama(), StochasticHeun()])
def test_a_free_phase_spreads_as_2_D_t(solver):
    # theory: KU-18
    system = Kuramoto(torch.zeros(20_000).double(), coupling_strength=0.0, noise_intensity=0.3)
    solution = integrate(system, solver, torch.zeros(20_000).double(), duration=2.0, step=0.1,
                         generator=torch.Generator().manual_seed(0))  # fmt: skip
    assert solution.final_state.var().item() == pytest.approx(2 * 0.3 * 2.0, rel=0.04)


def test_it_stops_when_settled():
    solution = integrate(population(), RK4(), start(), duration=100.0, step=0.1, stop=1e-6)
    assert solution.success
    assert solution.status.startswith("Settled at time")
    assert solution.settled.item()
    assert solution.num_steps < 1000
    assert solution.residual[-1] < 1e-6 <= solution.residual[-2]
    torch.testing.assert_close(
        solution.statistics.rotation_number, torch.full((5,), OMEGA.mean().item()).double(),
        atol=1e-6, rtol=0.0,
    )  # fmt: skip
    assert solution.statistics.locked_fraction.item() == 1.0
    assert solution.statistics.std_order_parameter.item() == 0.0


def test_what_does_not_settle_says_so():
    strengths = torch.tensor([0.3, 3.0]).double()
    system = population(strengths)
    solution = integrate(system, RK4(), start(system), duration=20.0, step=0.2, stop=1e-6)
    assert not solution.success
    assert solution.settled.tolist() == [False, True]
    assert "Not settled at time 20: the largest of 2 residuals" in solution.status
    assert "in 1 of them" in solution.status
    with pytest.raises(RuntimeError, match="Not settled"):
        integrate(system, RK4(), start(system), duration=4.0, step=0.1, stop=1e-6, throw=True)


def test_what_leaves_the_numbers_says_so():
    class Exploding(Kuramoto):
        def drift(self, state, time):
            return state**3

    system = Exploding(OMEGA, coupling_strength=0.0)
    solution = integrate(system, Euler(), torch.full((5,), 3.0).double(), duration=50.0, step=1.0)
    assert not solution.success
    assert solution.status.startswith("Diverged: the state was not finite at time")
    assert solution.num_steps < 50
    with pytest.raises(RuntimeError, match="lower `step`"):
        integrate(system, Euler(), torch.full((5,), 3.0).double(), duration=50.0, step=1.0,
                  throw=True)  # fmt: skip


def test_statistics_of_the_stationary_part():
    solution = integrate(population(), RK4(), start(), duration=40.0, step=0.2)
    numbers = solution.statistics
    assert numbers.start == pytest.approx(20.0)
    part = solution.order_parameter[solution.times >= numbers.start]
    assert numbers.mean_order_parameter == part.mean()
    torch.testing.assert_close(numbers.std_order_parameter, part.std(correction=0))
    assert numbers.locked_fraction.item() == 1.0
    free = integrate(population(0.0), RK4(), start(), duration=40.0, step=0.2, stationary=0.25)
    assert free.statistics.start == pytest.approx(10.0)
    torch.testing.assert_close(free.statistics.rotation_number, OMEGA)
    assert free.statistics.locked_fraction.item() == 0.0


def test_statistics_do_not_hang_on_the_unit_of_time():
    def numbers(unit, start):
        system = Kuramoto(OMEGA / unit, coupling_strength=3.0 / unit)
        return integrate(system, RK4(), start, duration=40.0 * unit, step=0.2 * unit).statistics

    state = start()
    seconds, nanoseconds = numbers(1.0, state), numbers(1e-9, state)
    assert nanoseconds.start == pytest.approx(20e-9)
    torch.testing.assert_close(nanoseconds.mean_order_parameter, seconds.mean_order_parameter)
    assert nanoseconds.locked_fraction.item() == seconds.locked_fraction.item() == 1.0


def test_observation():
    seen = integrate(
        population(), RK4(), start(), duration=1.0, step=0.1, observe={"first": lambda x: x[..., 0]}
    )
    assert torch.equal(seen.observed["first"], seen.trajectory[:, 0])


def test_unit_vectors_stay_on_the_sphere():
    drive = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()
    system = DrivenLohe(drive)
    x = start(system)
    solution = integrate(system, RK4(), x, duration=2.0, step=0.02)
    norms = torch.linalg.vector_norm(solution.trajectory, dim=-1)
    assert (norms - 1).abs().max() < 1e-14
    torch.testing.assert_close(solution.final_state, driven_flow(x, drive, 2.0), atol=1e-7, rtol=0)
    assert solution.statistics.rotation_number is None


def test_an_unstable_step_is_refused():
    system = DrivenLohe(torch.tensor([[5.0, 0.0]]).double())
    x = start(system)
    with pytest.raises(ValueError, match=r"`step` must be at most 2 / 5 = 0.4 for Euler"):
        integrate(system, Euler(), x, duration=1.0, step=0.41)
    settled = integrate(system, Euler(), x, duration=30.0, step=0.3, stop=1e-6)
    assert settled.success


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 0.0}, "`step` must be finite and strictly between 0"),
        ({"step": -0.1}, "`step` must be"),
        ({"step": math.nan}, "`step` must be"),
        ({"duration": None}, "`duration` or `times` must be given, and not both; got neither"),
        ({"times": [0.0, 1.0]}, "got both"),
        ({"duration": -1.0}, "`duration` must be"),
        ({"duration": None, "times": [0.0, 2.0, 1.0]}, "rising numbers"),
        ({"duration": None, "times": [0.0]}, "at least two"),
        ({"save_every": 0}, "`save_every` must be at least 1"),
        ({"stop": -1.0}, "`stop` must be"),
        ({"stationary": 1.5}, "`stationary` must be"),
        ({"state": torch.zeros(4).double()}, "as many oscillators as the system"),
        ({"state": torch.full((5,), math.nan).double()}, "`state` must be finite"),
        ({"system": population(noise_intensity=0.1)}, "`solver` must serve noise"),
        ({"system": population(noise_intensity=0.1), "solver": StochasticHeun(), "stop": 0.1},
         "`stop` must be None with noise"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(changes, message):
    given = {"system": population(), "solver": RK4(), "state": start(), "duration": 1.0,
             "step": 0.1} | changes  # fmt: skip
    with pytest.raises(ValueError, match=message):
        integrate(given.pop("system"), given.pop("solver"), given.pop("state"), **given)


@pytest.mark.parametrize("installed", [True, False])
def test_the_bar_is_optional(monkeypatch, capsys, installed):
    counted = []

    class Bar:
        def __init__(self, total, desc, **_):
            counted.append((total, desc))

        def update(self):
            counted.append(1)

        def close(self):
            counted.append("closed")

    module = type(sys)("tqdm")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", module if installed else None)
    solution = integrate(population(), RK4(), start(), duration=1.0, step=0.1, progress="five")
    assert solution.success
    assert counted == ([(10, "five"), *[1] * 10, "closed"] if installed else [])


def test_another_solver_agrees():
    odeint = pytest.importorskip("torchdiffeq").odeint
    system, x = population(), start()
    times = torch.linspace(0, 2, 5).double()
    independent = odeint(
        lambda t, y: system.drift(y, t.item()), x, times, method="dopri5", rtol=1e-10, atol=1e-10
    )
    ours = integrate(system, RK4(), x, times=times, step=0.02)
    torch.testing.assert_close(ours.trajectory, independent, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("duration", "times", "message"),
    [
        (None, torch.eye(2), "`times` must be a list of numbers"),
        (None, [0.0, 1e38], "at most 1000000000 steps"),
        (1e38, None, "at most 1000000000 steps"),
    ],
)
def test_times_that_no_run_can_reach_are_refused(duration, times, message):
    with pytest.raises((TypeError, ValueError), match=message):
        integrate(population(), RK4(), start(), duration=duration, times=times, step=0.02)
