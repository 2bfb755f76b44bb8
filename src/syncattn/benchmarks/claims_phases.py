"""Claims of Kuramoto attention and the frustrated network (arXiv 2606.11585 and 2606.18694)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from syncattn.benchmarks.claims import Claim, Measured, made_of, register_claim, row_of, told
from syncattn.benchmarks.scores import ScoreTable
from syncattn.functional import kuramoto_attention, kuramoto_attention_weights
from syncattn.functional.phase_energy import phase_energy
from syncattn.reference import frustrated_synchronization

__all__: list[str] = []

_KURAMOTO, _FRUSTRATED = "arXiv 2606.11585", "arXiv 2606.18694"
_RUN = "syncattn claims run "
_LAPTOP = "syncattn benchmark run --preset laptop --data FOLDER"


def _phases() -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(1, 2, 12, 4, generator=draw, dtype=torch.float64) * 2


def _gradient() -> Measured:
    theta = _phases()
    gate = torch.ones_like(theta)
    options: dict[str, Any] = {"is_causal": True, "exclude_self": True}
    weights = kuramoto_attention_weights(theta, theta, gate, gate, **options)
    update = kuramoto_attention(theta, theta, gate, gate, **options)
    free = theta.clone().requires_grad_(True)
    # The tokens attended to are held; the energy is a function of those that attend.
    (slope,) = torch.autograd.grad(phase_energy(weights, free, theta).sum(), free)
    error = (update + slope).abs().max().item()
    figure = f"update and minus the gradient of the energy differ by {error:.1e}, weights held"
    return Measured("holds" if error < 1e-10 else "does not hold", figure)


def _transition() -> Measured:
    theta = _phases()
    weights = torch.rand(1, 2, 12, 12, dtype=torch.float64).tril(-1)
    one, none = (torch.full((2, 1, 1, 1), v, dtype=torch.float64) for v in (1.0, 0.0))
    delayed = frustrated_synchronization(
        weights, theta, theta, torch.cat([none, one], 1), torch.cat([none, none], 1)
    )
    # The successor's pull, written as a frustration set by the transition of the data.
    change = theta[:, :, 1:] - theta[:, :, :-1]
    angle = theta[:, :, None, :-1] - theta[..., None, :] + change[:, :, None]
    pulled = (weights[..., :-1, None] * angle.sin()).sum(-2)
    error = (delayed - pulled).abs().max().item()
    figure = f"delayed coupling and frustration by the data's transition differ by {error:.1e}"
    return Measured("holds" if error < 1e-10 else "does not hold", figure)


def _copying(tables: Sequence[ScoreTable]) -> Measured:
    arms = ("frustrated", "kuramoto", "softmax")
    rows = {arm: row_of(tables, "copy", arm) for arm in arms}
    means = {arm: row.score.mean for arm, row in rows.items() if row.score}
    figure = "accuracy of copying: " + ", ".join(f"{arm} {means[arm]:.3f}" for arm in arms)
    figure += f" ({len(rows['frustrated'].by_seed)} seeds); real text by copy depth not measured"
    if means["frustrated"] > max(means["kuramoto"], means["softmax"]):
        return Measured("holds in part", figure)
    return Measured("does not hold", figure)


def _wikipedia(tables: Sequence[ScoreTable], arm: str, *, should_be_below: bool) -> Measured:
    row = row_of(tables, "enwik8-char", arm)
    gap = told(row, unit=" bits against softmax")
    figure = ", ".join(filter(None, (gap, made_of(tables, row))))
    assert row.to_baseline is not None
    below = row.to_baseline.mean < 0
    # So much less training says little of the published budget.
    return Measured("holds in part" if below == should_be_below else "does not hold", figure)


register_claim(Claim(
    "kuramoto-energy",
    "the update descends an energy of the phases",
    f"{_KURAMOTO}, abstract",
    _RUN + "kuramoto-energy",
    "only with the weights held, and without frustration",
    measure=_gradient,
))  # fmt: skip
register_claim(Claim(
    "kuramoto-language",
    "1.637 ± 0.010 against 1.616 ± 0.004 bits per character at 1 M parameters on enwik8",
    f"{_KURAMOTO}, abstract",
    _LAPTOP + " --tasks enwik8-char",
    from_records=lambda tables: _wikipedia(tables, "kuramoto", should_be_below=False),
))  # fmt: skip
register_claim(Claim(
    "frustrated-delay",
    "the delay is a Kuramoto–Sakaguchi frustration set by the data's own transition",
    f"{_FRUSTRATED}, abstract",
    _RUN + "frustrated-delay",
    measure=_transition,
))  # fmt: skip
register_claim(Claim(
    "frustrated-language",
    "1.5953 ± 0.0014 bits per character at 1 M parameters on enwik8, softmax 1.611",
    f"{_FRUSTRATED}, abstract",
    _LAPTOP + " --tasks enwik8-char",
    from_records=lambda tables: _wikipedia(tables, "frustrated", should_be_below=True),
))  # fmt: skip
register_claim(Claim(
    "frustrated-meanfield",
    "without any feed-forward, coupled to collective modes, it tracks the transformer",
    f"{_FRUSTRATED}, abstract",
    "syncattn benchmark run --tasks enwik8-char --arms softmax frustrated-meanfield --data FOLDER",
    from_records=lambda tables: _wikipedia(tables, "frustrated-meanfield", should_be_below=True),
))  # fmt: skip
register_claim(Claim(
    "frustrated-copying",
    "the base layer is worst on long-range copies and the kernel reverses it",
    f"{_FRUSTRATED}, abstract",
    _LAPTOP + " --tasks copy",
    from_records=_copying,
))  # fmt: skip
register_claim(Claim(
    "frustrated-scales",
    "the ladder of sizes is complete through 4 M parameters",
    f"{_FRUSTRATED}, abstract",
    "syncattn benchmark run --tasks enwik8-char --scale full",
    why_not="days of training on the machines at hand",
))  # fmt: skip
