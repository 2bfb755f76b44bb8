import math
import re

import pytest
import torch

from syncattn.simulation import DrivenLohe, Kuramoto, Lohe, plane_rotation, random_rotation
from syncattn.simulation.systems_sphere import rotate


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_mean_field_is_the_sum_over_pairs():
    omega = random_rotation(5, 4, width=1.0)
    system = Lohe(omega, 4, coupling_strength=1.5)
    x = system.random_state()
    expected = torch.stack([
        omega[i] @ x[i] + 1.5 / 5 * sum(x[j] - (x[i] @ x[j]) * x[i] for j in range(5))
        for i in range(5)
    ])
    torch.testing.assert_close(system.drift(x, 0.0), expected)


def test_two_dimensions_are_kuramoto():
    omega, theta = normal(6), normal(6, seed=1)
    x = torch.stack((theta.cos(), theta.sin()), -1)
    velocity = Lohe(omega[:, None], 2, coupling_strength=1.5).drift(x, 0.0)
    along = velocity[:, 1] * theta.cos() - velocity[:, 0] * theta.sin()
    torch.testing.assert_close(along, Kuramoto(omega, coupling_strength=1.5).drift(theta, 0.0))


@pytest.mark.parametrize("dim", [2, 3, 4, 5, 8])
def test_planes_are_a_matrix_of_planes(dim):
    frequency, x = normal(3, dim // 2), normal(2, 3, dim)
    matrix = plane_rotation(frequency, dim)
    torch.testing.assert_close(matrix, -matrix.mT)
    torch.testing.assert_close(rotate(frequency, x), rotate(matrix, x))
    torch.testing.assert_close(rotate(matrix.expand(2, 3, dim, dim), x), rotate(matrix, x))


def test_anchors_are_summed_over_their_couplings():
    W, anchor = normal(2, 5, 4).exp(), normal(2, 4, 3)
    system = DrivenLohe.from_anchors(W, anchor)
    torch.testing.assert_close(system.drive, torch.einsum("bij,bjm->bim", W, anchor))
    assert system.dim == 3


def test_the_antipode_is_no_rest_and_no_drive_is_rest():
    system = DrivenLohe(torch.tensor([[0.0, 0.0, 2.0]]).double())
    up = torch.tensor([[0.0, 0.0, 1.0]]).double()
    assert system.residual(up).item() == 0
    assert system.residual(-up).item() == 1
    assert DrivenLohe(torch.zeros(1, 3).double()).residual(up).item() == 0


def test_residual_of_a_common_rotation_is_zero():
    system = Lohe(random_rotation(1, 3, width=1.0).expand(4, 3, 3), 3, coupling_strength=1.0)
    together = system.random_state()[:1].expand(4, 3)
    assert system.residual(together).item() < 1e-12
    planes = Lohe(torch.ones(4, 1).double(), 3, coupling_strength=1.0)
    assert planes.residual(together).item() < 1e-12


def test_rates():
    assert DrivenLohe(torch.tensor([[3.0, 4.0]])).fastest_rate() == 5.0
    strengths = torch.tensor([1.0, 3.0]).double()
    assert Lohe(torch.zeros(4, 1).double(), 2, coupling_strength=strengths).fastest_rate() == 3.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lohe(torch.zeros(4, 3), 4, coupling_strength=1.0), "2 planes of 4 dimensions"),
        (lambda: Lohe(torch.ones(4, 3, 3), 3, coupling_strength=1.0), "skew matrices"),
        (lambda: Lohe(1e-9 * torch.ones(4, 3, 3), 3, coupling_strength=1.0), "skew matrices"),
        (lambda: Lohe(torch.zeros(0, 3, 3), 3, coupling_strength=1.0), "at least one oscillator"),
        (lambda: Lohe(torch.zeros(4, 1), 1, coupling_strength=1.0), "`dim` must be at least 2"),
        (lambda: DrivenLohe(torch.ones(3)), "`drive` must end in"),
        (lambda: DrivenLohe(torch.full((3, 2), math.nan)), "`drive` must be finite"),
        (lambda: DrivenLohe(torch.ones(4, 3), torch.zeros(2, 4, 3, 3)), r"(4,); got (2, 4)"),
        (lambda: DrivenLohe(torch.ones(4, 3), torch.zeros(5, 1)), r"(4,); got (5,)"),
        (lambda: DrivenLohe(torch.ones(3, 2), noise_intensity=-1.0), "got -1. Pass 0"),
        (lambda: plane_rotation(torch.ones(3), 4), "2 planes; got 3"),
    ],
)
def test_wrong_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_what_is_drawn_is_a_state_in_every_precision(dtype):
    drive = torch.ones(200, 3, dtype=dtype)
    system = DrivenLohe(drive)
    state = system.random_state(generator=torch.Generator().manual_seed(0))
    system.check_state(state)
    with pytest.raises(ValueError, match="must hold unit vectors"):
        system.check_state(1.1 * state)


def test_parameters_do_not_change_the_dtype_of_the_vectors():
    wide = torch.tensor([1.0, 2.0]).double()
    for system in (
        Lohe(torch.zeros(4, 1), 3, coupling_strength=wide),
        DrivenLohe(torch.ones(4, 3), random_rotation(4, 3, width=1.0)),
    ):
        assert system.drift(system.random_state(), 0.0).dtype == torch.float32


def test_noise_kicks_along_the_sphere():
    system = DrivenLohe(normal(3, 4), noise_intensity=0.5)
    x, increment = system.random_state(), normal(3, 4, seed=2)
    kick = system.diffusion(x, increment)
    assert (kick * x).sum(-1).abs().max() < 1e-12
    torch.testing.assert_close(system.ito_correction(x), -1.5 * x)
    assert DrivenLohe(normal(3, 4)).ito_correction(x) is None
