"""Subject–verb agreement at the published minimal size: accuracy, and failures, by seed.

    python benchmarks/agreement.py [--arms published default softmax] [--seeds 10] [--workers 2]

The published recipe: width 32, one head, one block, feed-forward 64 with GELU, dropout 0.1,
oscillators of two dimensions, sinusoidal positions, bidirectional, read at the verb; 40,000
training and 4,000 validation sentences, AdamW 5e-4 with decay 1e-4, batches of 64, 20 epochs,
cosine to 0 by step, clip 1, binary cross-entropy, accuracy of the last epoch. A run fails when its
accuracy on hard sentences is below 85 percent. All arms of a seed see the same batches; softmax is
the same block with the same projections.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, scaled_dot_product_attention

from runs import add_runs, descend, finish
from syncattn.data import AgreementSplit, AgreementTask
from syncattn.nn import OscillatorAttention
from syncattn.nn.heads import merge_heads, split_heads

WIDTH, HEADS, FEEDFORWARD, LENGTH, BATCH = 32, 1, 64, 9, 64
FAILURE = 0.85
ARMS = ("published", "published-masked", "default", "default-m2", "softmax")


class SoftmaxTwin(nn.Module):
    """Softmax attention with the projections of the published oscillator layer."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (
            nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3)
        )
        self.o_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, *, key_mask: Tensor) -> Tensor:
        """Returns the mixed stream."""
        q, k, v = (split_heads(p(x), HEADS) for p in (self.q_proj, self.k_proj, self.v_proj))
        out = scaled_dot_product_attention(q, k, v, attn_mask=key_mask[:, None, None, :])
        return self.o_proj(merge_heads(out))


def attention(arm: str) -> nn.Module:
    """Returns the attention of an arm."""
    if arm == "softmax":
        return SoftmaxTwin()
    if arm.startswith("published"):
        return OscillatorAttention(
            WIDTH, HEADS, max_positions=LENGTH, oscillator_dim=2, variant="paper",
            legacy_padding=arm == "published",
        )  # fmt: skip
    dim = 2 if arm == "default-m2" else 8
    return OscillatorAttention(WIDTH, HEADS, max_positions=LENGTH, oscillator_dim=dim)


class Reader(nn.Module):
    """Embedding, sinusoidal positions, one pre-norm block, and a question at the verb."""

    def __init__(self, arm: str, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, WIDTH)
        self.attention = attention(arm)
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.feedforward = nn.Sequential(
            nn.Linear(WIDTH, FEEDFORWARD), nn.GELU(), nn.Dropout(0.1),
            nn.Linear(FEEDFORWARD, WIDTH),
        )  # fmt: skip
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(WIDTH, 1)
        place = torch.arange(LENGTH)[:, None]
        rate = torch.exp(-math.log(10_000.0) * torch.arange(0, WIDTH, 2) / WIDTH)
        table = torch.stack([(place * rate).sin(), (place * rate).cos()], -1).flatten(1)
        self.register_buffer("position", table)

    def forward(self, batch: AgreementSplit) -> Tensor:
        """Returns the logit of every sentence."""
        x = self.dropout(self.embed(batch.input_ids) + self.position)
        mixed = self.attention(self.attention_norm(x), key_mask=batch.attention_mask)
        x = x + self.dropout(mixed)
        x = x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        at_verb = x[torch.arange(len(x)), batch.verb]
        return self.head(at_verb)[:, 0]


def part(split: AgreementSplit, index: Tensor) -> AgreementSplit:
    """Returns some sentences of a split."""
    return AgreementSplit(*(x[index] for x in split))


@torch.no_grad()
def accuracy(model: nn.Module, split: AgreementSplit) -> tuple[float, float]:
    """Returns the accuracy on all and on hard sentences."""
    model.eval()
    right = (model(split) > 0) == (split.label == 1)
    model.train()
    return right.float().mean().item(), right[split.hard].float().mean().item()


def train(arm: str, seed: int, options: argparse.Namespace) -> dict[str, float | str | int]:
    """Trains one reader and returns what it reached."""
    torch.set_num_threads(1)
    task = AgreementTask(corrected=options.corrected)
    training, validation = task.split(40_000, seed=1), task.split(4_000, seed=2)
    torch.manual_seed(seed)
    model = Reader(arm, len(task.vocabulary))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=1e-4, fused=True)
    steps = options.epochs * (40_000 // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = torch.Generator().manual_seed(seed)
    start = time.perf_counter()
    for _ in range(options.epochs):
        for index in torch.randperm(40_000, generator=order).split(BATCH):
            batch = part(training, index)
            loss = binary_cross_entropy_with_logits(model(batch), batch.label.float())
            descend(model, optimizer, loss)
            schedule.step()
    every, hard = accuracy(model, validation)
    seconds = round(time.perf_counter() - start)
    return {"arm": arm, "seed": seed, "all": every, "hard": hard, "seconds": seconds}


def main() -> None:
    """Trains every arm and seed and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["published", "default"])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--corrected", action="store_true", help="no undecidable nouns")
    add_runs(parser, seeds=10)
    options = parser.parse_args()
    done = finish(train, options)
    print(f"\nceiling {AgreementTask(corrected=options.corrected).ceiling:.3f}")
    for arm in options.arms:
        hard = [float(r["hard"]) for r in done if r["arm"] == arm]
        every = [float(r["all"]) for r in done if r["arm"] == arm]
        spread = statistics.stdev(hard) if len(hard) > 1 else 0.0
        print(
            f"{arm:18} all {statistics.mean(every):.4f}  hard {statistics.mean(hard):.4f} ± "
            f"{spread:.4f}  at least 0.965: {sum(h >= 0.965 for h in hard)}/{len(hard)}  "
            f"failures {sum(h < FAILURE for h in hard)}/{len(hard)}"
        )


if __name__ == "__main__":
    main()
