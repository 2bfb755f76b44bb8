"""What must hold before a run counts: no leaks between splits, from ahead or from padding."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch

from syncattn import _validation as check
from syncattn._typing import Tensor
from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.networks import Network, build_network
from syncattn.benchmarks.pairs import PairsProblem
from syncattn.benchmarks.problems import (
    Batch,
    LabelProblem,
    Problem,
    TextProblem,
    unscored,
)
from syncattn.benchmarks.tasks import Recipe, Task
from syncattn.data.agreement_sets import overlap

__all__ = ["Finding", "check_arm", "check_data"]

_WINDOW = 64
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        what: What was checked.
        figure: What came out, in words.
        verdict: ``"ok"``, ``"known"`` (wrong, and said so) or ``"wrong"``.
    """

    what: str
    figure: str
    verdict: str = "ok"


def check_data(task: Task, problem: Problem) -> list[Finding]:
    """Checks the data of a task.

    Args:
        task: The task.
        problem: The task with its data.

    Returns:
        Overlap between splits, the majority class, and the ceiling where it is known.
    """
    findings: list[Finding] = []
    for split, among in (("valid", "train"), ("test", "train"), ("test", "valid")):
        share = _overlap(problem, split, among)
        if share is not None:
            # Pieces of text recur by themselves: licences, tables, markup.
            limit = 0.05 if isinstance(problem, TextProblem) else 0.0
            known = task.known_flaws or (problem.identity.extent == "sample" and share < 0.5)
            verdict = "ok" if share <= limit else ("known" if known else "wrong")
            findings.append(Finding(f"{split} also in {among}", f"{share:.2%}", verdict))
    if task.metric == "accuracy" and not isinstance(problem, PairsProblem):
        findings.append(_majority(problem))
    if problem.ceiling is not None:
        verdict = "ok" if problem.ceiling == 1 else "known"
        findings.append(Finding("ceiling", f"{problem.ceiling:.2%}", verdict))
    if task.known_flaws:
        findings.append(Finding("known flaws", task.known_flaws, "known"))
    return findings


def check_arm(task: Task, problem: Problem, recipe: Recipe, arm: str) -> list[Finding]:
    """Checks the network that an arm gets for a task.

    Args:
        task: The task.
        problem: The task with its data.
        recipe: Sizes.
        arm: Name of the arm.

    Returns:
        Whether the future moves the past (where it must not), and whether padding moves anything.

    Raises:
        ValueError: If there is no such arm.
    """
    check.require_choice(arm, "arms", ARMS)
    torch.manual_seed(0)
    network = build_network(
        ARMS[arm], problem, recipe.shape, is_causal=task.is_causal, positions=task.positions
    ).eval()
    # Fresh networks hardly mix: what leaks must be large enough to be seen.
    with torch.no_grad():
        for attention in network.attentions:
            for name, parameter in attention.named_parameters():
                if "proj" in name and "frequency" not in name and "phase" not in name:
                    parameter.mul_(3.0)
    batch = problem.training_batch(4, seed=0, step=0)
    findings = [_causality(network, batch)] if task.is_causal else []
    return [*findings, _padding(network, batch)]


def _overlap(problem: Problem, split: str, among: str) -> float | None:
    if isinstance(problem, TextProblem):
        return _text_overlap(getattr(problem.tokens, among), getattr(problem.tokens, split))
    if isinstance(problem, LabelProblem):
        known, asked = getattr(problem.data, among).inputs, getattr(problem.data, split).inputs
        return overlap(known.flatten(1), asked.flatten(1))
    return None


def _text_overlap(train: Tensor, held: Tensor) -> float:
    """Returns the share of pieces of the held-out text that stand in the training text."""
    pieces = held[: len(held) // _WINDOW * _WINDOW].view(-1, _WINDOW)
    pieces = pieces[:: max(1, len(pieces) // 2_000)]
    width = train.element_size()
    whole = bytes(train.numpy().tobytes())
    found = sum(_stands_in(bytes(piece.numpy().tobytes()), whole, width) for piece in pieces)
    return found / max(1, len(pieces))


def _stands_in(piece: bytes, whole: bytes, width: int) -> bool:
    place = whole.find(piece)
    while place >= 0 and place % width:
        place = whole.find(piece, place + 1)
    return place >= 0


def _majority(problem: Problem) -> Finding:
    counts: Counter[int] = Counter()
    for batch in problem.batches("test", 64):
        target = batch.target[batch.target != unscored]
        counts.update(target.tolist())
    share = max(counts.values()) / max(1, counts.total())
    return Finding("majority class of test", f"{share:.2%}")


@torch.no_grad()
def _causality(network: Network, batch: Batch) -> Finding:
    """Changes every token after the middle and looks whether an earlier answer moves."""
    length = batch.inputs.shape[1]
    middle = length // 2
    changed = batch.inputs.clone()
    vocabulary = network.backbone.config.vocab_size
    changed[:, middle:] = (changed[:, middle:] + 1) % vocabulary
    here, there = network(batch), network(batch._replace(inputs=changed))
    moved = (here - there)[:, :middle].abs().max().item()
    after = (here - there)[:, middle:].abs().max().item()
    if not after > 0:
        # A network that answers the same whatever it reads, or NaN, shows no leak and no soundness.
        return Finding("a changed future moves the future by", f"{after:.1e}", "wrong")
    verdict = "ok" if moved <= _TOLERANCE * here.abs().max().item() else "wrong"
    return Finding("a changed future moves the past by", f"{moved:.1e}", verdict)


@torch.no_grad()
def _padding(network: Network, batch: Batch) -> Finding:
    """Appends padding, filled with other tokens, and looks whether an answer moves."""
    limit, length = network.backbone.config.max_position_embeddings, batch.inputs.shape[1]
    kept = max(1, min(length, limit - 4))
    mask = (
        torch.ones(batch.inputs.shape[:2], dtype=torch.bool) if batch.mask is None else batch.mask
    )
    mask = mask[:, :kept]
    place = None if batch.place is None else batch.place.clamp(max=kept - 1)
    target = batch.target if batch.target.dim() == 1 else batch.target[:, :kept]
    short = Batch(batch.inputs[:, :kept], target, mask, place)
    tail = batch.inputs[:, :1].expand(-1, 4, *batch.inputs.shape[2:])
    padded = torch.cat([short.inputs, tail], 1)
    no = torch.zeros(len(mask), 4, dtype=torch.bool)
    long = Batch(padded, target, torch.cat([mask, no], 1), place)
    if target.dim() > 1:
        wide = torch.full((len(target), 4), unscored)
        long = long._replace(target=torch.cat([target, wide], 1))
    here, there = network(short), network(long)
    difference = here - (there[:, :kept] if there.dim() == 3 else there)
    if difference.dim() == 3:
        difference = difference[mask]
    moved = difference.abs().max().item()
    verdict = "ok" if moved <= _TOLERANCE * here.abs().max().item() else "wrong"
    return Finding("appended padding moves an answer by", f"{moved:.1e}", verdict)
