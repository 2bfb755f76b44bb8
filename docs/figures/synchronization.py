"""Draws docs/figures/synchronization.svg: `python docs/figures/synchronization.py`."""

from pathlib import Path
from types import SimpleNamespace

import torch

from syncattn.analysis import attention_weights, save_figure
from syncattn.functional import selective_synchronization_weights

torch.manual_seed(0)
# Three groups of tokens in any order: a natural frequency per group, and a spread inside it.
group = torch.randint(3, (24,))
frequency = torch.tensor([-0.8, 0.0, 0.8])[group] + 0.12 * torch.randn(24)
phase = 0.8 * torch.randn(24)
weights, order, locked = selective_synchronization_weights(
    *(x.view(1, 1, 24, 1) for x in (frequency, frequency, phase)),
    coupling_strength=0.6, coupling_decay=4.0, is_causal=True,
)  # fmt: skip
picture = SimpleNamespace(
    weights=weights[0], order_parameter=order[0], locked=locked[0], locked_fraction=None
)
figure = attention_weights(
    [picture],
    ["abc"[g] for g in group],
    mechanism="selective synchronization",
    legend="24 tokens of three groups, a, b and c. R is the coherence of the phases a token sees; "
    "a pair is locked when its natural frequencies are near enough, and every other weight is "
    "exactly 0.",
)
for path in save_figure(figure, Path(__file__).with_suffix("")):
    print(path)
