"""Whether the network learns: does token 0 occur anywhere? The default form beside the published.

    python benchmarks/selective_learning.py [--hidden-size 256 512] [--seeds 5] [--steps 150]

Random tokens; the label at every position is 1 when token 0 occurs in the sequence, which half of
the sequences hold. A network whose tokens do not mix cannot be above chance, but for the positions
of token 0 itself. Two layers, eight heads, AdamW at 1e-3, batches of 32, no dropout, one thread
is enough.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from runs import descend
from syncattn.nn import OscillatorySynchronizationNetwork

LENGTH, VOCABULARY, BATCH, HEADS, LAYERS = 32, 32, 32, 8, 2


def draw(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns sequences and their labels, half of them with token 0 at one random place."""
    tokens = torch.randint(1, VOCABULARY, (count, LENGTH), generator=generator)
    label = torch.randint(2, (count,), generator=generator)
    place = torch.randint(LENGTH, (count, 1), generator=generator)
    with_zero = tokens.scatter(1, place, 0)
    tokens = torch.where(label[:, None].bool(), with_zero, tokens)
    return tokens, label[:, None].expand(-1, LENGTH)


@torch.no_grad()
def accuracy(model: torch.nn.Module, seed: int) -> float:
    """Returns the share of right positions over fresh sequences."""
    tokens, label = draw(512, torch.Generator().manual_seed(10_000 + seed))
    return (model(tokens)[..., :2].argmax(-1) == label).float().mean().item()


def train(variant: str, hidden_size: int, seed: int, steps: int) -> float:
    """Trains one network and returns its accuracy on fresh sequences."""
    torch.manual_seed(seed)
    model = OscillatorySynchronizationNetwork(
        VOCABULARY, hidden_size, LAYERS, HEADS, dropout=0.0, variant=variant
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)
    start = time.perf_counter()
    for step in range(1, steps + 1):
        tokens, label = draw(BATCH, generator)
        loss = cross_entropy(model(tokens)[..., :2].flatten(0, 1), label.flatten())
        descend(model, optimizer, loss)
        if step % 50 == 0 or step == steps:
            print(
                f"  {variant} D={hidden_size} seed {seed} step {step}/{steps} "
                f"loss {loss.item():.4f}  {time.perf_counter() - start:.0f} s",
                flush=True,
            )
    return accuracy(model, seed)


def main() -> None:
    """Trains every variant, size and seed and prints the accuracies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--hidden-size", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--variant", nargs="+", default=["default", "paper"])
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to n - 1")
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    lines: list[str] = []
    for hidden_size in arguments.hidden_size:
        for variant in arguments.variant:
            found = [
                train(variant, hidden_size, seed, arguments.steps)
                for seed in range(arguments.seeds)
            ]
            listed = " ".join(f"{a:.3f}" for a in found)
            lines.append(
                f"{variant:8} D={hidden_size:4}  accuracy by seed {listed}  min {min(found):.3f}"
            )
            print(lines[-1], flush=True)
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
