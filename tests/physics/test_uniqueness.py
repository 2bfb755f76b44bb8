"""Every star network settles to one and the same state, from every start but the antipode."""

import pytest
import torch

from syncattn.simulation import RK4, DrivenLohe, Euler
from syncattn.simulation.systems import unit_vectors

NETWORKS = 10_000


def networks(dim):
    """Stars with one free oscillator and 1 to 12 random anchors, couplings over four decades."""
    g = torch.Generator().manual_seed(dim)
    anchor = unit_vectors(torch.randn(NETWORKS, 12, dim, generator=g, dtype=torch.float64))
    coupling = 10 ** (4 * torch.rand(NETWORKS, 1, 12, generator=g, dtype=torch.float64) - 2)
    count = torch.randint(1, 13, (NETWORKS, 1, 1), generator=g)
    coupling = torch.where(torch.arange(12) < count, coupling, 0.0)
    system = DrivenLohe.from_anchors(coupling, anchor)
    return system, system.random_state(generator=g)


@pytest.mark.parametrize("dim", [2, 3, 8, 32])
@pytest.mark.parametrize(
    ("solver", "pace", "num_steps"), [(Euler(), 1.0, 40), (RK4(), 1.0, 60)],
    ids=["renormalised Euler", "RK4"],
)  # fmt: skip
def test_ten_thousand_networks_settle_to_the_closed_form(dim, solver, pace, num_steps):
    # theory: KU-15. Each network has its own time unit, one over its rate, or the slow ones among
    # couplings over four decades would need a million steps of the fast ones.
    system, state = networks(dim)
    strength = torch.linalg.vector_norm(system.drive, dim=-1, keepdim=True)
    assert strength.max() / strength.min() > 1e3
    attractor = system.drive / strength
    assert ((state * attractor).sum(-1) < 0).sum() > NETWORKS / 3
    for _ in range(num_steps):
        state = solver.advance(system, state, 0.0, pace / strength)
    assert torch.linalg.vector_norm(state - attractor, dim=-1).max().item() < 1e-8
