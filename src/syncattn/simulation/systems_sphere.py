"""Unit vectors: Lohe oscillators that pull each other, and ones driven by fixed anchors."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.simulation.systems import SphereSystem, per_batch, tangent
from syncattn.simulation.systems_checks import (
    in_dtype_of,
    is_skew,
    require_noise,
    require_parameter,
)
from syncattn.simulation.systems_rates import most_of

__all__ = ["DrivenLohe", "Lohe", "plane_rotation", "rotate"]


@dataclass(frozen=True, eq=False)
class Lohe(SphereSystem):
    r"""Unit vectors that turn by themselves and pull each other: Kuramoto in m dimensions.

    .. math:: \dot x_i = \Omega_i x_i + K (I - x_i x_i^\top) \bar x, \qquad
              \bar x = \tfrac1N \sum_j x_j

    O(N) through the mean field. With m = 2 it is `Kuramoto`.  # theory: KU-14

    Args:
        natural_frequency: Skew matrices :math:`\Omega_i` ``(*batch, oscillators, dim, dim)``, or
            the frequencies of the planes of coordinates (0, 1), (2, 3), …
            ``(*batch, oscillators, dim // 2)``.
        dim: :math:`m \ge 2`.
        coupling_strength: :math:`K`, as frequency; a tensor over the batch gives every population
            its own.
        noise_intensity: :math:`D` of Brownian motion on the sphere, radians² per unit time and
            direction.

    Raises:
        ValueError: If shapes do not fit, a matrix is not skew, or the noise is negative.
    """

    natural_frequency: Tensor
    dim: int
    _: KW_ONLY
    coupling_strength: float | Tensor
    noise_intensity: float = 0.0

    def __post_init__(self) -> None:
        check.require_integer(self.dim, "dim", minimum=2)
        require_rotation(self.natural_frequency, self.dim)
        require_parameter(self.coupling_strength, "coupling_strength")
        require_noise(self.noise_intensity)
        strength = in_dtype_of(self.natural_frequency, self.coupling_strength)
        object.__setattr__(self, "coupling_strength", strength)

    def drift(
        self, state: Float[Tensor, "*batch oscillators dim"], time: float
    ) -> Float[Tensor, "*batch oscillators dim"]:
        """Returns the velocity of every vector.

        Args:
            state: The unit vectors.
            time: Unused.

        Returns:
            Velocities along the sphere.
        """
        del time
        pull = tangent(state, state.mean(-2, keepdim=True))
        return rotate(self.natural_frequency, state) + per_batch(self.coupling_strength, 2) * pull

    def energy(
        self, state: Float[Tensor, "*batch oscillators dim"]
    ) -> Float[Tensor, "*batch"] | None:
        r"""Returns :math:`-\tfrac{KN}{2} |\bar x|^2`; None with natural frequencies.

        Args:
            state: The unit vectors.

        Returns:
            The energy of each population, or None.
        """
        if self.natural_frequency.any():
            return None
        return -0.5 * self.coupling_strength * state.shape[-2] * state.mean(-2).square().sum(-1)

    def residual(self, state: Float[Tensor, "*batch oscillators dim"]) -> Float[Tensor, "*batch"]:
        """Returns the largest speed in the frame that turns with the mean natural frequency.

        Args:
            state: The unit vectors.

        Returns:
            Radians per unit time.
        """
        axis = -3 if _is_matrix(self.natural_frequency, self.dim) else -2
        mean = self.natural_frequency.mean(axis, keepdim=True)
        velocity = self.drift(state, 0.0) - rotate(mean, state)
        return torch.linalg.vector_norm(velocity, dim=-1).amax(-1)

    def fastest_rate(self) -> float:
        """Returns the rate at which disturbances of the synchronized state decay.

        Returns:
            The rate.
        """
        strength = self.coupling_strength
        return max(0.0, strength.amax().item() if isinstance(strength, Tensor) else float(strength))

    def fastest_motion(self) -> float:
        """Returns the rate that an accurate step resolves; rotations are stepped through too.

        Returns:
            The larger one of the pull's rate and of the natural rotations' angular velocities.
        """
        K, omega = torch.as_tensor(self.coupling_strength), self.natural_frequency
        if _is_matrix(omega, self.dim):
            turning = torch.linalg.matrix_norm(omega, ord=2)
        else:
            turning = omega.abs().amax(-1)
        return max(K.abs().amax().item(), most_of(turning))

    def _like(self) -> Tensor:
        return self.natural_frequency

    def _shape(self) -> tuple[int, ...]:
        drop = 2 if _is_matrix(self.natural_frequency, self.dim) else 1
        shape = (*self.natural_frequency.shape[:-drop], self.dim)
        if isinstance(self.coupling_strength, Tensor):
            shape = torch.broadcast_shapes(shape, (*self.coupling_strength.shape, 1, 1))
        return tuple(shape)


@dataclass(frozen=True, eq=False)
class DrivenLohe(SphereSystem):
    r"""Unit vectors that feel fixed anchors only: what the attention layer integrates.

    .. math:: \dot x_i = \Omega_i x_i + (I - x_i x_i^\top) h_i, \qquad h_i = \sum_j W_{ij} r_j

    Without natural frequency everything but the antipode settles to :math:`h_i/|h_i|` at the rate
    :math:`|h_i|`.  # theory: KU-15

    Args:
        drive: :math:`h_i`, ``(*batch, oscillators, dim)``, as frequency.
        natural_frequency: As in `Lohe`, broadcastable to the drive's batch and oscillators; none
            when None.
        noise_intensity: As in `Lohe`.

    Raises:
        ValueError: If shapes do not fit, a matrix is not skew, or the noise is negative.
    """

    drive: Tensor
    natural_frequency: Tensor | None = None
    _: KW_ONLY
    noise_intensity: float = 0.0

    def __post_init__(self) -> None:
        check.require_floating(self.drive, "drive")
        require_parameter(self.drive, "drive")
        if self.drive.dim() < 2 or self.drive.shape[-1] < 2 or not self.drive.numel():
            raise ValueError(
                f"`drive` must end in (oscillators, dim) with dim at least 2; got shape "
                f"{tuple(self.drive.shape)}. Sum the anchors over their couplings first."
            )
        check.require_computed(self.drive.square().sum(-1), "drive")
        if self.natural_frequency is not None:
            require_rotation(self.natural_frequency, self.dim)
            self._require_no_more_than_the_drive(self.natural_frequency)
            frequency = in_dtype_of(self.drive, self.natural_frequency)
            object.__setattr__(self, "natural_frequency", frequency)
        require_noise(self.noise_intensity)

    @property
    def dim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Number of coordinates."""
        return self.drive.shape[-1]

    @classmethod
    def from_anchors(
        cls,
        coupling: Float[Tensor, "*batch oscillators anchors"],
        anchor: Float[Tensor, "*#batch anchors dim"],
        *,
        noise_intensity: float = 0.0,
    ) -> DrivenLohe:
        """Returns the star whose oscillator i is coupled to anchor j by ``coupling[i, j]``.

        Args:
            coupling: Couplings, as frequency.
            anchor: Unit vectors.
            noise_intensity: As in the class.

        Returns:
            The system.
        """
        return cls(coupling @ anchor, noise_intensity=noise_intensity)

    def drift(
        self, state: Float[Tensor, "*batch oscillators dim"], time: float
    ) -> Float[Tensor, "*batch oscillators dim"]:
        """Returns the velocity of every vector.

        Args:
            state: The unit vectors.
            time: Unused.

        Returns:
            Velocities along the sphere.
        """
        del time
        pull = tangent(state, self.drive)
        return (
            pull if self.natural_frequency is None else pull + rotate(self.natural_frequency, state)
        )

    def energy(
        self, state: Float[Tensor, "*batch oscillators dim"]
    ) -> Float[Tensor, "*batch"] | None:
        r"""Returns :math:`-\sum_i h_i \cdot x_i`; None with natural frequencies.

        Args:
            state: The unit vectors.

        Returns:
            The energy of each population, or None.
        """
        if self.natural_frequency is not None and self.natural_frequency.any():
            return None
        return -(self.drive * state).sum((-2, -1))

    def residual(self, state: Float[Tensor, "*batch oscillators dim"]) -> Float[Tensor, "*batch"]:
        r"""Returns the largest speed over drive; at least 1 in the far half, so the antipode fails.

        Without natural frequency it is the sine of the angle to the attractor. An oscillator
        without drive rests anywhere.

        Args:
            state: The unit vectors.

        Returns:
            A number of each population.
        """
        strength = torch.linalg.vector_norm(self.drive, dim=-1)
        speed = torch.linalg.vector_norm(self.drift(state, 0.0), dim=-1)
        relative = speed / torch.where(strength > 0, strength, 1.0)
        far = (self.drive * state).sum(-1) < 0
        return torch.where(far, relative.clamp(min=1.0), relative).amax(-1)

    def fastest_rate(self) -> float:
        """Returns the largest rate of settling.

        Returns:
            The rate.
        """
        if self.natural_frequency is not None:
            # Rotation slows the decay: the rate is the multiplier of KU-16, below the drive.
            return 0.0
        return torch.linalg.vector_norm(self.drive, dim=-1).amax().item()

    def _require_no_more_than_the_drive(self, natural_frequency: Tensor) -> None:
        drop = 2 if _is_matrix(natural_frequency, self.dim) else 1
        own, whole = tuple(natural_frequency.shape[:-drop]), tuple(self.drive.shape[:-1])
        try:
            fits = tuple(torch.broadcast_shapes(own, whole)) == whole
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"`natural_frequency` must broadcast to the batch and oscillators of `drive`, "
                f"{whole}; got {own}. Expand `drive` to all populations."
            )

    def _like(self) -> Tensor:
        return self.drive

    def _shape(self) -> tuple[int, ...]:
        return tuple(self.drive.shape)


def rotate(
    natural_frequency: Float[Tensor, "*shape"], state: Float[Tensor, "*batch dim"]
) -> Float[Tensor, "*batch dim"]:
    r"""Returns :math:`\Omega x`, from matrices or from the frequencies of coordinate planes.

    Args:
        natural_frequency: Skew matrices, or one frequency per pair of coordinates.
        state: Vectors.

    Returns:
        The velocities of a free rotation; an odd last coordinate stays.
    """
    dim = state.shape[-1]
    if _is_matrix(natural_frequency, dim):
        if natural_frequency.dim() == 3 and state.dim() >= 3:
            # Matrices shared by the batch multiply all of its vectors at once.
            return torch.einsum("nij,...nj->...ni", natural_frequency, state)
        return (natural_frequency @ state[..., None]).squeeze(-1)
    planes = 2 * (dim // 2)
    first, second = state[..., 0:planes:2], state[..., 1:planes:2]
    turned = torch.stack((-natural_frequency * second, natural_frequency * first), -1).flatten(-2)
    rest = torch.zeros_like(state[..., planes:])
    return torch.cat((turned, rest), -1)


def plane_rotation(
    frequency: Float[Tensor, "*batch planes"], dim: int
) -> Float[Tensor, "*batch dim dim"]:
    """Returns the skew matrices that turn the planes of coordinates (0, 1), (2, 3), ….

    Args:
        frequency: One frequency per plane, ``dim // 2`` of them.
        dim: Number of coordinates.

    Returns:
        The matrices.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the number of planes does not fit.
    """
    check.require_floating(frequency, "frequency")
    check.require_integer(dim, "dim", minimum=2)
    if not frequency.dim() or frequency.shape[-1] != dim // 2:
        raise ValueError(
            f"`frequency` must have `dim` // 2 = {dim // 2} planes; got "
            f"{frequency.shape[-1] if frequency.dim() else 'a number'}. Pad with zeros."
        )
    matrix = frequency.new_zeros(*frequency.shape[:-1], dim, dim)
    even = torch.arange(0, 2 * (dim // 2), 2)
    matrix[..., even, even + 1] = -frequency
    matrix[..., even + 1, even] = frequency
    return matrix


def require_rotation(natural_frequency: Tensor, dim: int) -> None:
    """Refuses natural frequencies on the sphere that are neither skew matrices nor planes.

    Args:
        natural_frequency: The argument.
        dim: Number of coordinates.

    Raises:
        TypeError: If it is not a floating tensor.
        ValueError: If the shape does not fit, it is of no oscillator, or a matrix is not skew.
    """
    check.require_floating(natural_frequency, "natural_frequency")
    require_parameter(natural_frequency, "natural_frequency")
    if _is_matrix(natural_frequency, dim):
        if not is_skew(natural_frequency):
            raise ValueError(
                "`natural_frequency` must hold skew matrices, so that a rotation keeps the norm; "
                "got one that differs from minus its transpose. Pass (A - A.mT) / 2."
            )
    elif natural_frequency.dim() < 2 or natural_frequency.shape[-1] != dim // 2:
        raise ValueError(
            f"`natural_frequency` must end in ({dim}, {dim}) or in the {dim // 2} planes of "
            f"{dim} dimensions, after an axis of oscillators; got shape "
            f"{tuple(natural_frequency.shape)}. Reshape it."
        )


def _is_matrix(natural_frequency: Tensor, dim: int) -> bool:
    return natural_frequency.dim() >= 3 and tuple(natural_frequency.shape[-2:]) == (dim, dim)
