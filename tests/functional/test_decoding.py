"""What the decoding steps share: every one refuses and joins alike."""

from types import SimpleNamespace

import pytest
import torch

from syncattn.functional import (
    frustrated_synchronization_step,
    kuramoto_attention_step,
    oscillator_attention_step,
    selective_synchronization_step,
)
from syncattn.functional.decoding import joined_mask, keywords, require_croppable, step_options

X = torch.full((1, 1, 1, 2), 0.5)
ONE = torch.ones(1)
STEPS = {
    "kuramoto": lambda **options: kuramoto_attention_step(X, **options),
    "frustrated": lambda **options: frustrated_synchronization_step(
        X, harmonic_amplitude=ONE.view(1, 1, 1, 1), frustration=ONE.view(1, 1, 1, 1), **options
    ),
    "oscillator": lambda **options: oscillator_attention_step(X, X, X, X, **options),
    "selective": lambda **options: selective_synchronization_step(
        X, X, coupling_strength=ONE, coupling_decay=ONE, **options
    ),
}
EVERY_STEP = pytest.mark.parametrize("name", STEPS)


@EVERY_STEP
@pytest.mark.parametrize("recorded", [True, False])
def test_an_unknown_keyword_is_refused_by_name(name, recorded):
    with torch.set_grad_enabled(recorded), pytest.raises(TypeError, match="`frequencies` must be"):
        STEPS[name](frequencies=ONE)


@EVERY_STEP
def test_what_a_step_decides_itself_is_refused_whatever_it_holds(name):
    for keyword, given in (
        ("attn_mask", torch.ones(2, 2, dtype=torch.bool)),
        ("cu_seqlens", torch.tensor([0, 1])),
        ("is_causal", False),
    ):
        with pytest.raises(ValueError, match=f"`{keyword}` must be left out in a decoding step"):
            STEPS[name](**{keyword: given})


@EVERY_STEP
def test_none_means_left_out(name):
    plain, _ = STEPS[name]()
    out, _ = STEPS[name](attn_mask=None, cu_seqlens=None, is_causal=None)
    assert torch.equal(out, plain)


def test_keywords_are_what_stands_behind_the_star():
    def operator(first, *, attn_mask=None, scale=1.0): ...

    known = keywords(operator)
    assert known == {"attn_mask", "scale"}
    assert step_options({"scale": 2.0, "attn_mask": None}, known) == {"scale": 2.0}
    with pytest.raises(TypeError, match=r"`first` must be a keyword.* It takes scale\."):
        step_options({"first": 1}, known)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_mask_may_begin_late_or_end_early(axis):
    tokens = torch.zeros(2, *([3] if axis == 1 else [5, 3]), 4)
    old = torch.tensor([[False, True]] * 2)
    past, masked = (SimpleNamespace(key_mask=mask, length=2) for mask in (None, old))
    some = torch.tensor([[True, False, True]] * 2)
    assert joined_mask(past, None, tokens, axis) is None
    assert joined_mask(past, some, tokens, axis).tolist() == [[True, True, True, False, True]] * 2
    assert joined_mask(masked, None, tokens, axis).tolist() == [[False, *[True] * 4]] * 2
    assert joined_mask(None, some, tokens, axis) is some


def test_cropping_to_nothing_or_to_more_is_refused():
    require_croppable(3, 3)
    with pytest.raises(ValueError, match="`length` must be at least 1"):
        require_croppable(0, 3)
    with pytest.raises(ValueError, match="`length` must be at most the tokens of the state"):
        require_croppable(4, 3)
