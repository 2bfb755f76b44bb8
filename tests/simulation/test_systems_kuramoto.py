"""Coupled phases against the sums of their definitions, written pair by pair."""

import math

import pytest
import torch

from syncattn.simulation import Daido, Kuramoto, SakaguchiKuramoto, SecondHarmonicInjection

N = 7


@pytest.fixture
def scene():
    g = torch.Generator().manual_seed(3)
    omega, theta = (torch.randn(N, generator=g, dtype=torch.float64) for _ in range(2))
    return omega, theta, torch.randn(N, N, generator=g, dtype=torch.float64)


def pairs(theta, J, lag=0.0, m=1):
    return (J * (m * (theta[None, :] - theta[:, None]) - lag).sin()).sum(-1)


ALL = torch.full((N, N), 1 / N).double()


def test_the_mean_field_is_the_sum_over_pairs(scene):
    omega, theta, _ = scene
    drift = Kuramoto(omega, coupling_strength=1.5).drift(theta, 0.0)
    torch.testing.assert_close(drift, omega + 1.5 * pairs(theta, ALL))


@pytest.mark.parametrize("kind", ["dense", "sparse", "batched"])
def test_a_coupling_matrix(scene, kind):
    omega, theta, J = scene
    given = {"dense": J, "sparse": J.to_sparse(), "batched": torch.stack((J, 2 * J))}[kind]
    state = theta if kind != "batched" else torch.stack((theta, theta))
    drift = Kuramoto(omega, coupling_strength=1.5, coupling=given).drift(state, 0.0)
    expected = omega + 1.5 * pairs(theta, J)
    torch.testing.assert_close(drift if kind != "batched" else drift[0], expected)
    if kind == "sparse":
        both = Kuramoto(omega, coupling_strength=1.5, coupling=given)
        two = both.drift(torch.stack((theta, 2 * theta)), 0.0)
        torch.testing.assert_close(two[1], omega + 1.5 * pairs(2 * theta, J))


def test_frustration(scene):
    omega, theta, J = scene
    drift = SakaguchiKuramoto(omega, coupling_strength=1.5, coupling=J, frustration=0.4)
    torch.testing.assert_close(drift.drift(theta, 0.0), omega + 1.5 * pairs(theta, J, 0.4))
    lags = torch.tensor([0.0, 0.4]).double()
    batch = SakaguchiKuramoto(omega, coupling_strength=1.5, frustration=lags)
    assert batch.random_state().shape == (2, N)
    moved = batch.drift(torch.stack((theta, theta)), 0.0)
    torch.testing.assert_close(moved[1], omega + 1.5 * pairs(theta, ALL, 0.4))
    straight = SakaguchiKuramoto(omega, coupling_strength=1.5)
    assert straight.energy(theta) is not None


def test_the_fastest_population_decides_the_step(scene):
    omega, *_ = scene
    lags = torch.tensor([0.0, 1.5]).double()
    both = SakaguchiKuramoto(omega, coupling_strength=1.5, frustration=lags)
    assert both.fastest_rate() == Kuramoto(omega, coupling_strength=1.5).fastest_rate()


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_only_symmetric_couplings_have_an_energy_however_small(scene, kind):
    omega, theta, J = scene
    one_sided = 1e-12 * J.triu(1)
    for coupling, has_energy in ((one_sided, False), (one_sided + one_sided.mT, True)):
        given = coupling if kind == "dense" else coupling.to_sparse()
        system = Kuramoto(omega, coupling_strength=1e9, coupling=given)
        assert (system.energy(theta) is not None) == has_energy


def test_harmonics(scene):
    omega, theta, J = scene
    system = Daido(omega, coupling_strength=1.5, coupling=J, harmonic_amplitude=(0.7, -0.4),
                   frustration=(0.1, 0.2))  # fmt: skip
    expected = 0.7 * pairs(theta, J, 0.1) - 0.4 * pairs(theta, J, 0.2, 2)
    torch.testing.assert_close(system.drift(theta, 0.0), omega + 1.5 * expected)
    assert system.energy(theta) is None


def test_injection(scene):
    omega, theta, J = scene
    system = SecondHarmonicInjection(omega, coupling_strength=1.5, coupling=J,
                                     injection_strength=0.6, injection_phase=0.2)  # fmt: skip
    expected = omega + 1.5 * pairs(theta, J) + 0.6 * (2 * (0.2 - theta)).sin()
    torch.testing.assert_close(system.drift(theta, 0.0), expected)


def test_fastest_rates():
    omega = torch.zeros(N).double()
    strengths = torch.tensor([1.0, 3.0]).double()
    assert Kuramoto(omega, coupling_strength=strengths).fastest_rate() == 3.0
    degree = Kuramoto(omega, coupling_strength=2.0, coupling=torch.ones(N, N).double())
    assert degree.fastest_rate() == 14.0
    lagged = SakaguchiKuramoto(omega, coupling_strength=2.0, frustration=1.0)
    assert lagged.fastest_rate() == pytest.approx(2 * math.cos(1.0))
    harmonics = Daido(omega, coupling_strength=2.0, harmonic_amplitude=(1.0, 0.5))
    assert harmonics.fastest_rate() == pytest.approx(4.0)
    pinned = SecondHarmonicInjection(omega, coupling_strength=2.0, injection_strength=0.5)
    assert pinned.fastest_rate() == pytest.approx(3.0)


def jacobian_rate(system):
    """Returns the fastest decay around the state where all phases agree."""
    together = torch.zeros(system.natural_frequency.shape).double()
    slopes = torch.autograd.functional.jacobian(lambda x: system.drift(x, 0.0), together)
    return -torch.linalg.eigvals(slopes).real.min().item()


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_what_an_oscillator_does_to_itself_does_not_count(scene, kind):
    omega, _, J = scene
    J = (J + J.mT).abs()
    for coupling in (J, J + 1e3 * torch.eye(N).double()):
        given = coupling if kind == "dense" else coupling.to_sparse()
        system = Kuramoto(omega, coupling_strength=1.5, coupling=given)
        exact = jacobian_rate(Kuramoto(omega, coupling_strength=1.5, coupling=J))
        assert 0.5 * exact < system.fastest_rate() <= exact * (1 + 1e-12)


def test_the_rate_is_the_largest_product_of_one_population(scene):
    omega, _, J = scene
    J = torch.stack((J.abs(), 10 * J.abs()))
    strengths, lags = torch.tensor([10.0, 0.1]).double(), torch.tensor([1.5, 0.0]).double()
    both = SakaguchiKuramoto(omega, coupling_strength=strengths, coupling=J, frustration=lags)
    alone = [
        SakaguchiKuramoto(omega, coupling_strength=strengths[i].item(), coupling=J[i],
                          frustration=lags[i].item()).fastest_rate() for i in range(2)
    ]  # fmt: skip
    assert both.fastest_rate() == pytest.approx(max(alone))


def test_two_signs_attract(scene):
    omega, *_ = scene
    lagged = SakaguchiKuramoto(omega, coupling_strength=-2.0, frustration=math.pi)
    harmonic = Daido(omega, coupling_strength=-2.0, harmonic_amplitude=(-1.0, 0.25))
    assert lagged.fastest_rate() == pytest.approx(2.0) == jacobian_rate(lagged)
    assert harmonic.fastest_rate() == pytest.approx(1.0) == jacobian_rate(harmonic)
    assert Kuramoto(omega, coupling_strength=-2.0).fastest_rate() == 0.0


def test_a_frustration_may_be_changed_in_place():
    lag = torch.zeros(2).double()
    system = SakaguchiKuramoto(torch.zeros(2, 4).double(), coupling_strength=1.0, frustration=lag)
    assert system.energy(torch.zeros(2, 4).double()) is not None
    lag.fill_(0.5)
    assert system.energy(torch.zeros(2, 4).double()) is None
    assert system.fastest_rate() == pytest.approx(math.cos(0.5))


def test_parameters_do_not_change_the_dtype_of_the_phases():
    wide = torch.tensor([1.0, 2.0]).double()
    for system in (
        Kuramoto(torch.zeros(4), coupling_strength=wide),
        SakaguchiKuramoto(torch.zeros(4), coupling_strength=1.0, frustration=wide),
    ):
        assert system.drift(system.random_state(), 0.0).dtype == torch.float32


def test_residual_is_zero_when_all_turn_together():
    turning = Kuramoto(torch.full((N,), 2.0).double(), coupling_strength=1.0)
    together = torch.ones(N).double()
    assert turning.residual(together).item() == 0
    pinned = SecondHarmonicInjection(turning.natural_frequency, coupling_strength=1.0)
    assert pinned.residual(together).item() > 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: Kuramoto(o[0], coupling_strength=1.0), "one value per oscillator"),
        (lambda o: Kuramoto(o[:0], coupling_strength=1.0), "at least one oscillator"),
        (lambda o: Kuramoto(o, coupling_strength=o[:0]), "at least one oscillator or population"),
        (lambda o: Kuramoto(o, coupling_strength=math.nan), "`coupling_strength` must be finite"),
        (lambda o: Kuramoto(o, coupling_strength=1.0, coupling=torch.ones(N, 2).double()),
         "`coupling` must be square"),
        (lambda o: Kuramoto(o, coupling_strength=1.0, coupling=torch.full((N, N), math.inf)),
         "`coupling` must be finite"),
        (lambda o: SakaguchiKuramoto(o, coupling_strength=1.0, frustration=math.inf),
         "`frustration` must be finite"),
        (lambda o: Daido(o, coupling_strength=1.0, harmonic_amplitude=()), "at least one"),
        (lambda o: Daido(o, coupling_strength=1.0, frustration=(0.1, 0.2)), "got 2 and 1"),
        (lambda o: SecondHarmonicInjection(o, coupling_strength=1.0, injection_strength=-1.0),
         "`injection_strength` must be finite and between 0"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(torch.zeros(N).double())
