"""Wrapping, coherence and drift: the elementary quantities of oscillators."""

from __future__ import annotations

import torch

from syncattn import _validation as check
from syncattn._masks import Visibility
from syncattn._typing import Bool, Complex, Float, Tensor


def wrap_phase(phase: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Returns the phase in :math:`-\pi < \theta \le \pi`.

    Args:
        phase: Phases in radians, any real value.

    Returns:
        The same points of the circle.

    Raises:
        TypeError: If `phase` is not a floating tensor.

    Example:
        >>> wrap_phase(torch.tensor(3.5) * torch.pi).div(torch.pi).round(decimals=4).item()
        -0.5
    """
    check.require_floating(phase, "phase")
    wrapped = torch.pi - torch.remainder(torch.pi - phase, 2 * torch.pi)
    # A remainder that rounds up to a whole turn would land on the excluded end.
    return torch.where(wrapped > -torch.pi, wrapped, torch.pi)


def order_parameter(
    phase: Float[Tensor, "*batch oscillators"],
    *,
    harmonic: int = 1,
    mask: Bool[Tensor, "*#batch oscillators"] | None = None,
) -> Complex[Tensor, "*batch"]:
    r"""Returns the Kuramoto–Daido order parameter of a population of phases.

    .. math:: Z_m = \frac{1}{N} \sum_{j=1}^{N} e^{\mathrm{i} m \theta_j} = R_m e^{\mathrm{i} \Psi_m}

    The modulus :math:`R_m` is the coherence: 1 when all :math:`m\theta_j` agree modulo
    :math:`2\pi`. The argument :math:`\Psi_m` is the mean phase of the m-th harmonic. Theory: KU-2.

    Args:
        phase: Phases :math:`\theta_j` in radians; any real value, wrapped or not. Half precision
            is computed in float32.
        harmonic: Order :math:`m \geq 1`; 1 is Kuramoto's order parameter.
        mask: True where an oscillator counts; an empty population gives 0.

    Returns:
        The complex order parameter, in the complex dtype that matches `phase`.

    Raises:
        ValueError: If `harmonic` is smaller than 1, or `mask` does not fit.
        TypeError: If `phase` is not a floating tensor, or `mask` not a boolean one.

    References:
        | Chemical Oscillations, Waves, and Turbulence (Kuramoto, 1984)
        | Order function and macroscopic mutual entrainment (Daido, 1992)

    Example:
        >>> antiphase = torch.tensor([0.0, torch.pi], dtype=torch.float64)
        >>> order_parameter(antiphase, harmonic=2).abs().item()
        1.0
    """
    check.require_integer(harmonic, "harmonic", minimum=1)
    check.require_floating(phase, "phase")
    if phase.dim() == 0:
        raise ValueError(
            "`phase` must have an axis of oscillators; got a single number. Pass the phases of a "
            "population."
        )
    if mask is not None:
        check.require_mask(mask, "mask", phase.shape, phase.device)
    angle = harmonic * at_least_float32(phase)
    weight = torch.ones_like(angle) if mask is None else mask.expand_as(angle).to(angle.dtype)
    if mask is not None:
        angle = torch.where(mask, angle, 0.0)
    count = weight.sum(-1).clamp(min=1)
    return torch.complex((weight * angle.cos()).sum(-1), (weight * angle.sin()).sum(-1)) / count


def rotary_drift(dim: int, *, base: float = 10_000.0) -> Float[Tensor, " dim"]:
    r"""Returns the ladder of natural frequencies that rotary position gives each coordinate.

    .. math:: \omega_k = b^{-k/d}, \qquad k = 0 \dots d - 1

    Args:
        dim: Number of coordinates :math:`d`.
        base: :math:`b > 1`.

    Returns:
        Radians per token.

    Raises:
        ValueError: If `dim` is smaller than 1 or `base` is not above 1.
        TypeError: If `dim` is not an integer.
    """
    check.require_integer(dim, "dim", minimum=1)
    check.require_number(base, "base", minimum=1.0, exclusive=True)
    return float(base) ** (-torch.arange(dim, dtype=torch.float32) / dim)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Returns the tensor in float32 when its dtype is narrower.

    Args:
        tensor: Any floating tensor.

    Returns:
        The tensor itself, or its float32 copy.
    """
    return tensor.float() if tensor.dtype in {torch.float16, torch.bfloat16} else tensor


def widest(*tensors: Tensor) -> torch.dtype:
    """Returns the dtype in which several tensors are computed together, float32 at least.

    Args:
        tensors: Floating tensors.
    """
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def visible_order_parameter(
    phase: Float[Tensor, "batch heads keys phase_dim"],
    visibility: Visibility,
    *,
    unbiased: bool = False,
) -> Float[Tensor, "batch heads queries"]:
    r"""Returns the coherence of the tokens each query sees, in time linear in the keys.

    .. math:: R_i = \frac{1}{d} \sum_l \Big| \frac{1}{n_i} \sum_{j \in V_i} e^{i \theta_{jl}} \Big|

    Under a causal mask it is a prefix quantity; padding and other segments do not count. An
    arbitrary `attn_mask` costs a product with that mask.

    Args:
        phase: Phases of the keys in radians.
        visibility: Who sees whom.
        unbiased: See `syncattn.reference.row_order_parameter`.

    Returns:
        The order parameter in [0, 1]; 1 for a row that sees nothing.
    """
    count, c, s = _visible_sums(at_least_float32(phase), visibility)
    r = coherence(count, c, s, unbiased)
    return r.expand(*phase.shape[:2], visibility.num_queries)


def coherence(count: Tensor, cosine: Tensor, sine: Tensor, unbiased: bool) -> Tensor:
    """Returns the mean coherence over channels of populations given by their sums.

    Args:
        count: ``(..., 1)``, sizes of the populations.
        cosine: ``(..., channels)``, sums of the cosines.
        sine: ``(..., channels)``, sums of the sines.
        unbiased: See `syncattn.reference.row_order_parameter`.

    Returns:
        ``(...)`` in [0, 1]; 1 for an empty population.
    """
    n = count.clamp(min=1)
    r_squared = (cosine / n).square() + (sine / n).square()
    if unbiased:
        r_squared = torch.where(n > 1, (n * r_squared - 1) / (n - 1).clamp(min=1), 1.0)
    r = torch.where(r_squared > 0, r_squared, 1.0).sqrt() * (r_squared > 0)
    r = torch.where(count[..., 0] > 0, r.mean(-1), 1.0)
    # Rounding can leave a fully coherent population a few ulp above 1.
    return r - (r - 1).clamp(min=0).detach()


def _visible_sums(phase: Tensor, visibility: Visibility) -> tuple[Tensor, Tensor, Tensor]:
    """Returns how many keys each query sees and the sums of their cosines and sines."""
    c, s = phase.cos(), phase.sin()
    if visibility.attn_mask is not None:
        mask = visibility.dense(phase.device)
        assert mask is not None
        visible = mask.to(c.dtype)
        return visible.sum(-1, keepdim=True), visible @ c, visible @ s
    weight = c.new_ones(1, 1, c.shape[2], 1)
    if visibility.key_mask is not None:
        weight = visibility.key_mask[:, None, :, None].to(c.dtype)
        c, s = c * weight, s * weight
    sums = (weight.expand(*weight.shape[:2], *c.shape[2:3], 1), c, s)
    if visibility.segment is not None:
        return _segment_sums(sums, visibility)
    if visibility.is_causal:
        count, c, s = (x.cumsum(2)[:, :, visibility.offset :] for x in sums)
    else:
        count, c, s = (x.sum(2, keepdim=True) for x in sums)
    return count, c, s


def _segment_sums(
    sums: tuple[Tensor, Tensor, Tensor], visibility: Visibility
) -> tuple[Tensor, Tensor, Tensor]:
    segment = visibility.segment
    assert segment is not None
    # Numbered by their first tokens: empty sequences may be more than there are tokens.
    segment = torch.searchsorted(segment, segment)
    num_segments = visibility.num_keys
    out: list[Tensor] = []
    for x in sums:
        if visibility.is_causal:
            # A difference of running sums: float64 keeps what a long prefix would cancel.
            running = x.double().cumsum(2)
            before = running - x.double()
            out.append((running - before[:, :, segment]).to(x.dtype))
        else:
            total = x.new_zeros(*x.shape[:2], num_segments, x.shape[-1])
            out.append(total.index_add(2, segment, x)[:, :, segment])
    return out[0], out[1], out[2]
