"""A star network small enough for a test, and a layer that makes one."""

import torch

from syncattn.nn import OscillatorAttention


def star(dim, *, batch=2, heads=2, length=12, seed=0, unit=True):
    generator = torch.Generator().manual_seed(seed)
    score = torch.randn(batch, heads, length, length, generator=generator)
    mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    coupling = torch.where(mask, torch.nn.functional.softplus(score), 0.0)
    anchor = torch.randn(1, heads, length, dim, generator=generator)
    anchor = torch.nn.functional.normalize(anchor, dim=-1)
    if not unit:
        anchor = anchor * torch.rand(1, heads, length, 1, generator=generator)
    return coupling, anchor, mask


def layer(dim=2, *, length=12, width=16, seed=0, **options):
    torch.manual_seed(seed)
    built = OscillatorAttention(
        width, 2, max_positions=length, oscillator_dim=dim, rotary_base=None, **options
    )
    return built, torch.randn(2, length, width)
