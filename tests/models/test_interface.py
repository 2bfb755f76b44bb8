import pytest
import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from syncattn.functional import selective_synchronization
from syncattn.models.interface import (
    NAME,
    REFUSED,
    _frequency_scale,
    register_attention,
    selective_attention_forward,
)
from syncattn.nn.selective_synchronization import PAPER_COUPLING
from tests.models.foreign_networks import CAUSAL_FAMILIES, EVERY_FAMILY, ids, network

DRY = {"gpt2": {"attn_pdrop": 0.0}, "llama": {}, "bert": {"attention_probs_dropout_prob": 0.0}}


@pytest.fixture(autouse=True)
def registered():
    assert register_attention() == NAME


def switched(family):
    model = network(family, **DRY[family])
    model.set_attn_implementation(NAME)
    return model


def test_the_operator_comes_with_its_mask():
    assert NAME in AttentionInterface._global_mapping
    assert NAME in AttentionMaskInterface._global_mapping
    assert not set(REFUSED) & set(AttentionInterface._global_mapping)


@CAUSAL_FAMILIES
@pytest.mark.parametrize("masked", [True, False])
def test_causality_stays(family, masked):
    model, tokens = switched(family), ids()
    changed = tokens.clone()
    changed[:, 5:] = 2 + (changed[:, 5:] + 1) % 29
    mask = torch.ones_like(tokens) if masked else None
    before, after = (model(x, attention_mask=mask).logits for x in (tokens, changed))
    torch.testing.assert_close(after[:, :5], before[:, :5], rtol=0, atol=1e-6)
    assert not torch.allclose(after[:, 5:], before[:, 5:], atol=1e-3)
    past = tokens.clone()
    past[:, :4] = 2 + (past[:, :4] + 1) % 29
    assert (model(past).logits - before)[:, -1].abs().max() > 1e-4


@EVERY_FAMILY
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(family, side):
    model, short, tokens = switched(family), ids(1, 6), ids()
    kept = slice(3, 9) if side == "left" else slice(0, 6)
    mask = torch.ones_like(tokens)
    mask[1] = 0
    mask[1, kept] = 1
    tokens[1, kept] = short[0]
    place = (mask.cumsum(-1) - 1).clamp(min=0)
    found = model(tokens, attention_mask=mask, position_ids=place).logits
    torch.testing.assert_close(found[1:, kept], model(short).logits, rtol=1e-3, atol=1e-4)


@CAUSAL_FAMILIES
def test_the_networks_own_cache_holds_queries_and_keys(family):
    model, tokens = switched(family), ids()
    both = [
        model.generate(tokens, max_new_tokens=5, do_sample=False, use_cache=use_cache)
        for use_cache in (True, False)
    ]
    assert torch.equal(*both)


def test_it_is_the_operator():
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 5, 4) for heads in (4, 2, 2))
    module = torch.nn.Module()
    module.is_causal = True
    out, weights = selective_attention_forward(
        module, query, key, value, None, output_attentions=True
    )
    key, value = (x.repeat_interleave(2, 1) for x in (key, value))
    scale, coupling = _frequency_scale(4), torch.full((4,), PAPER_COUPLING)
    expected = selective_synchronization(
        query * scale, key * scale, value, is_causal=True, coupling_strength=coupling,
        coupling_decay=coupling, empty_rows="nearest", order_parameter=torch.ones(2, 4, 5),
    )  # fmt: skip
    torch.testing.assert_close(out.transpose(1, 2), expected)
    assert not weights.triu(1).any()
    torch.testing.assert_close(weights @ value, expected)
    bidirectional, _ = selective_attention_forward(module, query, key, value, None, is_causal=False)
    assert not torch.allclose(bidirectional, out)
    with pytest.raises(ValueError, match="`dropout` must be 0 with attn_implementation"):
        selective_attention_forward(module, query, key, value, None, dropout=0.1)


def test_the_weights_make_the_output_where_nothing_locks_too():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 6, 4)
    query = 50 * query
    module = torch.nn.Module()
    module.is_causal = True
    mask = torch.ones(6, 6, dtype=torch.bool).tril().repeat(2, 1, 1, 1)
    mask[1, :, :, :2] = False
    for given in (None, mask):
        out, weights = selective_attention_forward(
            module, query, key, value, given, output_attentions=True
        )
        torch.testing.assert_close(weights @ value, out.transpose(1, 2))
        # Nothing locks: one key has it all, but in the rows that see nothing.
        blind = torch.zeros(2, 2, 6, dtype=torch.bool)
        blind[1, :, :2] = given is not None
        assert torch.equal(weights.amax(-1), (~blind).float())
        assert torch.equal(weights.sum(-1), (~blind).float())
