"""Densities of natural frequencies: Lorentzian, Gaussian, uniform; drawn or at their quantiles."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor

__all__ = ["DENSITIES", "FrequencyDensity", "Gaussian", "Lorentzian", "Uniform", "random_rotation"]


@dataclass(frozen=True)
class FrequencyDensity(ABC):
    """A symmetric density of natural frequencies with one peak, at its centre.

    Args:
        width: Its width, radians per unit time; what it measures is said by the subclass.
        center: Its centre.

    Raises:
        ValueError: If the width is not positive.
        TypeError: If an argument is not a number.
    """

    width: float
    center: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("width", 0.0), ("center", -math.inf)):
            value = getattr(self, name)
            check.require_number(value, name, minimum=least, exclusive=True)
            object.__setattr__(self, name, float(value))

    @property
    def name(self) -> str:
        """Name of the density, as in `DENSITIES`."""
        return type(self).__name__.lower()

    @property
    def peak(self) -> float:
        """Value of the density at its centre."""
        centre = torch.tensor(self.center, dtype=torch.float64)
        return self.density(centre).item()

    @abstractmethod
    def density(self, frequency: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Returns the density.

        Args:
            frequency: Where.

        Returns:
            Its value there, as time.
        """

    @abstractmethod
    def quantile(self, probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Returns the frequency below which a share of the population lies.

        Args:
            probability: The share, strictly between 0 and 1.

        Returns:
            The frequency.
        """

    def quantiles(self, number: int) -> Float[Tensor, " oscillators"]:
        """Returns a population without chance: the middles of equally likely parts.

        Args:
            number: How many oscillators.

        Returns:
            Rising frequencies in float64, symmetric about the centre.
        """
        check.require_integer(number, "number", minimum=1)
        return self.quantile((torch.arange(number, dtype=torch.float64) + 0.5) / number)

    def sample(
        self, number: int, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, " oscillators"]:
        """Returns independent draws.

        Args:
            number: How many oscillators.
            generator: Source of the randomness.

        Returns:
            Frequencies in float64.
        """
        check.require_integer(number, "number", minimum=1)
        drawn = torch.rand(number, generator=generator, dtype=torch.float64)
        return self.quantile(drawn.clamp(min=1e-15))


class Lorentzian(FrequencyDensity):
    """Cauchy's density; the width is half the width at half maximum. Its tails have no variance."""

    def density(self, frequency: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Returns the density.

        Args:
            frequency: Where.

        Returns:
            Its value there.
        """
        return self.width / math.pi / ((frequency - self.center).square() + self.width**2)

    def quantile(self, probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Returns the frequency below which a share of the population lies.

        Args:
            probability: The share.

        Returns:
            The frequency.
        """
        return self.center + self.width * (math.pi * (probability - 0.5)).tan()


class Gaussian(FrequencyDensity):
    """The normal density; the width is its standard deviation."""

    def density(self, frequency: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Returns the density.

        Args:
            frequency: Where.

        Returns:
            Its value there.
        """
        scaled = (frequency - self.center) / self.width
        return (-0.5 * scaled.square()).exp() / (self.width * math.sqrt(2 * math.pi))

    def quantile(self, probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Returns the frequency below which a share of the population lies.

        Args:
            probability: The share.

        Returns:
            The frequency.
        """
        return self.center + self.width * torch.special.ndtri(probability)


class Uniform(FrequencyDensity):
    """The flat density; the width is half the length of its interval."""

    def density(self, frequency: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Returns the density.

        Args:
            frequency: Where.

        Returns:
            Its value there.
        """
        inside = (frequency - self.center).abs() <= self.width
        return inside.to(frequency.dtype) / (2 * self.width)

    def quantile(self, probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Returns the frequency below which a share of the population lies.

        Args:
            probability: The share.

        Returns:
            The frequency.
        """
        return self.center + self.width * (2 * probability - 1)


DENSITIES: dict[str, type[FrequencyDensity]] = {
    "lorentzian": Lorentzian,
    "gaussian": Gaussian,
    "uniform": Uniform,
}


def random_rotation(
    number: int, dim: int, *, width: float, generator: torch.Generator | None = None
) -> Float[Tensor, "oscillators dim dim"]:
    """Returns random skew matrices without a preferred direction.

    Args:
        number: How many oscillators.
        dim: Number of coordinates.
        width: Standard deviation of the entries above the diagonal, radians per unit time.
        generator: Source of the randomness.

    Returns:
        The matrices, in float64.
    """
    check.require_integer(number, "number", minimum=1)
    check.require_integer(dim, "dim", minimum=2)
    check.require_number(width, "width", minimum=0.0)
    drawn = torch.randn(number, dim, dim, generator=generator, dtype=torch.float64)
    upper = width * drawn.triu(1)
    return upper - upper.mT
