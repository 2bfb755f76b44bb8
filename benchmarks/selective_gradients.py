"""Non-finite gradients in training: the default form beside the published one, written naively.

    python benchmarks/selective_gradients.py [--seeds 5] [--steps 80]

Where a pair sits on the locking threshold to the last bit, the published arcsin has an infinite
derivative: the loss is finite, the gradient is not. Width 64, eight heads, two layers, 32
sequences of 32 tokens, AdamW at 1e-3 on the task of selective_learning.py. A run stops at its
first non-finite gradient.
"""

from __future__ import annotations

import argparse

import torch
from selective_learning import HEADS, LAYERS, VOCABULARY, draw
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from syncattn.nn import (
    OscillatorySynchronizationBlock,
    OscillatorySynchronizationNetwork,
    SelectiveSynchronization,
)

WIDTH, BATCH, EPSILON = 64, 32, 1e-8


class NaiveSynchronization(nn.Module):
    """The published equations in their own order, with arcsin, clip and the norm trick."""

    def __init__(self, layer: SelectiveSynchronization) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Returns the mixed stream."""
        layer = self.layer

        def heads(projection: nn.Linear) -> Tensor:
            return projection(x).view(*x.shape[:2], layer.num_heads, -1).transpose(1, 2)

        omega, theta, value = (
            heads(p) for p in (layer.frequency_proj, layer.phase_proj, layer.v_proj)
        )
        squared = omega.square().sum(-1)
        product = omega @ omega.transpose(-1, -2)
        u = (squared[..., :, None] + squared[..., None, :] - 2 * product).relu()
        coupling = torch.exp(-softplus(layer.raw_coupling_decay)[:, None, None] * u)
        r = (theta.cos().mean(2).square() + theta.sin().mean(2).square()).sqrt().mean(-1)
        strength = softplus(layer.raw_coupling_strength)
        threshold = strength * r[..., None, None] * coupling + EPSILON
        # The root is guarded at 0, where the self pairs are: only the threshold is on trial.
        rho = (u + EPSILON).sqrt()
        ratio = (rho / threshold).clamp(-1 + EPSILON, 1 - EPSILON)
        s = (rho <= threshold).float() * coupling * ratio.arcsin().cos()
        weights = s / (s.sum(-1, keepdim=True) + EPSILON)
        return layer.o_proj((weights @ value).transpose(1, 2).flatten(-2))


def first_failure(form: str, seed: int, steps: int) -> int | None:
    """Returns the first step with a finite loss and a gradient that is not, None without one."""
    torch.manual_seed(seed)
    model = OscillatorySynchronizationNetwork(
        VOCABULARY, WIDTH, LAYERS, HEADS, dropout=0.0,
        variant="paper" if form == "published" else "default",
    )  # fmt: skip
    if form == "published":
        for block in model.layers:
            assert isinstance(block, OscillatorySynchronizationBlock)
            naive: nn.Module = NaiveSynchronization(block.attention)
            block.register_module("attention", naive)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, steps + 1):
        tokens, label = draw(BATCH, generator)
        loss = cross_entropy(model(tokens)[..., :2].flatten(0, 1), label.flatten())
        optimizer.zero_grad()
        loss.backward()
        finite = all(
            p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters()
        )
        if not finite or not torch.isfinite(loss):
            return step
        optimizer.step()
    return None


def main() -> None:
    """Trains both forms on every seed and counts the failures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to n - 1")
    parser.add_argument("--steps", type=int, default=80)
    arguments = parser.parse_args()
    for form in ("default", "published"):
        failures: dict[int, int] = {}
        for seed in range(arguments.seeds):
            step = first_failure(form, seed, arguments.steps)
            if step is not None:
                failures[seed] = step
            told = "finite throughout" if step is None else f"not finite at step {step}"
            print(f"  {form} seed {seed}: {told}", flush=True)
        listed = ", ".join(f"{seed} at step {step}" for seed, step in failures.items()) or "none"
        print(
            f"{form}: {len(failures)} of {arguments.seeds} seeds with non-finite gradients "
            f"within {arguments.steps} steps; seeds: {listed}",
            flush=True,
        )


if __name__ == "__main__":
    main()
