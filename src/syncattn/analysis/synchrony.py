"""How the oscillators of a layer do on a batch: coherence, locking, clusters, and an alarm."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from syncattn import _validation as check
from syncattn import reference
from syncattn._masks import Visibility
from syncattn._typing import Bool, Float, Int, Tensor
from syncattn.analysis.distributions import entropy, head_diversity, largest_weight
from syncattn.functional.oscillators import at_least_float32, visible_order_parameter
from syncattn.nn import SelectiveSynchronization
from syncattn.nn.calibration import squared_cutoffs
from syncattn.reference.selective_synchronization import strongest

__all__ = [
    "SynchronyDiagnostics",
    "SynchronyWarning",
    "component_labels",
    "connected_components",
    "diagnose",
    "predicted_locked_fraction",
    "warn_if_dead",
]

DEAD, FULL = 1e-3, 0.999
"""Locked fractions below and above which a head selects nothing."""


class SynchronyWarning(UserWarning):
    """Every head of a layer locks nothing, or everything."""


@dataclass(frozen=True)
class SynchronyDiagnostics:
    r"""What a layer's oscillators do on a batch, one number per head unless said otherwise.

    Attributes:
        order_parameter: Mean coherence :math:`R` that a token sees, in [0, 1].
        cutoff_radius: Mean largest detuning that locks, :math:`\rho_*`.
        locked_fraction: Share of visible pairs of two tokens that lock; NaN without such a pair.
        predicted_locked_fraction: The same for independent Gaussian frequencies of the measured
            variance. Repeated tokens and clusters lie above it.
        entropy: Mean entropy of the weights of a token over the logarithm of the number of keys it
            sees; NaN where no token sees two.
        largest_weight: Mean largest weight of a token.
        empty_rows: Share of tokens that lock with no other, itself left out.
        connected_components: Mean number of clusters of the lock graph in a sequence; NaN where
            rows were sampled.
        head_divergence: Mean Jensen–Shannon divergence of two heads, nats in [0, ln 2]; one
            number, NaN with a single head.
        sampled: True when the sequence was longer than `max_rows`.
    """

    order_parameter: Float[Tensor, " heads"]
    cutoff_radius: Float[Tensor, " heads"]
    locked_fraction: Float[Tensor, " heads"]
    predicted_locked_fraction: Float[Tensor, " heads"]
    entropy: Float[Tensor, " heads"]
    largest_weight: Float[Tensor, " heads"]
    empty_rows: Float[Tensor, " heads"]
    connected_components: Float[Tensor, " heads"]
    head_divergence: float
    sampled: bool

    @property
    def dead_heads(self) -> int:
        """Number of heads that lock fewer than one pair in a thousand."""
        return int((self.locked_fraction < DEAD).sum())

    def summary(self) -> dict[str, float]:
        """Returns the means over heads and the number of dead ones, ready to be logged.

        Returns:
            Numbers by name; an undefined one is left out.
        """
        means = {
            name: float(value.nanmean()) if isinstance(value, Tensor) else float(value)
            for name, value in vars(self).items()
            if name != "sampled"
        }
        means["dead_heads"] = float(self.dead_heads)
        return {name: value for name, value in means.items() if not math.isnan(value)}


@torch.no_grad()
def diagnose(
    layer: SelectiveSynchronization,
    hidden_states: Float[Tensor, "batch length width"],
    *,
    max_rows: int = 128,
    max_sequences: int = 4,
    **visibility: Any,
) -> SynchronyDiagnostics:
    """Returns what the oscillators of a layer do on a batch, cheap enough to log in training.

    Dense up to `max_rows` tokens; of a longer sequence as many evenly spread rows are looked at,
    in time and memory linear in the length. Of the batch the first `max_sequences` count.

    Args:
        layer: A layer of selective synchronization.
        hidden_states: ``(batch, length, hidden_size)``, what its `forward` gets.
        max_rows: Most rows of one sequence.
        max_sequences: Most sequences.
        **visibility: `attn_mask`, `key_mask`, `cu_seqlens`, `is_causal` as in `forward`.

    Returns:
        The diagnostics, on the CPU.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If a count is smaller than 1, or the visibility does not fit.
    """
    check.require_integer(max_rows, "max_rows", minimum=1)
    check.require_integer(max_sequences, "max_sequences", minimum=1)
    x = hidden_states[:max_sequences]
    for name, rank in (("key_mask", 2), ("attn_mask", 4)):
        mask: Tensor | None = visibility.get(name)
        if mask is not None and mask.dim() == rank and mask.shape[0] > 1:
            visibility[name] = mask[:max_sequences]
    omega = at_least_float32(
        layer.natural_frequency(
            x, key_mask=visibility.get("key_mask"), cu_seqlens=visibility.get("cu_seqlens")
        )
    )
    seen = check.require_visibility(omega, omega, **visibility)
    real = seen.seen_keys()
    omega = omega if real is None else torch.where(real, omega, 0.0)
    view = _look(layer, x, omega, seen, max_rows)
    sees = view.visible.any(-1)
    pairs = view.visible & ~view.itself
    count = pairs.sum((0, 2, 3))
    locked = view.strength > 0
    alone = ~(locked & pairs).any(-1) & sees
    weights = reference.synchronization_weights(
        view.strength if layer.options["top_k"] is None
        else strongest(view.strength, layer.options["top_k"])
    )  # fmt: skip
    spread = entropy(weights, visible=view.visible, normalised=True)
    return SynchronyDiagnostics(
        order_parameter=_mean(view.order, sees),
        cutoff_radius=_mean(view.squared_cutoff.sqrt(), sees),
        locked_fraction=((locked & pairs).sum((0, 2, 3)) / count).cpu(),
        predicted_locked_fraction=_prediction(layer, omega, view, pairs, seen).cpu(),
        entropy=spread.movedim(1, 0).flatten(1).nanmean(-1).cpu(),
        largest_weight=_mean(largest_weight(weights), sees),
        empty_rows=_mean(alone.double(), sees),
        connected_components=_clusters(locked, seen, sampled=view.sampled),
        head_divergence=float(head_diversity(weights).nanmean()),
        sampled=view.sampled,
    )


def predicted_locked_fraction(
    frequency_variance: Float[Tensor, "*#shape"],
    squared_cutoff: Float[Tensor, "*#shape"],
    frequency_dim: int,
) -> Float[Tensor, "*#shape"]:
    r"""Returns the share of pairs that lock among independent Gaussian frequencies.

    .. math:: P\big(\tfrac{d}{2}, \tfrac{\rho_*^2}{4 s^2}\big)

    Args:
        frequency_variance: :math:`s^2`, variance of one coordinate.
        squared_cutoff: :math:`\rho_*^2`.
        frequency_dim: :math:`d`.

    Returns:
        The regularised lower incomplete gamma function; 1 without variance.
    """
    scaled = squared_cutoff / (4 * frequency_variance).clamp(min=1e-30)
    return torch.special.gammainc(torch.full_like(scaled, frequency_dim / 2), scaled)


def component_labels(
    locked: Bool[Tensor, "*batch tokens tokens"],
) -> Int[Tensor, "*batch tokens"]:
    """Returns which cluster of a lock graph every token is in.

    Args:
        locked: Locked pairs; one direction makes an edge.

    Returns:
        The first token of its cluster.
    """
    length = locked.shape[-1]
    edge = locked | locked.transpose(-1, -2)
    edge = edge | torch.eye(length, dtype=torch.bool, device=locked.device)
    label = torch.arange(length, device=locked.device).expand(locked.shape[:-1])
    while True:
        nearest = torch.where(edge, label[..., None, :], length).amin(-1)
        # Following the label of the label halves the way along a chain.
        nearest = nearest.gather(-1, nearest)
        if torch.equal(nearest, label):
            return label
        label = nearest


def connected_components(
    locked: Bool[Tensor, "*batch tokens tokens"], real: Bool[Tensor, "*#batch tokens"] | None = None
) -> Int[Tensor, "*batch"]:
    """Returns the number of clusters of a lock graph, a token that locks with none being one.

    Args:
        locked: Locked pairs; one direction makes an edge.
        real: True where a token counts.

    Returns:
        The number of connected components.
    """
    label = component_labels(locked)
    root = label == torch.arange(locked.shape[-1], device=locked.device)
    return (root if real is None else root & real).sum(-1)


def warn_if_dead(diagnostics: SynchronyDiagnostics, name: str = "the layer") -> bool:
    """Warns when every head locks next to nothing, or next to everything.

    Args:
        diagnostics: What `diagnose` returned.
        name: What the layer is called in the warning.

    Returns:
        True when it warned.
    """
    share = diagnostics.locked_fraction
    share = share[~share.isnan()]
    if share.numel() == 0:
        return False
    if bool((share < DEAD).all()):
        warnings.warn(
            f"All {share.numel()} heads of {name} are dead: at most {float(share.max()):.2%} of "
            f"the pairs lock, so tokens do not mix and frequencies have no gradient. Call "
            f"reset_parameters(), which calibrates the default variant, use fewer "
            f"`frequency_dim`, or add 0.05 * layer.locking_loss(hidden_states) to the loss.",
            SynchronyWarning,
            stacklevel=2,
        )
        return True
    if bool((share > FULL).all()):
        warnings.warn(
            f"All {share.numel()} heads of {name} lock at least {float(share.min()):.1%} of the "
            f"pairs, so they select nothing. Build it with a smaller `target_locked_fraction`, "
            f"set `top_k`, or add 0.05 * layer.locking_loss(hidden_states) to the loss.",
            SynchronyWarning,
            stacklevel=2,
        )
        return True
    return False


@dataclass(frozen=True)
class _View:
    """Some rows of the lock matrix: strength, mask and own place, (batch, heads, rows, keys)."""

    strength: Tensor
    visible: Tensor
    itself: Tensor
    order: Tensor
    squared_cutoff: Tensor
    rows: Tensor
    sampled: bool


def _look(
    layer: SelectiveSynchronization, x: Tensor, omega: Tensor, seen: Visibility, max_rows: int
) -> _View:
    length = omega.shape[2]
    sampled = length > max_rows
    rows = torch.arange(length, device=omega.device)
    if sampled:
        rows = rows[torch.linspace(0, length - 1, max_rows, device=omega.device).long()]
    phase, real = layer.phase(x), seen.seen_keys()
    if real is not None:
        phase = torch.where(real, phase, 0.0)
    order = visible_order_parameter(
        phase, seen, unbiased=layer.options["unbiased_order_parameter"]
    )[:, :, rows].to(omega.dtype)
    mask = seen.tile(rows, torch.arange(length, device=omega.device))
    shape = (*omega.shape[:2], len(rows), length)
    visible = omega.new_ones(shape).bool() if mask is None else mask.expand(shape)
    if seen.key_mask is not None:
        visible = visible & seen.key_mask[:, None, rows, None]
    strength, decay = layer.coupling_strength.to(omega), layer.coupling_decay.to(omega)
    # One sequence at once: the definition forms every difference of frequencies.
    parts = [
        reference.synchronization(
            omega[b : b + 1, :, rows], omega[b : b + 1], order[b : b + 1],
            coupling_strength=strength, coupling_decay=decay, mask=visible[b : b + 1],
            smoothing=layer.options["smoothing"],
        )
        for b in range(omega.shape[0])
    ]  # fmt: skip
    cutoff = squared_cutoffs(strength[:, None], decay[:, None], order)
    itself = (rows[:, None] == torch.arange(length, device=omega.device)).expand(shape)
    return _View(torch.cat(parts), visible, itself, order, cutoff, rows, sampled)


def _prediction(
    layer: SelectiveSynchronization, omega: Tensor, view: _View, pairs: Tensor, seen: Visibility
) -> Tensor:
    """Returns the mean prediction over the pairs; a position coordinate narrows the cutoff."""
    content = omega[..., : layer.frequency_dim]
    real = seen.key_mask
    real = content.new_ones(content.shape[0], content.shape[2]) if real is None else real
    weight = (real / real.sum())[:, None, :, None].to(content.dtype)
    mean = (content * weight).sum((0, 2), keepdim=True)
    variance = ((content - mean).square() * weight).sum((0, 2)).mean(-1)[None, :, None, None]
    budget = view.squared_cutoff[..., None]
    if omega.shape[-1] > layer.frequency_dim:
        place = omega[:1, :, :, -1]
        gap = (place[:, :, view.rows, None] - place[:, :, None]).square()
        budget = (budget - gap).clamp(min=0)
    share = predicted_locked_fraction(variance, budget, layer.frequency_dim)
    return (share * pairs).sum((0, 2, 3)) / pairs.sum((0, 2, 3))


def _clusters(locked: Tensor, seen: Visibility, *, sampled: bool) -> Tensor:
    if sampled:
        return torch.full((locked.shape[1],), torch.nan)
    real = None if seen.key_mask is None else seen.key_mask[:, None]
    return connected_components(locked, real).double().mean(0).cpu()


def _mean(values: Tensor, sees: Tensor) -> Tensor:
    """Returns the mean over the tokens that see something, per head."""
    values = values.double().masked_fill(~sees, torch.nan)
    return values.movedim(1, 0).flatten(1).nanmean(-1).cpu()
