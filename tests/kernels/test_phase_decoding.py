"""Columns of the past: what a step reads is what the whole pass reads."""

import pytest
import torch

from syncattn._masks import Visibility
from syncattn.kernels.kuramoto_attention import kuramoto_attention, tangent, unchanged
from syncattn.kernels.phase_decoding import FEW, continued, remembered
from syncattn.kernels.score import Score


def score(phase, key_mask=None):
    length = phase.shape[2]
    seen = Visibility(length, length, is_causal=True, exclude_self=True, key_mask=key_mask)
    return Score(
        phase, phase, torch.ones_like(phase), torch.ones_like(phase), None, 0.7, None, seen
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("new", [1, 3, FEW + 1])
@pytest.mark.parametrize("before", [0, 1, 6])
def test_goes_on_where_the_past_ended(before, new, masked):
    if before == 0 and new > 1:
        pytest.skip("several first tokens are a prompt, which is no step")
    phase = torch.randn(2, 2, before + new, 3, dtype=torch.float64)
    key_mask = None
    if masked:
        key_mask = torch.ones(2, before + new, dtype=torch.bool)
        key_mask[1, : before // 2] = False
        phase = torch.where(key_mask[:, None, :, None], phase, 0.0)
    past, first = None, 0
    if before:
        first = before - 1
        mask = None if key_mask is None else key_mask[:, :before]
        past = remembered(score(phase[:, :, :before], mask), unchanged)
    mask = None if key_mask is None else key_mask[:, first:]
    out, after = continued(score(phase[:, :, first:], mask), past, key_mask, unchanged, tangent)
    expected = kuramoto_attention(score(phase, key_mask))[:, :, before:]
    torch.testing.assert_close(out, expected)
    assert after.key.shape[2] == after.value.shape[2] + 1 == before + new
    assert after.crop(1).value.shape[2] == 0
