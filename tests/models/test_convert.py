import copy
import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

import syncattn
from syncattn.models.convert import convert, load_converted
from tests.models.foreign_networks import (
    CAUSAL_FAMILIES,
    EVERY_FAMILY,
    EVERY_KIND,
    ids,
    network,
)

MECHANISMS = pytest.mark.parametrize("mechanism", ["selective", "oscillator"])


def converted(family, mechanism, layers=None, attention_options=None, **options):
    model = network(family, **options)
    torch.manual_seed(1)
    convert(model, mechanism, layers=layers, attention_options=attention_options)
    return model.eval()


@EVERY_FAMILY
@EVERY_KIND
@pytest.mark.parametrize("padding", [None, "left", "right"])
def test_softmax_for_softmax_changes_nothing(family, implementation, padding):
    # The strictest judge of weights, transposition, repeated heads, masks and positions.
    model = network(family, attn_implementation=implementation)
    tokens, mask = ids(), torch.ones(2, 9, dtype=torch.long)
    if padding:
        mask[1, : 3 if padding == "left" else None] = padding == "right"
        mask[1, slice(6, None) if padding == "right" else slice(0, 3)] = 0
    expected = model(tokens, attention_mask=mask).logits
    report = convert(model, "softmax")
    assert all(not layer.drawn for layer in report.layers)
    found = model(tokens, attention_mask=mask).logits
    real = mask.bool()
    torch.testing.assert_close(found[real], expected[real], rtol=1e-4, atol=1e-4)


@CAUSAL_FAMILIES
@EVERY_KIND
@MECHANISMS
def test_a_causal_network_does_not_see_the_future(family, implementation, mechanism):
    model = converted(family, mechanism, attn_implementation=implementation)
    tokens = ids()
    changed = tokens.clone()
    changed[:, 5:] = 2 + (changed[:, 5:] + 1) % 29
    for mask in (None, torch.ones_like(tokens)):
        before = model(tokens, attention_mask=mask).logits
        after = model(changed, attention_mask=mask).logits
        torch.testing.assert_close(after[:, :5], before[:, :5], rtol=0, atol=1e-6)
        assert not torch.allclose(after[:, 5:], before[:, 5:], atol=1e-3)
    past = tokens.clone()
    past[:, :4] = 2 + (past[:, :4] + 1) % 29
    assert (model(past).logits - model(tokens).logits)[:, -1].abs().max() > 1e-3


@EVERY_FAMILY
@EVERY_KIND
@MECHANISMS
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(family, implementation, mechanism, side):
    model = converted(family, mechanism, attn_implementation=implementation)
    short, tokens, mask = ids(1, 6), ids(), torch.ones(2, 9, dtype=torch.long)
    kept = slice(3, 9) if side == "left" else slice(0, 6)
    mask[1] = 0
    mask[1, kept] = 1
    tokens[1, kept] = short[0]
    place = (mask.cumsum(-1) - 1).clamp(min=0)
    found = model(tokens, attention_mask=mask, position_ids=place).logits
    torch.testing.assert_close(found[1:, kept], model(short).logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[:1], model(tokens[:1]).logits, rtol=1e-4, atol=1e-4)


@MECHANISMS
def test_bert_reads_both_ways(mechanism):
    model, tokens = converted("bert", mechanism), ids()
    changed = tokens.clone()
    changed[:, -1] = 2 + (changed[:, -1] + 1) % 29
    assert not torch.allclose(model(changed).logits[:, 0], model(tokens).logits[:, 0], atol=1e-4)


@CAUSAL_FAMILIES
@MECHANISMS
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_generation_with_and_without_the_cache_is_the_same(family, mechanism, options):
    # Part of the layers alone, so that two kinds of cache live side by side.
    for layers in (None, [1], [0]):
        model = converted(family, mechanism, layers=layers)
        tokens, mask = ids(), torch.ones(2, 9, dtype=torch.long)
        mask[1, :3] = 0
        both = [
            model.generate(
                tokens, attention_mask=mask, max_new_tokens=6, do_sample=False,
                use_cache=use_cache, **options,
            )
            for use_cache in (True, False)
        ]  # fmt: skip
        assert torch.equal(*both)


@EVERY_FAMILY
def test_values_and_outputs_are_kept(family):
    model = network(family)
    original = copy.deepcopy(model)
    report = syncattn.convert(model, "selective")
    assert [layer.family for layer in report.layers] == [family] * 2
    kept = ("v_proj",) if family == "bert" else ("v_proj", "o_proj")
    for layer in report.layers:
        assert layer.kept == kept
        assert {"frequency_proj.weight", "raw_coupling_strength"} <= set(layer.drawn)
        own = model.get_submodule(layer.name).attention
        source = original.get_submodule(layer.name)
        x = torch.randn(2, 3, 16)
        if family == "gpt2":
            value, out = source.c_attn(x)[..., 32:], source.c_proj(x)
        elif family == "llama":
            # Four query heads share two value heads.
            value = source.v_proj(x).unflatten(-1, (2, 4)).repeat_interleave(2, -2).flatten(-2)
            out = source.o_proj(x)
        else:
            value, out = source.value(x), x
        torch.testing.assert_close(own.v_proj(x), value)
        torch.testing.assert_close(own.o_proj(x), out)
    text = str(report)
    assert "2 layers became selective." in text
    assert f"kept {', '.join(kept)}" in text


def test_queries_and_keys_are_kept_where_the_mechanism_has_them():
    report = convert(network("llama"), "oscillator")
    assert report.layers[0].kept == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert "anchors.raw_anchor" in report.layers[0].drawn
    assert not any("proj" in name for name in report.layers[0].drawn)


def test_heads_of_another_width_keep_what_fits():
    model = network("llama", head_dim=8)
    report = convert(model, "selective")
    assert report.layers[0].kept == ()
    assert model(ids()).logits.isfinite().all()


@EVERY_FAMILY
def test_every_new_parameter_learns(family):
    model, tokens = converted(family, "selective").train(), ids()
    model(tokens, labels=tokens).loss.backward()
    for name, parameter in model.named_parameters():
        if "attention.attention" in name or "attn.attention" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


@EVERY_FAMILY
def test_it_saves_and_loads(family, tmp_path):
    options = {"frequency_dim": 4, "empty_rows": "nearest"}
    model = converted(family, "selective", layers=[1], attention_options=options)
    model.save_pretrained(tmp_path)
    again = load_converted(tmp_path)
    assert type(again) is type(model)
    assert torch.equal(again(ids()).logits, model(ids()).logits)
    (conversion,) = again.config.syncattn
    assert conversion["layers"] == [1]
    # As earlier versions wrote it.
    saved = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(saved | {"syncattn": conversion}))
    assert torch.equal(load_converted(tmp_path)(ids()).logits, model(ids()).logits)


@EVERY_FAMILY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_conversions_save_and_load_in_their_dtype(family, dtype, tmp_path):
    model = network(family).to(dtype)
    convert(model, "selective", layers=[0], attention_options={"frequency_dim": 4})
    convert(model, "oscillator")
    first, second = model.config.syncattn
    assert (first["mechanism"], first["layers"]) == ("selective", [0])
    assert (second["mechanism"], second["layers"]) == ("oscillator", [1])
    model.save_pretrained(tmp_path)
    again = load_converted(tmp_path)
    assert again.config.syncattn == [first, second]
    own, loaded = model.state_dict(), again.state_dict()
    assert own.keys() == loaded.keys()
    for name, x in own.items():
        assert loaded[name].dtype == x.dtype, name
        assert torch.equal(loaded[name], x), name
    assert again.dtype == dtype
    assert torch.equal(again(ids()).logits, model(ids()).logits)
    # What is loaded can be saved again.
    again.save_pretrained(tmp_path / "again")
    assert load_converted(tmp_path / "again").dtype == dtype


def test_dropout_and_precision_follow_the_original():
    model = network("gpt2", resid_pdrop=0.5).bfloat16()
    convert(model, "selective")
    layer = model.transformer.h[0].attn
    assert layer.dropout.p == 0.5
    assert next(layer.parameters()).dtype == torch.bfloat16
    assert model(ids()).logits.dtype == torch.bfloat16


def test_a_window_reaches_the_layer_and_refuses_a_cache():
    layer = converted("gpt2", "selective").transformer.h[0].attn
    x = torch.randn(1, 6, 16)
    place = torch.arange(6)
    near = (place[:, None] - place).abs() < 3
    window = (near & near.tril())[None, None]
    out, _ = layer(x, attention_mask=window)
    changed = x.clone()
    changed[:, 0] += 1
    moved = (layer(changed, attention_mask=window)[0] - out).abs().amax(-1)[0]
    assert (moved[3:] == 0).all()
    assert moved[0] > 1e-3
    out, weights = layer(x, attention_mask=window, output_attentions=True)
    assert not weights[:, :, ~window[0, 0]].any()
    with pytest.raises(ValueError, match="must be causal with padding to decode from a cache"):
        layer(x, attention_mask=window, past_key_values=object())


@pytest.mark.parametrize(
    ("mechanism", "layers", "message"),
    [
        ("kuramoto", None, "`mechanism` must live on a Euclidean stream .* 'kuramoto'"),
        ("linear", None, "`mechanism` must be one of"),
        ("selective", [7], r"`layers` must be numbers of layers, 0 to 1, one at least; got \[7\]"),
    ],
)
def test_bad_input_is_refused(mechanism, layers, message):
    with pytest.raises(ValueError, match=message):
        convert(network("gpt2"), mechanism, layers=layers)


def test_networks_without_known_attention_are_refused(tmp_path):
    model = network("gpt2")
    for block in model.transformer.h:
        block.attn = nn.Identity()
    with pytest.raises(ValueError, match="`model` must hold BERT-like, GPT-2-like or Llama-like"):
        convert(model, "selective")
    network("gpt2").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="`folder` must hold a network of Transformers that"):
        load_converted(tmp_path)


@pytest.mark.parametrize("architecture", ["pipeline", "AutoModel", "NoSuchNetwork"])
def test_a_folder_that_names_no_network_is_refused(tmp_path, architecture):
    model = network("gpt2")
    convert(model, "selective")
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    written["architectures"] = [architecture]
    (tmp_path / "config.json").write_text(json.dumps(written), encoding="utf-8")
    with pytest.raises(ValueError, match="`folder` must hold a network of Transformers that"):
        load_converted(tmp_path)


TINY = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 32, "pad_token_id": 0}  # fmt: skip
LLAMA = {"num_key_value_heads": 2}
SCALED = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("Qwen3", "Qwen3Attention may do more"),
        ("Olmo2", "Olmo2Attention may do more"),
        ("Llama", "angles are scaled"),
    ],
)
def test_softmax_is_refused_where_it_is_another_function(family, reason):
    sizes = TINY | LLAMA | ({"rope_parameters": SCALED} if family == "Llama" else {})
    config = getattr(transformers, f"{family}Config")(**sizes)
    original = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    before = {name: type(module) for name, module in original.named_modules()}
    with pytest.raises(ValueError, match=reason):
        convert(original, "softmax")
    assert {name: type(module) for name, module in original.named_modules()} == before
    assert len(convert(original, "selective").layers) == 2


@pytest.mark.parametrize("flag", ["scale_attn_weights", "scale_attn_by_inverse_layer_idx"])
def test_softmax_is_refused_where_scores_are_scaled_otherwise(flag):
    config = transformers.GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    setattr(config, flag, flag != "scale_attn_weights")
    with pytest.raises(ValueError, match=flag):
        convert(transformers.GPT2LMHeadModel(config), "softmax")


@pytest.mark.parametrize("family", ["Albert", "ViT"])
def test_what_only_looks_like_a_known_attention_is_left_alone(family):
    sizes = TINY | ({"image_size": 8, "patch_size": 4} if family == "ViT" else {})
    config = getattr(transformers, f"{family}Config")(**sizes)
    with pytest.raises(ValueError, match="`model` must hold BERT-like, GPT-2-like or Llama-like"):
        convert(getattr(transformers, f"{family}Model")(config), "selective")


def test_cross_attention_stays():
    encoder, decoder = (transformers.BertConfig(**TINY) for _ in range(2))
    decoder.is_decoder = decoder.add_cross_attention = True
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    report = convert(transformers.EncoderDecoderModel(config).eval(), "softmax")
    assert len(report.layers) == 4 and all("cross" not in x.name for x in report.layers)


def test_a_cache_of_fixed_size_is_refused_beside_other_layers():
    model = network("llama")
    convert(model, "softmax", layers=[1])
    cache = transformers.StaticCache(config=model.config, max_cache_len=16)
    with pytest.raises(ValueError, match="`past_key_values` must be a cache that grows"):
        model(ids(), past_key_values=cache, use_cache=True)


def test_the_settings_of_generation_come_back(tmp_path):
    model = network("llama")
    convert(model, "selective")
    model.generation_config.max_new_tokens = 3
    model.save_pretrained(tmp_path)
    assert load_converted(tmp_path).generation_config.max_new_tokens == 3


def test_names_that_the_network_does_not_give_are_told_with_the_remedy(tmp_path):
    model = network("llama")
    convert(model, "selective")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({f"other.{name}": x for name, x in weights.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="save_original_format=False"):
        load_converted(tmp_path)


@pytest.mark.parametrize(("layers", "error"), [([True], TypeError), ([], ValueError)])
def test_layers_must_be_numbers(layers, error):
    with pytest.raises(error, match="`layers`"):
        convert(network("gpt2"), "selective", layers=layers)
