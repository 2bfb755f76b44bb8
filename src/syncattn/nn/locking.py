"""An auxiliary loss on the locked fraction, with a gradient also from pairs that do not lock."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import logsigmoid

from syncattn import _validation as check
from syncattn._typing import Bool, Float, Tensor
from syncattn.functional.oscillators import at_least_float32
from syncattn.nn.calibration import squared_cutoffs
from syncattn.nn.selective_options import targets_per_head


def locking_loss(
    frequency: Float[Tensor, "batch heads length dim"],
    *,
    coupling_strength: Float[Tensor, " heads"],
    coupling_decay: Float[Tensor, " heads"],
    target_locked_fraction: float | Sequence[float],
    order_parameter: Float[Tensor, "batch heads length"] | None = None,
    key_mask: Bool[Tensor, "batch length"] | None = None,
    num_pairs: int = 16,
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    r"""Returns how far the locked fraction of each head is from its target.

    .. math:: \sum_h t_h \ln \frac{t_h}{p_h} + (1 - t_h) \ln \frac{1 - t_h}{1 - p_h}, \qquad
        p_h = \Big\langle \sigma\Big(\frac{1}{\tau} \ln \frac{\rho_*^2}{u_{ij}}\Big) \Big\rangle

    averaged over the heads: :math:`p_h` is the locked fraction with a soft edge, the mean over
    drawn pairs. Synchronization itself has no gradient from pairs that do not lock, so a head whose
    tokens fell apart never comes back; this loss pulls it back from any distance. For that the edge
    widens with the logarithm of the distance that is left, so that most pairs pull and not the
    nearest alone, and the loss is scaled to keep its slope. Near the edge
    :math:`\ln(\rho_*^2/u) \approx (\rho_*^2 - u)/\rho_*^2`. Time and memory are linear in the
    length. Add it with a weight of about 0.01 to 0.1.

    Every token is compared with the tokens a few random steps away, around the end of the sequence,
    whatever the causal mask: all pairs when `num_pairs` is at least the length less one.

    Args:
        frequency: Natural frequencies of the tokens, position left out.
        coupling_strength: :math:`K > 0` of each head.
        coupling_decay: :math:`a > 0` of each head.
        target_locked_fraction: :math:`t`, strictly between 0 and 1, one number or one per head.
        order_parameter: :math:`R_i` of every token, in [0, 1]; 1 when None.
        key_mask: True where a token is real.
        num_pairs: Partners drawn for every token.
        temperature: :math:`\tau` near the target, width of the soft edge in the logarithm of the
            squared detuning.

    Returns:
        A scalar of at least 0, in float32 at least; 0 where there is no pair.

    Raises:
        TypeError: If a count is not an integer or a number not a number.
        ValueError: If a target is not strictly between 0 and 1, the temperature not positive, or
            an order parameter outside of [0, 1].
    """
    check.require_tensor(frequency, "frequency", "batch heads length dim")
    check.require_integer(num_pairs, "num_pairs", minimum=1)
    check.require_number(temperature, "temperature", minimum=0.0, exclusive=True)
    heads = frequency.shape[1]
    for name, x in (("coupling_strength", coupling_strength), ("coupling_decay", coupling_decay)):
        check.require_tensor(x, name, "heads")
        check.require_positive(x, name)
        check.require_same(frequency, "frequency", x[None], name, 1, "heads")
    if order_parameter is not None:
        check.require_tensor(order_parameter, "order_parameter", "batch heads length")
        for axis, name in ((0, "sequences in the batch"), (1, "heads"), (2, "tokens")):
            check.require_same(
                frequency, "frequency", order_parameter, "order_parameter", axis, name
            )
        check.require_share(order_parameter, "order_parameter")
    together = {"frequency": frequency, "coupling_strength": coupling_strength,
                "coupling_decay": coupling_decay, "order_parameter": order_parameter}  # fmt: skip
    check.require_together({name: x for name, x in together.items() if x is not None})
    check.require_visibility(frequency, frequency, key_mask=key_mask)
    omega = at_least_float32(frequency)
    batch, heads, length, _ = omega.shape
    target = omega.new_tensor(targets_per_head(target_locked_fraction, heads))
    if key_mask is not None:
        omega = torch.where(key_mask[:, None, :, None], omega, 0.0)
    if length < 2:
        return (omega * 0).sum()
    r = omega.new_ones(batch, heads, length) if order_parameter is None else order_parameter
    strength, decay = (x.to(omega.dtype)[:, None] for x in (coupling_strength, coupling_decay))
    cutoff = squared_cutoffs(strength, decay, r)
    # Relative to what a coherent token locks with: another unit of time must change nothing.
    least = 1e-12 * squared_cutoffs(strength, decay, torch.ones_like(strength)).detach()
    excess, blank = _sampled_pairs(omega, cutoff, least, key_mask, num_pairs)
    if bool(blank.all()):
        return (omega * 0).sum()
    width = _width(excess.detach(), blank, target).clamp(min=temperature)
    z = excess / width[:, None]
    # Logarithms throughout, or a fraction of 1e-30 would have no gradient.
    kept = (~blank).sum(-1).to(z.dtype).log()
    locked = logsigmoid(z).masked_fill(blank, -torch.inf).logsumexp(-1) - kept
    free = logsigmoid(-z).masked_fill(blank, -torch.inf).logsumexp(-1) - kept
    loss = target * (target.log() - locked) + (1 - target) * ((1 - target).log() - free)
    loss = (loss * width / temperature).mean()
    check.require_computed(loss, "frequency", "coupling_strength", "coupling_decay")
    return loss


def _sampled_pairs(
    omega: Tensor, cutoff: Tensor, least: Tensor, key_mask: Tensor | None, num_pairs: int
) -> tuple[Tensor, Tensor]:
    """Returns the logarithm of cutoff over squared detuning, and what to skip, (heads, pairs)."""
    excess: list[Tensor] = []
    blank: list[Tensor] = []
    steps: list[int] = (torch.randperm(omega.shape[2] - 1)[:num_pairs] + 1).tolist()
    for step in steps:
        u = (omega - omega.roll(step, 2)).square().sum(-1)
        # Equal tokens lock whatever happens: far inside, and without a gradient.
        u = torch.maximum(u, 1e-6 * cutoff.detach() + least)
        excess.append(torch.maximum(cutoff, least).log() - u.log())
        if key_mask is None:
            blank.append(torch.zeros_like(u, dtype=torch.bool))
        else:
            both = key_mask & key_mask.roll(step, 1)
            blank.append(~both[:, None].expand_as(u))
    return (
        torch.stack(excess, -1).movedim(1, 0).flatten(1),
        torch.stack(blank, -1).movedim(1, 0).flatten(1),
    )


def _width(excess: Tensor, blank: Tensor, target: Tensor) -> Tensor:
    """Returns the edge at which pairs as far as the head has to move are clearly in or out."""
    ordered = excess.masked_fill(blank, torch.inf).sort(-1).values
    last = (~blank).sum(-1) - 1
    place = ((1 - target) * last).long().clamp(min=0)
    # The pair that is to lie on the cutoff when the fraction is the target.
    distance = ordered.gather(-1, place[:, None])[:, 0].abs()
    return distance / (2 + target.logit().abs())
