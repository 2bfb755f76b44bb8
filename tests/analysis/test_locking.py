import pytest
import torch

from syncattn.analysis.locking import locking_curves
from syncattn.nn import SelectiveSynchronization


def layer(**options):
    made = SelectiveSynchronization(16, 2, **options)
    with torch.no_grad():
        made.raw_coupling_strength.copy_(torch.tensor([0.5, 2.0]))
    return made


def test_a_curve_falls_from_one_to_nothing_at_its_cutoff():
    found = locking_curves(layer(), torch.tensor([0.9, 0.5]), num_points=402)
    assert found.synchronization.shape == (2, 402)
    torch.testing.assert_close(found.synchronization[:, 0], torch.ones(2, dtype=torch.float64))
    for head in range(2):
        locks = found.synchronization[head] > 0
        beyond = found.detuning > found.cutoff[head]
        assert torch.equal(locks, ~beyond)
        assert (found.synchronization[head].diff() <= 1e-12).all()


def test_coherence_widens_the_cutoff():
    made = layer()
    low, high = (locking_curves(made, torch.full((2,), r)).cutoff for r in (0.2, 0.9))
    assert (low < high).all()


def test_one_order_parameter_per_head():
    with pytest.raises(ValueError, match="2 heads"):
        locking_curves(layer(), torch.ones(3))
    with pytest.raises(ValueError, match="num_points"):
        locking_curves(layer(), torch.ones(2), num_points=1)
