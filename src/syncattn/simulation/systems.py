"""What a system is: drift, noise, energy, rest, and how its states look."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch

from syncattn._typing import Float, Tensor
from syncattn.simulation.systems_checks import require_batch, require_state

__all__ = ["PhaseSystem", "SphereSystem", "System", "per_batch", "tangent", "unit_vectors"]


class System(ABC):
    r"""A stochastic differential equation of a population, in the sense of Stratonovich.

    .. math:: \mathrm{d}x = f(x, t)\,\mathrm{d}t + \sqrt{2D}\, g(x) \circ \mathrm{d}B

    A new system gives `drift`, `residual`, `order_parameter` and `random_state`; the rest has a
    default that is right for additive noise in flat space.

    Attributes:
        noise_intensity: :math:`D \ge 0` in squared units of the state per unit time: a free phase
            diffuses as :math:`\langle \Delta\theta^2 \rangle = 2 D t`. # theory: KU-18
        noise_is_additive: True when :math:`g` does not depend on the state.
        state_axes: Names of the state's last axes.
    """

    noise_intensity: float
    noise_is_additive: bool = True
    state_axes: tuple[str, ...] = ("oscillators",)

    @abstractmethod
    def drift(self, state: Float[Tensor, "*shape"], time: float) -> Float[Tensor, "*shape"]:
        """Returns the velocity without noise.

        Args:
            state: The state.
            time: The time.

        Returns:
            The velocity, shaped as the state.
        """

    @abstractmethod
    def residual(self, state: Float[Tensor, "*shape"]) -> Float[Tensor, "*batch"]:
        """Returns how far each population is from rest, in its own frame; 0 when settled.

        Args:
            state: The state.

        Returns:
            One number per population.
        """

    @abstractmethod
    def order_parameter(self, state: Float[Tensor, "*shape"]) -> Float[Tensor, "*batch"]:
        """Returns the coherence of each population, between 0 and 1.

        Args:
            state: The state.

        Returns:
            One number per population.
        """

    @abstractmethod
    def random_state(
        self, *batch: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*shape"]:
        """Returns a random state without any order.

        Args:
            batch: Populations, in front of the system's own axes; its own when left out.
            generator: Source of the randomness.

        Returns:
            The state.
        """

    @abstractmethod
    def check_state(self, state: Float[Tensor, "*shape"]) -> None:
        """Refuses what cannot be a state of this system.

        Args:
            state: The state.

        Raises:
            ValueError: If shape or values do not fit.
            TypeError: If the dtype does not fit.
        """

    def diffusion(
        self, state: Float[Tensor, "*shape"], increment: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        r"""Returns :math:`\sqrt{2D}\, g(x)\, \Delta B`.

        Args:
            state: The state.
            increment: :math:`\Delta B`, independent, of variance equal to the step.

        Returns:
            The kick, shaped as the state.
        """
        del state
        return math.sqrt(2 * self.noise_intensity) * increment

    def ito_correction(self, state: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"] | None:
        r"""Returns what an Itô scheme must add to the drift; None when that is nothing.

        Args:
            state: The state.

        Returns:
            :math:`D \sum_k (\partial g_k) g_k`, or None.
        """
        del state

    def project(self, state: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Returns the nearest state on the manifold where the system lives.

        Args:
            state: A state that rounding or a solver moved off the manifold.

        Returns:
            The state on the manifold.
        """
        return state

    def energy(self, state: Float[Tensor, "*shape"]) -> Float[Tensor, "*batch"] | None:
        """Returns the energy that the drift descends, per population; None where there is none.

        Args:
            state: The state.

        Returns:
            The energy, or None.
        """
        del state

    def fastest_rate(self) -> float:
        """Returns a rate at which disturbances surely decay somewhere; explicit steps obey it.

        Returns:
            The rate, 0 when unknown.
        """
        return 0.0

    def fastest_motion(self) -> float:
        """Returns the rate that an accurate step resolves: of the pull, and of most rotations.

        Unlike `fastest_rate` it counts what repels or turns, which bounds no stability.

        Returns:
            The rate; nine oscillators in ten turn no faster, relative to each other where a common
            rotation is exact.
        """
        return self.fastest_rate()


class PhaseSystem(System):
    """A system whose state is phases in radians; they are never wrapped, so turns can be counted.

    Attributes:
        natural_frequency: One per oscillator, in radians per unit time.
    """

    natural_frequency: Tensor

    def order_parameter(
        self, state: Float[Tensor, "*batch oscillators"]
    ) -> Float[Tensor, "*batch"]:
        """Returns the modulus of Kuramoto's order parameter.

        Args:
            state: The phases.

        Returns:
            The coherence.
        """
        return torch.hypot(state.cos().mean(-1), state.sin().mean(-1))

    def random_state(
        self, *batch: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*batch oscillators"]:
        """Returns phases drawn uniformly from the circle.

        Args:
            batch: Populations in front of the oscillators; those of the parameters when left out.
            generator: Source of the randomness.

        Returns:
            Phases between -π and π.
        """
        shape = (*batch, self.natural_frequency.shape[-1]) if batch else self._shape()
        like = self.natural_frequency
        uniform = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
        return (2 * uniform - 1) * math.pi

    def check_state(self, state: Float[Tensor, "*shape"]) -> None:
        """Refuses what cannot be phases of these oscillators.

        Args:
            state: The phases.
        """
        require_state(state, self.natural_frequency)
        number = self.natural_frequency.shape[-1]
        if state.dim() < 1 or state.shape[-1] != number:
            raise ValueError(
                f"`state` must have as many oscillators as the system in its last axis, {number}; "
                f"got shape {tuple(state.shape)}. Draw one with system.random_state()."
            )
        require_batch(state, (*self._shape()[:-1], number))

    def _shape(self) -> tuple[int, ...]:
        return tuple(self.natural_frequency.shape)


class SphereSystem(System):
    """A system of unit vectors; noise acts along the sphere only.

    Attributes:
        dim: Number of coordinates of a vector, at least 2.
    """

    dim: int
    noise_is_additive: bool = False
    state_axes: tuple[str, ...] = ("oscillators", "dim")

    @abstractmethod
    def _shape(self) -> tuple[int, ...]:
        """Shape of a state with the batch of the parameters."""

    @abstractmethod
    def _like(self) -> Tensor:
        """A parameter whose dtype and device the states share."""

    def order_parameter(
        self, state: Float[Tensor, "*batch oscillators dim"]
    ) -> Float[Tensor, "*batch"]:
        """Returns the norm of the mean vector.

        Args:
            state: The unit vectors.

        Returns:
            The coherence.
        """
        return torch.linalg.vector_norm(state.mean(-2), dim=-1)

    def random_state(
        self, *batch: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*batch oscillators dim"]:
        """Returns vectors drawn uniformly from the sphere.

        Args:
            batch: Populations in front of the oscillators; those of the parameters when left out.
            generator: Source of the randomness.

        Returns:
            Unit vectors.
        """
        shape, like = self._shape(), self._like()
        size = (*batch, *shape[-2:]) if batch else shape
        drawn = torch.randn(size, generator=generator, dtype=like.dtype, device=like.device)
        return unit_vectors(drawn)

    def diffusion(
        self,
        state: Float[Tensor, "*batch oscillators dim"],
        increment: Float[Tensor, "*batch oscillators dim"],
    ) -> Float[Tensor, "*batch oscillators dim"]:
        r"""Returns :math:`\sqrt{2D}\,(I - x x^\top)\,\Delta B`.

        Args:
            state: The unit vectors.
            increment: :math:`\Delta B`.

        Returns:
            A kick along the sphere.
        """
        return math.sqrt(2 * self.noise_intensity) * tangent(state, increment)

    def ito_correction(
        self, state: Float[Tensor, "*batch oscillators dim"]
    ) -> Float[Tensor, "*batch oscillators dim"] | None:
        r"""Returns :math:`-D (m - 1) x`.

        # theory: KU-19

        Args:
            state: The unit vectors.

        Returns:
            The correction, or None without noise.
        """
        if not self.noise_intensity:
            return None
        return -self.noise_intensity * (self.dim - 1) * state

    def project(
        self, state: Float[Tensor, "*batch oscillators dim"]
    ) -> Float[Tensor, "*batch oscillators dim"]:
        """Returns the vectors at unit length.

        Args:
            state: The vectors.

        Returns:
            Unit vectors.
        """
        return unit_vectors(state)

    def check_state(self, state: Float[Tensor, "*shape"]) -> None:
        """Refuses what cannot be unit vectors of these oscillators.

        Args:
            state: The vectors.
        """
        shape = self._shape()
        require_state(state, self._like())
        if state.dim() < 2 or tuple(state.shape[-2:]) != shape[-2:]:
            raise ValueError(
                f"`state` must end in (oscillators, dim) = {shape[-2:]}; "
                f"got shape {tuple(state.shape)}. Draw one with system.random_state()."
            )
        require_batch(state, shape)
        # The norm in more digits than the components, whose rounding it shows.
        wide = torch.promote_types(state.dtype, torch.float32)
        error = (torch.linalg.vector_norm(state, dim=-1, dtype=wide) - 1).abs()
        error = error.amax().item() if error.numel() else 0.0
        if error > max(1e-3, 2 * torch.finfo(state.dtype).eps):
            raise ValueError(
                f"`state` must hold unit vectors; got one whose norm is off by {error:.2g}. "
                f"Pass system.project(state)."
            )


def tangent(
    state: Float[Tensor, "*batch dim"], vector: Float[Tensor, "*#batch dim"]
) -> Float[Tensor, "*batch dim"]:
    r"""Returns :math:`(I - x x^\top) v`.

    Args:
        state: Unit vectors :math:`x`.
        vector: :math:`v`.

    Returns:
        The part of the vector along the sphere.
    """
    # A product with ones sums a short last axis several times faster than sum does.
    ones = torch.ones(state.shape[-1], 1, dtype=state.dtype, device=state.device)
    return vector - (state * vector) @ ones * state


def unit_vectors(vector: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
    """Returns the vectors at unit length.

    Args:
        vector: Vectors other than 0.

    Returns:
        Unit vectors; 0 stays 0.
    """
    norm = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return vector / norm.clamp(min=torch.finfo(vector.dtype).tiny)


def per_batch(value: float | Tensor, axes: int = 1) -> float | Tensor:
    """Returns a parameter with one value per population, ready to multiply a state.

    Args:
        value: A number, or a tensor over the batch.
        axes: The state's own axes.

    Returns:
        The number, or the tensor with that many axes more.
    """
    return value[(..., *[None] * axes)] if isinstance(value, Tensor) else value
