from typing import NamedTuple

import pytest
import torch
from torch import nn
from transformers import DynamicCache, TextStreamer

from syncattn.models import MECHANISMS, SyncAttnCache, SyncAttnModel
from syncattn.models.cache import SyncAttnCacheLayer
from syncattn.nn.decoding import DecodingAttention
from tests.models.networks import (
    EVERY_KIND,
    EVERY_MECHANISM,
    build,
    config,
    left_padded,
    right_padded,
    tokens,
)

GREEDY = {"do_sample": False, "pad_token_id": 0}


def stepped(model, ids, chunks, mask=None, cache=None):
    """Returns the logits of all chunks and the cache after them."""
    outputs, start = [], 0 if cache is None else cache.get_seq_length()
    for size in chunks:
        seen = None if mask is None else mask[:, : start + size]
        out = model(
            ids[:, start : start + size], attention_mask=seen, past_key_values=cache, use_cache=True
        )
        cache = out.past_key_values
        outputs.append(out.logits)
        start += size
    return torch.cat(outputs, 1), cache


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_every_mechanism_decodes_and_what_looks_ahead_does_not():
    for mechanism in MECHANISMS:
        model = build(mechanism).model
        assert model.can_decode
        assert all(isinstance(layer.attention, DecodingAttention) for layer in model.layers)
        model.config.is_causal = False
        assert not model.can_decode
        assert model(tokens(), use_cache=True).past_key_values is None


class NoStep(nn.Module):
    """An attention of somebody else, who has not written a step yet."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden_states, **visibility):
        return self.inner(hidden_states, **visibility)


def test_a_layer_without_a_step_generates_without_a_cache():
    model = build("selective")
    expected = model.generate(tokens(length=4), max_new_tokens=6, **GREEDY)
    layer = model.model.layers[1]
    layer.attention = NoStep(layer.attention)
    assert torch.equal(model.generate(tokens(length=4), max_new_tokens=6, **GREEDY), expected)
    with pytest.raises(ValueError, match="`past_key_values` must be None for a network that"):
        model.generate(tokens(length=4), max_new_tokens=6, use_cache=True, **GREEDY)


@EVERY_KIND
@pytest.mark.parametrize("chunks", [(1,) * 9, (5, 1, 3), (9,)])
def test_with_the_cache_the_logits_are_those_of_the_full_pass(mechanism, feedforward, chunks):
    model, ids = build(mechanism, feedforward), tokens()
    found, cache = stepped(model, ids, chunks)
    assert_same(found, model(ids).logits)
    assert isinstance(cache, SyncAttnCache)
    assert cache.get_seq_length() == 9
    assert model(ids).past_key_values is None


@EVERY_MECHANISM
@pytest.mark.parametrize("padded", [left_padded, right_padded])
@pytest.mark.parametrize("chunks", [(6, 1, 1, 1), (9,)])
def test_padding_on_either_side(mechanism, padded, chunks):
    model = build(mechanism)
    prompt, seen = padded(tokens(length=6), 2)
    ids = torch.cat([prompt, tokens(length=3, seed=2)], 1)
    mask = torch.cat([seen, torch.ones(2, 3, dtype=torch.long)], 1)
    found, _ = stepped(model, ids, chunks, mask)
    real = mask.bool()
    assert_same(found[real], model(ids, attention_mask=mask).logits[real])


@EVERY_MECHANISM
def test_reorder_repeat_and_select(mechanism):
    model, ids = build(mechanism), tokens()
    for change, order in (
        (lambda cache: cache.reorder_cache(torch.tensor([1, 0])), [1, 0]),
        (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1]),
        (lambda cache: cache.batch_select_indices(torch.tensor([1])), [1]),
    ):
        _, cache = stepped(model, ids, (6,))
        change(cache)
        found, _ = stepped(model, ids[order], (3,), cache=cache)
        assert_same(found, model(ids[order]).logits[:, 6:])


@EVERY_MECHANISM
@pytest.mark.parametrize("padding", [0, 2])
def test_crop_and_reset(mechanism, padding):
    model, other = build(mechanism), tokens(seed=3)
    ids, mask = left_padded(tokens(), padding)
    cache = SyncAttnCache(2)
    cache.activate_past_recording()
    _, cache = stepped(model, torch.cat([ids[:, :4], other[:, 4:]], 1), (9,), mask, cache)
    cache.crop(-5)
    assert cache.get_seq_length() == 4
    found, cache = stepped(model, ids, (5,), mask, cache)
    assert_same(found, model(ids, attention_mask=mask).logits[:, 4:])
    cache.crop(0)
    assert cache.get_seq_length() == 9
    cache.crop(6)
    assert cache.get_seq_length() == 6
    cache.crop(-6)
    assert cache.get_seq_length() == 0
    _, cache = stepped(model, ids, (9,), mask)
    cache.reset()
    assert cache.get_seq_length() == 0
    assert_same(stepped(model, other, (9,), cache=cache)[0], model(other).logits)


AFFINE = {"anchors": "ball", "readout_power": 1, "readout_gain": None}


def test_running_sums_cannot_be_cropped():
    model = build("oscillator", attention_options=AFFINE)
    _, cache = stepped(model, tokens(), (6,))
    # Too late: decoding goes on from the sums.
    cache.activate_past_recording()
    assert not cache.record_past(0)
    assert not cache.layers[0].is_croppable
    assert_same(stepped(model, tokens(), (3,), cache=cache)[0], model(tokens()).logits[:, 6:])
    with pytest.raises(RuntimeError, match="must record the past to be cropped"):
        cache.crop(-1)


@EVERY_MECHANISM
@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2},
                {"prefill_chunk_size": 3}, {"repetition_penalty": 1.5}],
    ids=lambda options: "-".join(options) or "greedy",
)  # fmt: skip
def test_generation_with_and_without_the_cache_is_the_same(mechanism, options):
    model = build(mechanism)
    batch, mask = left_padded(tokens(length=7), 3)
    both = [
        model.generate(
            batch, attention_mask=mask, max_new_tokens=6, use_cache=use_cache, **GREEDY,
            **({} if not use_cache and "prefill_chunk_size" in options else options),
        )
        for use_cache in (True, False)
    ]  # fmt: skip
    assert torch.equal(*both)


@EVERY_MECHANISM
def test_sampling_with_the_cache_draws_the_same(mechanism):
    model, both = build(mechanism), []
    for use_cache in (True, False):
        torch.manual_seed(5)
        options = {"do_sample": True, "top_k": 5, "pad_token_id": 0, "use_cache": use_cache}
        both.append(model.generate(tokens(length=4), max_new_tokens=8, **options))
    assert torch.equal(*both)


@EVERY_MECHANISM
def test_one_token_is_read_per_step(mechanism):
    model, lengths = build(mechanism), []
    model.model.register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(args[0].shape[1]), with_kwargs=True
    )
    model.generate(tokens(length=4), max_new_tokens=4, **GREEDY)
    assert lengths == [4, 1, 1, 1]


@EVERY_MECHANISM
def test_the_cache_of_one_call_goes_on_in_the_next(mechanism):
    model, ids = build(mechanism), tokens(length=4)
    options = {"return_dict_in_generate": True} | GREEDY
    first = model.generate(ids, max_new_tokens=3, **options)
    assert isinstance(first.past_key_values, SyncAttnCache)
    longer = torch.cat([first.sequences, tokens(length=2, seed=4)], 1)
    again = model.generate(
        longer, past_key_values=first.past_key_values, max_new_tokens=3, **options
    )
    assert torch.equal(again.sequences, model.generate(longer, max_new_tokens=3, **GREEDY))


class Heard:
    """A tokenizer that spells every token by its number."""

    def decode(self, ids, **_):
        return "".join(f"{token} " for token in ids)


@EVERY_MECHANISM
def test_streaming_tells_every_token(mechanism, capsys):
    model = build(mechanism)
    out = model.generate(
        tokens(1, 3), max_new_tokens=5, streamer=TextStreamer(Heard(), skip_prompt=True), **GREEDY
    )
    assert capsys.readouterr().out.split() == [str(token) for token in out[0, 3:].tolist()]


@EVERY_MECHANISM
def test_half_precision_decodes(mechanism):
    model, ids = build(mechanism).bfloat16(), tokens()
    found, _ = stepped(model, ids, (5, 1, 3))
    assert found.dtype == torch.bfloat16
    expected = model(ids).logits
    assert (found - expected).abs().max() < 0.1 * expected.abs().max() + 0.02


def test_a_cache_that_does_not_fit_is_refused():
    model, ids = build("softmax"), tokens()
    filled = DynamicCache()
    filled.update(torch.zeros(2, 2, 3, 8), torch.zeros(2, 2, 3, 8), 0)
    with pytest.raises(ValueError, match="`past_key_values` must be a SyncAttnCache; got a filled"):
        model(ids, past_key_values=filled)
    with pytest.raises(ValueError, match="one layer per block; got 3 layers and 2 blocks"):
        model(ids, past_key_values=SyncAttnCache(3))
    with pytest.raises(RuntimeError, match="filled by the steps of this package's layers"):
        SyncAttnCache(1).update(torch.zeros(1), torch.zeros(1), 0)
    with pytest.raises(ValueError, match="`output_attentions` must come without a filled cache"):
        model(ids, past_key_values=stepped(model, ids, (9,))[1], output_attentions=True)


@pytest.mark.parametrize("use_cache", [None, True, False])
@pytest.mark.parametrize("kind", [DynamicCache, lambda: SyncAttnCache(2)], ids=["foreign", "own"])
def test_a_given_cache_is_filled_and_returned(use_cache, kind):
    # As the decoders of Transformers do it; an empty one of theirs cannot hold our states.
    model, ids = build("selective"), tokens()
    cache = model(ids[:, :6], past_key_values=kind(), use_cache=use_cache).past_key_values
    assert isinstance(cache, SyncAttnCache)
    assert cache.get_seq_length() == 6
    out = model(ids[:, 6:], past_key_values=cache, use_cache=use_cache)
    assert out.past_key_values is cache
    assert_same(out.logits, model(ids).logits[:, 6:])


@EVERY_MECHANISM
def test_a_network_that_looks_ahead_refuses_a_cache(mechanism):
    torch.manual_seed(0)
    model, ids = SyncAttnModel(config(mechanism, is_causal=False)).eval(), tokens()
    for cache in (SyncAttnCache(2), DynamicCache()):
        with pytest.raises(ValueError, match="`past_key_values` must be None for a network that"):
            model(ids, past_key_values=cache)
    assert model(ids, use_cache=True).past_key_values is None


class Elsewhere(NamedTuple):
    """A state on another device, which notes where an index came from."""

    value: torch.Tensor
    asked: list
    length: int = 3

    def crop(self, length):
        return self._replace(length=length)

    def select(self, index):
        self.asked.append(index.device.type)
        return self


@pytest.mark.parametrize("change", ["reorder_cache", "batch_select_indices"])
def test_the_index_follows_the_state_of_every_layer(change):
    cache, asked = SyncAttnCache(2), []
    for layer, device in enumerate(("cpu", "meta")):
        cache.set_state(layer, Elsewhere(torch.zeros(2, 3, device=device), asked))
    getattr(cache, change)(torch.tensor([1, 0]))
    assert asked == ["cpu", "meta"]


def test_the_rest_of_the_protocol():
    cache = SyncAttnCache(2)
    assert len(cache) == 2
    assert all(layer.is_croppable for layer in cache.layers)
    assert not cache.is_compileable
    layer = cache.layers[0]
    assert isinstance(layer, SyncAttnCacheLayer)
    assert layer.get_max_length() == layer.get_max_cache_shape() == -1
    assert layer.get_mask_sizes(3) == (3, 0)
    for empty in (cache.reset, lambda: cache.crop(-1), lambda: cache.batch_repeat_interleave(2)):
        empty()
    assert cache.get_seq_length() == 0
