import copy

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from syncattn.models import SyncAttnForCausalLM, SyncAttnModel
from syncattn.models.blocks import DEFAULT_OPTIONS
from tests.models.networks import (
    EVERY_KIND,
    EVERY_MECHANISM,
    KINDS,
    VOCABULARY,
    build,
    left_padded,
    right_padded,
    tokens,
)


@EVERY_KIND
def test_saved_and_loaded_it_is_the_same_network(mechanism, feedforward, tmp_path):
    model = build(mechanism, feedforward)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    expected = model(tokens()).logits
    for again in (
        SyncAttnForCausalLM.from_pretrained(tmp_path),
        AutoModelForCausalLM.from_pretrained(tmp_path),
    ):
        assert isinstance(again, SyncAttnForCausalLM)
        assert torch.equal(again.eval()(tokens()).logits, expected)
    backbone = AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(backbone, SyncAttnModel)
    state = backbone(tokens()).last_hidden_state
    assert torch.equal(state, model.model(tokens()).last_hidden_state)


@EVERY_MECHANISM
def test_auto_classes_build_from_a_configuration(mechanism):
    config = build(mechanism).config
    assert isinstance(AutoModelForCausalLM.from_config(config), SyncAttnForCausalLM)
    assert isinstance(AutoModel.from_config(config), SyncAttnModel)


@EVERY_KIND
def test_the_future_does_not_reach_the_past(mechanism, feedforward):
    model, ids = build(mechanism, feedforward), tokens()
    before = model(ids).logits
    changed = ids.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 23
    after = model(changed).logits
    assert before.shape == (2, 9, 23)
    assert torch.equal(after[:, :5], before[:, :5])
    assert not torch.equal(after[:, 5:], before[:, 5:])


@EVERY_MECHANISM
def test_context_reaches_the_logits(mechanism):
    model, ids = build(mechanism), tokens()
    changed = torch.cat([(ids[:, :4] + 1) % 23, ids[:, 4:]], 1)
    assert (model(changed).logits - model(ids).logits)[:, -1].abs().max() > 1e-4


@EVERY_KIND
@pytest.mark.parametrize("padded", [left_padded, right_padded])
def test_a_padded_batch_equals_its_sequences(mechanism, feedforward, padded):
    model, ids = build(mechanism, feedforward), tokens(length=9)
    batch, mask = padded(ids, 3)
    logits = model(batch, attention_mask=mask).logits
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[:1], model(ids[:1]).logits)
    torch.testing.assert_close(logits[1:][mask[1:].bool()][None], model(ids[1:, :6]).logits)


@EVERY_KIND
def test_greedy_generation_takes_the_likeliest_token_each_time(mechanism, feedforward):
    model, ids = build(mechanism, feedforward), tokens(length=4)
    out = model.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=0)
    expected = ids
    for _ in range(5):
        expected = torch.cat([expected, model(expected).logits[:, -1:].argmax(-1)], 1)
    assert torch.equal(out, expected)


@EVERY_MECHANISM
@pytest.mark.parametrize("padded", [left_padded, right_padded])
def test_a_padded_batch_generates_what_its_sequences_generate(mechanism, padded):
    model, ids = build(mechanism), tokens(length=6)
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    batch, mask = padded(ids, 3)
    out = model.generate(batch, attention_mask=mask, **options)
    assert torch.equal(out[:1], model.generate(ids[:1], **options))
    # Padding on the right is moved to the left, where generation needs it.
    assert not out[1, :3].any()
    assert torch.equal(out[1:, 3:], model.generate(ids[1:, :3], **options))


@EVERY_MECHANISM
def test_generation_goes_on_beyond_the_longest_sequence(mechanism):
    model = build(mechanism, max_position_embeddings=6)
    out = model.generate(tokens(length=4), max_new_tokens=7, do_sample=False, pad_token_id=0)
    assert out.shape == (2, 11)
    assert torch.equal(out[:, -1:], model(out[:, -7:-1]).logits[:, -1:].argmax(-1))
    expected = tokens(length=4)
    for _ in range(7):
        following = model(expected[:, -6:]).logits[:, -1:].argmax(-1)
        expected = torch.cat([expected, following], 1)
    assert torch.equal(out, expected)


@EVERY_KIND
def test_the_loss_falls_on_a_repeated_batch(mechanism, feedforward):
    model, ids = build(mechanism, feedforward).train(), tokens(2, 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = model(ids, labels=ids).loss
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_the_loss_is_the_shifted_cross_entropy_without_ignored_labels():
    model, ids = build("softmax"), tokens()
    labels = ids.clone()
    labels[0, :4] = -100
    out = model(ids, labels=labels)
    expected = torch.nn.functional.cross_entropy(
        out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
    )
    torch.testing.assert_close(out.loss, expected)


def test_the_last_logits_alone_and_the_hidden_states():
    model, ids = build("selective"), tokens()
    full = model(ids, output_hidden_states=True)
    last = model(ids, logits_to_keep=2)
    torch.testing.assert_close(last.logits, full.logits[:, -2:])
    assert last.hidden_states is None
    assert len(full.hidden_states) == 3
    assert torch.equal(full.hidden_states[0], model.model.embed_tokens(ids))


@EVERY_MECHANISM
def test_initial_values(mechanism):
    model = build(mechanism, hidden_size=64, num_hidden_layers=2, initializer_range=None)
    embedding = model.model.embed_tokens.weight.std().item()
    assert embedding == pytest.approx(0.7 if model.config.on_torus else 0.02, rel=0.1)
    for layer in model.model.layers:
        # What a block adds is shrunk once, by the root of twice the depth, and on a Euclidean
        # stream to a tenth of the embeddings.
        down = layer.feedforward.down_proj
        small = 0.5 * down.in_features**-0.5 if model.config.on_torus else 0.002
        assert down.weight.std().item() == pytest.approx(small, rel=0.1)
        if not model.config.on_torus:
            assert layer.attention.o_proj.weight.std().item() == pytest.approx(0.002, rel=0.1)
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name


def test_initial_values_keep_the_calibration_of_selective_synchronization():
    model = build("selective", hidden_size=64, attention_options={"target_locked_fraction": 0.2})
    attention = model.model.layers[0].attention
    torch.manual_seed(0)
    alone = type(attention)(64, 2, target_locked_fraction=0.2, **DEFAULT_OPTIONS["selective"])
    expected = alone.frequency_proj.weight.std().item()
    assert attention.frequency_proj.weight.std().item() == pytest.approx(expected, rel=0.1)
    torch.testing.assert_close(attention.coupling_strength, alone.coupling_strength)
    torch.testing.assert_close(attention.position_rate, alone.position_rate)


def test_tied_embeddings_are_one_tensor():
    tied, untied = build("softmax"), build("softmax", tie_word_embeddings=False)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight
    torus = build("kuramoto")
    assert torus.lm_head.weight.shape == (23, 32)


@pytest.mark.parametrize("mechanism", ["softmax", "selective", "oscillator"])
def test_untied_heads_are_saved_resized_and_stay_untied(mechanism, tmp_path):
    model, ids = build(mechanism, tie_word_embeddings=False), tokens() % 20
    model.resize_token_embeddings(20, mean_resizing=False)
    model.save_pretrained(tmp_path)
    again = SyncAttnForCausalLM.from_pretrained(tmp_path).eval()
    assert again.lm_head.weight is not again.model.embed_tokens.weight
    assert again.lm_head.weight.shape == again.model.embed_tokens.weight.shape == (20, 16)
    assert torch.equal(again(ids).logits, model(ids).logits)


@EVERY_MECHANISM
def test_the_picture_has_one_part_per_layer(mechanism):
    model, ids = build(mechanism), tokens()
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    pictures = model.synchrony(ids, mask)
    assert len(pictures) == 2
    for picture in pictures:
        assert picture.weights.shape == (2, 2, 9, 9)
        assert not picture.weights.requires_grad
        assert not picture.weights.triu(1).any()
        assert not picture.weights[1, :, :, 6:].any()


@EVERY_MECHANISM
def test_dense_weights_come_beside_the_output(mechanism):
    model, ids = build(mechanism), tokens()
    out = model(ids, output_attentions=True, return_dict=False)
    logits, weights = out
    assert torch.equal(logits, model(ids).logits)
    for picture, dense in zip(model.synchrony(ids), weights, strict=True):
        assert torch.equal(picture.weights, dense)
    assert model(ids).attentions is None


@EVERY_MECHANISM
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_changes_no_gradient(mechanism, use_reentrant):
    model, ids = build(mechanism).train(), tokens()
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            # Older releases of Transformers know the second name alone.
            newer = getattr(model, "activation_checkpointing_enable", None)
            (newer or model.gradient_checkpointing_enable)({"use_reentrant": use_reentrant})
        model.zero_grad()
        model(ids, labels=ids).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain)
    counted = []
    layer = model.model.layers[0]
    layer.attention.register_forward_hook(lambda *_: counted.append(1))
    model(ids, labels=ids).loss.backward()
    assert len(counted) == 2


@EVERY_MECHANISM
def test_autocast_trains_near_full_precision(mechanism):
    model, ids = build(mechanism).train(), tokens()
    expected = model(ids, labels=ids).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(ids, labels=ids).loss
    torch.testing.assert_close(loss.float(), expected, rtol=0.03, atol=0.03)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name


@EVERY_MECHANISM
@pytest.mark.parametrize("size", [30, 20])
def test_the_vocabulary_can_be_resized(mechanism, size, tmp_path):
    model, ids = build(mechanism), tokens() % 20
    before = model(ids).logits
    model.resize_token_embeddings(size, mean_resizing=False)
    after = model(ids).logits
    assert after.shape == (2, 9, size)
    assert model.config.vocab_size == size
    kept = min(size, 23)
    torch.testing.assert_close(after[..., :kept], before[..., :kept])
    assert model(torch.full((1, 3), size - 1)).logits.isfinite().all()
    model.save_pretrained(tmp_path)
    assert torch.equal(SyncAttnForCausalLM.from_pretrained(tmp_path).eval()(ids).logits, after)


@EVERY_MECHANISM
def test_embeddings_in_place_of_tokens(mechanism):
    model, ids = build(mechanism), tokens()
    embedded = model.get_input_embeddings()(ids)
    assert torch.equal(model(inputs_embeds=embedded).logits, model(ids).logits)
    with pytest.raises(ValueError, match=r"Exactly one of `input_ids` and `inputs_embeds`.*both"):
        model(ids, inputs_embeds=embedded)


@EVERY_MECHANISM
def test_half_precision_weights_run(mechanism, tmp_path):
    model = build(mechanism)
    model.save_pretrained(tmp_path)
    half = SyncAttnForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    logits = half(tokens()).logits
    assert logits.dtype == torch.bfloat16
    expected = model(tokens()).logits
    assert (logits.float() - expected).abs().max() < 0.1 * expected.abs().max() + 0.05


@EVERY_MECHANISM
def test_a_copy_is_independent(mechanism):
    model = build(mechanism)
    expected, other = model(tokens()).logits, copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    assert torch.equal(model(tokens()).logits, expected)


def test_attention_options_reach_the_module_and_unknown_ones_are_refused():
    options = {"oscillator_dim": 3, "readout_power": 2, "anchors": "ball"}
    model = build("oscillator", attention_options=options)
    assert model.model.layers[0].attention.anchors.raw_anchor.shape == (2, 24, 3)
    assert model.model.layers[0].attention.readout_power == 2
    with pytest.raises(ValueError, match=r"`attention_options` of 'softmax' must be among.*'gate'"):
        build("softmax", attention_options={"gate": "static"})


def test_bad_inputs_are_refused():
    model = build("softmax")
    with pytest.raises(ValueError, match=r"`input_ids` must not be longer than .*got 25 tokens"):
        model(tokens(length=25))
    with pytest.raises(ValueError, match="`attention_mask` must have one number per token"):
        model(tokens(), attention_mask=torch.ones(2, 8))
    with pytest.raises(
        ValueError, match=r"A prompt must not be longer than .*got 25 tokens and 24"
    ):
        model.generate(tokens(length=25))
    mixed = torch.ones(2, 9)
    mixed[0, 0] = mixed[1, -1] = 0
    for call in (model, model.generate):
        with pytest.raises(ValueError, match="must have its padding on one side of the batch"):
            call(tokens(), attention_mask=mixed)
    with pytest.raises(ValueError, match="`is_causal` must be left out of a language model"):
        build("softmax", is_causal=False)
    with pytest.raises(ValueError, match="`feature_size` must be left out of a language model"):
        build("softmax", feature_size=4)


@pytest.mark.parametrize(
    ("mechanism", "feedforward"), [kind for kind in KINDS if kind[0] in {"kuramoto", "frustrated"}]
)
def test_whole_turns_of_an_embedding_change_nothing(mechanism, feedforward):
    model, ids = build(mechanism, feedforward).double(), tokens()
    table = model.get_input_embeddings().weight
    before = model(ids).logits
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(ids).logits
    with torch.no_grad():
        table.add_(2 * torch.pi * torch.randint(-3, 4, table.shape).double())
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-10)
    with torch.autocast("cpu", torch.bfloat16):
        turned = model(ids).logits
    assert (turned - rough).abs().max() <= 0.02 * rough.abs().max()


@EVERY_KIND
def test_a_network_without_numbers_tells_its_shapes(mechanism, feedforward):
    model = build(mechanism, feedforward).to("meta")
    ids = tokens(2, 9).to("meta")
    mask, places = torch.ones_like(ids), torch.arange(9, device="meta")[None]
    for options in ({}, {"attention_mask": mask}, {"position_ids": places}, {"labels": ids}):
        found = model(ids, **options)
        assert found.logits.shape == (2, 9, VOCABULARY)
        assert found.logits.is_meta
        assert (found.loss is None) == ("labels" not in options)


def test_no_token_to_learn_costs_nothing():
    model, ids = build("softmax"), tokens(2, 4)
    loss = model(ids, labels=torch.full_like(ids, -100)).loss
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    assert model(ids[:, :1], labels=ids[:, :1]).loss.item() == 0
    for none in (0, torch.tensor(0)):
        hidden = torch.full_like(ids, -100)
        assert model(ids, labels=hidden, num_items_in_batch=none).loss.item() == 0
    some = ids.masked_fill(torch.arange(4) == 2, -100)
    expected = torch.nn.functional.cross_entropy(
        model(ids).logits[:, :-1].flatten(0, 1), some[:, 1:].flatten()
    )
    torch.testing.assert_close(model(ids, labels=some).loss, expected)


def test_the_loss_knows_shifted_labels_and_another_number_to_ignore():
    model, ids = build("softmax"), tokens(2, 4)
    logits, entropy = model(ids).logits, torch.nn.functional.cross_entropy
    zeros = ids.masked_fill(torch.arange(4) == 1, 0)
    expected = entropy(logits[:, :-1].flatten(0, 1), zeros[:, 1:].flatten(), ignore_index=0)
    found = model(ids, labels=zeros, ignore_index=0).loss
    torch.testing.assert_close(found, expected)
    shifted = ids.flip(1).mT.contiguous().mT
    found = model(ids, labels=ids, shift_labels=shifted).loss
    torch.testing.assert_close(found, entropy(logits.flatten(0, 1), shifted.flatten()))
    with pytest.raises(ValueError, match="`shift_labels` must be at least 0 and below"):
        model(ids, labels=ids, shift_labels=ids + 999)
    with pytest.raises(TypeError, match="`num_items_in_batch` must be a number"):
        model(ids, labels=ids, num_items_in_batch="two")


def test_positions_of_another_shape_are_refused():
    model, ids = build("softmax"), tokens(1, 8)
    for places in (torch.arange(8), torch.arange(7)[None], torch.arange(16).view(2, 8)):
        with pytest.raises(ValueError, match=r"`position_ids` must have shape \(1, 8\)"):
            model(ids, position_ids=places)


@EVERY_MECHANISM
def test_packed_sequences_do_not_see_each_other(mechanism):
    model, first, second = build(mechanism), tokens(1, 5), tokens(1, 4, seed=2)
    places = torch.cat([torch.arange(5), torch.arange(4)])[None]
    ids = torch.cat([first, second], 1)
    expected = torch.cat([model(first).logits, model(second).logits], 1)
    packed = model(ids, position_ids=places).logits
    torch.testing.assert_close(packed, expected, rtol=1e-4, atol=1e-5)
    plain = model(ids, position_ids=torch.arange(9)[None]).logits
    assert torch.equal(plain, model(ids).logits)
    with pytest.raises(ValueError, match="`position_ids` must begin anew in one row alone"):
        model(ids.expand(2, -1), position_ids=places)


@EVERY_MECHANISM
def test_the_last_hidden_state_is_what_the_head_reads(mechanism):
    model = build(mechanism)
    model.config.output_hidden_states = model.config.output_attentions = True
    out = model(tokens())
    assert len(out.hidden_states) == 3 and len(out.attentions) == 2
    read = model.model.readout(out.hidden_states[-1])
    torch.testing.assert_close(model.lm_head(read), out.logits)


@EVERY_MECHANISM
def test_embedded_prompts_and_caches_of_other_kinds_generate_the_same(mechanism):
    model, ids = build(mechanism), tokens(length=6).clamp(min=1)
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": 22}
    batch, mask = right_padded(ids, 2)
    expected = model.generate(batch, attention_mask=mask, **options)
    # A token that does nothing but pad tells the padding.
    assert torch.equal(model.generate(batch, **options), expected)
    embedded = model.get_input_embeddings()(batch)
    out = model.generate(inputs_embeds=embedded, attention_mask=mask, **options)
    assert torch.equal(out, expected[:, 6:])
    out = model.generate(batch, attention_mask=mask, cache_implementation="static", **options)
    assert torch.equal(out, expected)
