"""What every system must satisfy, and one of each."""

import torch

from syncattn.simulation import (
    Daido,
    DrivenLohe,
    DrivenPhases,
    Kuramoto,
    Lohe,
    SakaguchiKuramoto,
    SecondHarmonicInjection,
    random_rotation,
)


def systems():
    """One system of every kind, without noise, by name."""
    g = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    omega, J = normal(6), normal(6, 6)
    symmetric = (J + J.mT) / 2
    return {
        "kuramoto": Kuramoto(omega, coupling_strength=1.3),
        "batched": Kuramoto(omega, coupling_strength=torch.tensor([0.5, 2.0]).double()),
        "dense": Kuramoto(omega, coupling_strength=0.7, coupling=symmetric),
        "one-sided": Kuramoto(omega, coupling_strength=0.7, coupling=J),
        "sparse": Kuramoto(omega, coupling_strength=0.7, coupling=symmetric.to_sparse()),
        "sakaguchi": SakaguchiKuramoto(omega, coupling_strength=1.3, frustration=0.4),
        "daido": Daido(omega, coupling_strength=1.3, harmonic_amplitude=(1.0, -0.5, 0.2)),
        "shil": SecondHarmonicInjection(omega, coupling_strength=1.3, injection_strength=0.8,
                                        injection_phase=0.3),
        "star": DrivenPhases(normal(2, 6).abs(), normal(2, 6), normal(2, 6), frustration=0.3,
                             injection_strength=0.4, injection_phase=0.2),
        "lohe": Lohe(torch.zeros(6, 2).double(), 4, coupling_strength=1.1),
        "lohe turning": Lohe(random_rotation(6, 3, width=1.0, generator=g), 3,
                             coupling_strength=torch.tensor([0.5, 2.0]).double()),
        "driven": DrivenLohe(normal(2, 6, 5)),
        "driven turning": DrivenLohe(normal(6, 5), random_rotation(6, 5, width=1.0, generator=g)),
    }  # fmt: skip


SYSTEMS = systems()
