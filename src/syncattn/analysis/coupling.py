"""What a trained torus layer couples by: coupling functions, frustration, order parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from syncattn import _validation as check
from syncattn._typing import Complex, Float, Int, Tensor
from syncattn.functional import order_parameter, phase_transition
from syncattn.nn import CouplingKernel, FrustratedSynchronization, KuramotoAttention
from syncattn.nn.heads import split_heads

__all__ = [
    "CouplingFunctions",
    "FrustrationParts",
    "coupling_functions",
    "frustration_parts",
    "order_by_head",
    "order_by_layer",
]

Curves = Float[Tensor, "heads delays points"]
PerDelay = Float[Tensor, "heads delays"]


@dataclass(frozen=True)
class CouplingFunctions:
    r"""The coupling function of every head and delay, as a curve and by name.

    .. math:: \Gamma(\phi) = \sum_m a_m \sin(m \phi + \alpha_m)

    Where a head has one kernel per coordinate, the curve is the mean over coordinates, the band
    holds the middle 80 percent of them, and the coefficients are mean complex numbers.

    Attributes:
        phase_difference: :math:`\phi` from :math:`-\pi` to :math:`\pi`, ``(points,)``.
        pull: :math:`\Gamma(\phi)` in radians, ``(heads, delays, points)``.
        lower: Lower end of the band, like `pull`.
        upper: Upper end of the band.
        coefficient: :math:`\kappa_{sm}`, ``(heads, delays, harmonics)``.
        strength: Mean :math:`|\kappa_{sm}|` over coordinates, the same shape; more than the modulus
            of `coefficient` where coordinates disagree.
        slope: Mean :math:`\Gamma'(0) = \sum_m m a_m \cos\alpha_m`, ``(heads, delays)``; positive
            attracts.
    """

    phase_difference: Float[Tensor, " points"]
    pull: Curves
    lower: Curves
    upper: Curves
    coefficient: Complex[Tensor, "heads delays harmonics"]
    strength: Float[Tensor, "heads delays harmonics"]
    slope: PerDelay

    @property
    def sakaguchi_angle(self) -> PerDelay:
        r"""Frustration of the first harmonic, radians in :math:`(-\pi, \pi]`.

        A negative amplitude counts as half a turn, so that a repulsive coupling lies beyond a
        quarter turn whatever way it was learned.
        """
        return self.coefficient[..., 0].angle()

    @property
    def harmonic_share(self) -> Float[Tensor, "heads delays harmonics"]:
        """Share of each of Daido's harmonics in the strength; NaN where there is none."""
        return self.strength / self.strength.sum(-1, keepdim=True)

    @property
    def delay_share(self) -> PerDelay:
        """Share of each delay in the strength of its head; NaN where there is none."""
        total = self.strength.sum(-1)
        return total / total.sum(-1, keepdim=True)

    @property
    def agreement(self) -> Float[Tensor, "heads delays harmonics"]:
        """How far coordinates agree on a coefficient, in [0, 1]; NaN without strength."""
        return self.coefficient.abs() / self.strength


@dataclass(frozen=True)
class FrustrationParts:
    r"""Where the frustration of the delayed term comes from: the kernel, or the data.

    The delayed term of one coordinate turns by :math:`\alpha_k + \delta_{uk}`, static angle plus
    the token's own transition. A concentration is the length of the mean unit vector of angles: 1
    when all are alike, 0 when they spread over the circle.

    Attributes:
        static_angle: Mean angle of the kernel's first harmonic, ``(heads,)``.
        static_concentration: Its concentration over coordinates, weighted by amplitude.
        transition_angle: Mean transition over tokens and coordinates.
        transition_concentration: Concentration of the transitions of a coordinate, averaged: low
            when the data turn by ever other angles.
        bin_edges: Edges of the histogram, ``(bins + 1,)`` from :math:`-\pi` to :math:`\pi`.
        transition_count: Transitions in each bin, ``(heads, bins)``.
    """

    static_angle: Float[Tensor, " heads"]
    static_concentration: Float[Tensor, " heads"]
    transition_angle: Float[Tensor, " heads"]
    transition_concentration: Float[Tensor, " heads"]
    bin_edges: Float[Tensor, " edges"]
    transition_count: Int[Tensor, "heads bins"]


@torch.no_grad()
def coupling_functions(
    layer: FrustratedSynchronization | KuramotoAttention | CouplingKernel, *, num_points: int = 181
) -> CouplingFunctions:
    """Returns the coupling functions that a layer has learned.

    Args:
        layer: A torus layer or a kernel. Kuramoto attention has one sine per head, of the size of
            its step.
        num_points: Points of a curve.

    Returns:
        Curves and coefficients in float64, on the CPU.

    Raises:
        TypeError: If the layer is none of these, or `num_points` is not an integer.
        ValueError: If there are fewer than two points.
    """
    check.require_integer(num_points, "num_points", minimum=2)
    kappa = _kernel(layer)
    phi = torch.linspace(-torch.pi, torch.pi, num_points, dtype=torch.float64)
    m = torch.arange(1, kappa.shape[2] + 1, dtype=torch.float64)
    turned = torch.polar(torch.ones(len(m), num_points, dtype=torch.float64), m[:, None] * phi)
    each = torch.einsum("hsmk,mp->hskp", kappa, turned).imag
    band = torch.quantile(each, torch.tensor([0.1, 0.9], dtype=torch.float64), dim=2)
    return CouplingFunctions(
        phase_difference=phi,
        pull=each.mean(2),
        lower=band[0],
        upper=band[1],
        coefficient=kappa.mean(-1),
        strength=kappa.abs().mean(-1),
        slope=(m[:, None] * kappa.real).sum(2).mean(-1),
    )


def _require_phases(phase: Tensor, name: str, num_heads: int) -> None:
    check.require_tensor(phase, name, "batch length width")
    check.require_values(phase, name)
    check.require_divisible(phase.shape[-1], f"{name}.shape[-1]", num_heads, "num_heads")


@torch.no_grad()
def frustration_parts(
    layer: FrustratedSynchronization,
    phase: Float[Tensor, "batch length width"],
    *,
    delay: int = 1,
    num_bins: int = 36,
    key_mask: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> FrustrationParts:
    """Returns static and data-driven frustration of the delayed term on a batch.

    Args:
        layer: A layer with that delay.
        phase: The phases that the layer's `forward` gets, radians.
        delay: Which delay, from 1.
        num_bins: Bins of the histogram of transitions.
        key_mask: True where a token is real, ``(batch, length)``.
        cu_seqlens: Cumulative lengths of packed sequences.

    Returns:
        One number per head each, and the histogram, on the CPU.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If the layer lacks the delay or no token has a successor.
    """
    check.require_integer(delay, "delay", minimum=1)
    check.require_integer(num_bins, "num_bins", minimum=1)
    kappa = _kernel(layer)
    if delay >= kappa.shape[1]:
        raise ValueError(
            f"`delay` must be one of the layer's, at most {kappa.shape[1] - 1}; got {delay}. Build "
            f"the layer with more `num_delays`."
        )
    _require_phases(phase, "phase", layer.num_heads)
    theta = split_heads(phase, layer.num_heads)
    delta, exists = phase_transition(theta, delay=delay, key_mask=key_mask, cu_seqlens=cu_seqlens)
    if not bool(exists.any()):
        raise ValueError(
            f"`phase` must hold a token with a successor {delay} later; got none. Pass longer "
            f"sequences."
        )
    # (heads, coordinates, transitions)
    chosen = exists.expand(theta.shape[0], -1)
    turns = delta.movedim(2, 1)[chosen].permute(1, 2, 0).double().cpu()
    unit = torch.polar(torch.ones_like(turns), turns)
    static, strength = kappa[:, delay, 0].mean(-1), kappa[:, delay, 0].abs().mean(-1)
    edges = torch.linspace(-torch.pi, torch.pi, num_bins + 1, dtype=torch.float64)
    count = torch.stack([torch.histogram(x.flatten(), edges).hist for x in turns])
    return FrustrationParts(
        static_angle=static.angle(),
        static_concentration=static.abs() / strength,
        transition_angle=unit.mean((1, 2)).angle(),
        transition_concentration=unit.mean(2).abs().mean(1),
        bin_edges=edges,
        transition_count=count.long(),
    )


@torch.no_grad()
def order_by_head(
    phases: Sequence[Float[Tensor, "batch length width"]],
    num_heads: int,
    *,
    num_harmonics: int = 4,
    key_mask: Tensor | None = None,
) -> Float[Tensor, "layers heads harmonics"]:
    r"""Returns how far the tokens of a sequence agree, by layer, head and harmonic.

    .. math:: R_m = \Big\langle \Big| \frac1T \sum_t e^{\mathrm i m \theta_{tk}} \Big| \Big\rangle

    averaged over sequences and the head's coordinates k. T independent random phases give about
    :math:`\sqrt{\pi / 4 T}`.

    Args:
        phases: The stream before each layer, and after the last, as `hidden_states` of a model on
            the torus.
        num_heads: Number of heads that share the coordinates.
        num_harmonics: Largest harmonic.
        key_mask: True where a token is real, ``(batch, length)``.

    Returns:
        Coherences in [0, 1], on the CPU.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If a count is smaller than 1, the heads do not divide the coordinates, or no
            layer is given.
    """
    check.require_integer(num_harmonics, "num_harmonics", minimum=1)
    check.require_integer(num_heads, "num_heads", minimum=1)
    check.require_instance(phases, "phases", Sequence, "Pass one tensor per layer.")
    if not phases:
        raise ValueError("`phases` must hold at least one layer; got none. Pass `hidden_states`.")
    for phase in phases:
        _require_phases(phase, "phases", num_heads)
    mask = None if key_mask is None else key_mask[:, None]
    rows = [
        torch.stack([
            order_parameter(theta.double().mT, harmonic=m, mask=mask)
            .abs().mean(0).unflatten(0, (num_heads, -1)).mean(-1)
            for m in range(1, num_harmonics + 1)
        ], -1)
        for theta in phases
    ]  # fmt: skip
    return torch.stack(rows).cpu()


def order_by_layer(
    phases: Sequence[Float[Tensor, "batch length width"]],
    *,
    num_harmonics: int = 4,
    key_mask: Tensor | None = None,
) -> Float[Tensor, "layers harmonics"]:
    """Returns how far the tokens of a sequence agree, by layer and harmonic.

    Args:
        phases: The stream before each layer, and after the last, as `hidden_states` of a model on
            the torus.
        num_harmonics: Largest harmonic.
        key_mask: True where a token is real, ``(batch, length)``.

    Returns:
        Coherences in [0, 1], on the CPU: `order_by_head` with all coordinates as one head.
    """
    return order_by_head(phases, 1, num_harmonics=num_harmonics, key_mask=key_mask)[:, 0]


def _kernel(layer: object) -> Complex[Tensor, "heads delays harmonics width"]:
    """Returns the complex coefficients in double precision, on the CPU."""
    if isinstance(layer, FrustratedSynchronization):
        layer = layer.coupling_kernel
    if isinstance(layer, CouplingKernel):
        amplitude, angle = layer.signed_amplitude.double().cpu(), layer.frustration.double().cpu()
        return torch.complex(amplitude * angle.cos(), amplitude * angle.sin())
    if isinstance(layer, KuramotoAttention):
        step = layer.step_size.double().cpu()[:, None]
        return torch.complex(step, torch.zeros_like(step))
    raise TypeError(
        f"`layer` must be a FrustratedSynchronization, KuramotoAttention or CouplingKernel; got "
        f"{type(layer).__name__}. Pass `block.attention` of a model on the torus."
    )
