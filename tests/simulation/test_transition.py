import pytest
import torch

from syncattn.simulation import (
    Gaussian,
    Kuramoto,
    Lohe,
    SecondHarmonicInjection,
    critical_coupling,
    synchronization_transition,
)

DENSITY = Gaussian(0.5)
COUPLINGS = critical_coupling(DENSITY) * torch.tensor([0.3, 2.0]).double()


def run(system=None, **more):
    omega = DENSITY.quantiles(100)
    given = {"duration": 20.0, "step": 0.2, "generator": torch.Generator().manual_seed(0)} | more
    return synchronization_transition(
        system or (lambda K: Kuramoto(omega, coupling_strength=K)), COUPLINGS, **given
    )


@pytest.mark.parametrize("start", ["incoherent", "synchronized"])
def test_coherence_rises_with_the_coupling(start):
    transition = run(start=start, observe={"second": lambda x: (2 * x).cos().mean(-1).abs()})
    assert transition.start == start
    assert transition.order_parameter[0] < 0.3
    assert transition.order_parameter[1] > 0.8
    assert transition.locked_fraction[1] > 0.9
    assert transition.deviation.shape == transition.observed["second"].shape == (2,)
    assert transition.status == "Finished at time 20."


def test_the_seed_decides():
    assert torch.equal(run().order_parameter, run().order_parameter)
    other = run(generator=torch.Generator().manual_seed(1))
    assert not torch.equal(run().order_parameter, other.order_parameter)


def test_noise_chooses_a_solver_that_serves_it():
    omega = DENSITY.quantiles(100)
    noisy = run(lambda K: Kuramoto(omega, coupling_strength=K, noise_intensity=0.05))
    assert 0.6 < noisy.order_parameter[1] < 0.99


def test_unit_vectors():
    omega = torch.zeros(50, 1).double()
    transition = run(lambda K: Lohe(omega, 3, coupling_strength=K), start="synchronized")
    torch.testing.assert_close(transition.order_parameter, torch.ones(2).double())
    assert transition.locked_fraction is None


def test_a_pinned_population_remembers_how_it_started():
    omega = DENSITY.quantiles(100)

    def pinned(K):
        return SecondHarmonicInjection(omega, coupling_strength=0.3 * K, injection_strength=2.0)

    gap = run(pinned, start="synchronized").order_parameter - run(pinned).order_parameter
    assert (gap > 0.3).all()


def test_an_unknown_start_is_refused():
    with pytest.raises(Exception, match="start"):
        run(start="halfway")
