"""The floor of the networks: configurations, what networks are given, and what changes them."""

import functools

import torch
from hypothesis import given

from syncattn import models, training
from syncattn.models import text
from tests.fuzz.data_files import missing_folder
from tests.fuzz.law import budget, obeys
from tests.fuzz.strategies import Target, cases

SIZES = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 6, "max_position_embeddings": 6}  # fmt: skip
OVER_TOKENS = ("SyncAttnForCausalLM", "SyncAttnModel", "SyncAttnForSequenceClassification")


@functools.cache
def built(kind, mechanism):
    torch.manual_seed(0)
    frames = {"feature_size": 3} if "Audio" in kind else {}
    config = models.SyncAttnConfig(mechanism, **SIZES, **frames)
    return getattr(models, kind)(config).eval()


def draw_config(dice):
    return dice.some(**{name: lambda size=size: size for name, size in SIZES.items()}) | dice.some(
        mechanism=lambda: dice.choice(models.MECHANISMS), phase_features=lambda: "cosine-sine",
        feedforward=lambda: dice.choice(("swiglu", "none", "mean-field")),
        attention_options=lambda: {"bias": True}, initializer_range=lambda: 0.1,
        phase_embedding_std=lambda: 0.3, rms_norm_eps=lambda: 1e-5, is_causal=lambda: False,
        pooling=lambda: "last", feature_size=lambda: 3,
    )  # fmt: skip


def padding(dice, batch, length):
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[:1, : dice.randint(0, length)] = 0
    return mask


def draw_forward(dice):
    kind, batch, length = dice.choice(OVER_TOKENS), 2, dice.size()
    drawn = {
        "model": built(kind, dice.choice(models.MECHANISMS)),
        "input_ids": dice.integers(9, batch, length),
        **dice.some(
            attention_mask=lambda: padding(dice, batch, length), output_attentions=lambda: True,
            output_hidden_states=lambda: True,
        ),
    }  # fmt: skip
    if dice.maybe(0.2):
        drawn["inputs_embeds"] = dice.normal(batch, length, 8)
        drawn |= {} if dice.maybe(0.1) else {"input_ids": None}
    if kind == "SyncAttnForCausalLM":
        drawn |= dice.some(
            labels=lambda: dice.integers(9, batch, length), use_cache=lambda: True,
            logits_to_keep=lambda: 1,
        )  # fmt: skip
    return drawn


def draw_frames(dice):
    mechanism, length = dice.choice(models.MECHANISMS), dice.size()
    return {
        "model": built("SyncAttnForAudioClassification", mechanism),
        "input_features": dice.normal(2, length, 3, dtype=dice.dtype),
        **dice.some(attention_mask=lambda: padding(dice, 2, length)),
    }


def forward(*, model, **inputs):
    return dict(model(**inputs))


def nothing_to_read(arguments):
    """The mean over no tokens, and the loss over no labels, are NaN."""
    given = (arguments.get(name) for name in ("input_ids", "input_features", "inputs_embeds"))
    return any(isinstance(x, torch.Tensor) and not x.numel() for x in given) or (
        arguments.get("labels") is not None
    )


def net():
    return built("SyncAttnModel", "softmax")


TARGETS = [
    Target("SyncAttnConfig", lambda **a: models.SyncAttnConfig(**a).readout_size, draw_config),
    Target("forward", forward, draw_forward, kept=("model",), may_be_nan=nothing_to_read),
    Target("SyncAttnForAudioClassification", forward, draw_frames, kept=("model",),
           may_be_nan=nothing_to_read),
    Target("SyncAttnCache", models.SyncAttnCache, lambda dice: {"num_layers": 2}),
    # What was never a network, and networks whose attention is of no known family.
    Target("convert", models.convert, lambda dice: {"model": net(), "mechanism": "selective"}
           | dice.some(layers=lambda: [0], attention_options=lambda: {"bias": True})),
    Target("distill", models.distill, lambda dice: {
        "model": net(), "original": net(), "batches": [], **dice.some(learning_rate=lambda: 0.1)}),
    Target("encode", text.encode,
           lambda dice: {"text": dice.choice(("", "a", "\u00e4\U0001f600"))}),
    Target("byte_tokenizer", lambda **a: len(text.byte_tokenizer(**a)),
           lambda dice: dice.some(max_length=lambda: 9)),
    Target("generate_text", text.generate_text, lambda dice: {
        "model": None, "prompt": "", **dice.some(
            max_new_tokens=lambda: 2, temperature=lambda: 0.0, top_k=lambda: 3)},
        kept=("model", "prompt")),
    Target("parameter_groups", training.parameter_groups,
           lambda dice: {"model": net(), "weight_decay": 0.1}),
    Target("last_checkpoint", training.last_checkpoint,
           lambda dice: {"directory": missing_folder()}),
]  # fmt: skip

ELSEWHERE = {
    "MECHANISMS": "names",
    "ConversionReport": "a value",
    "load_converted": "asks Transformers, which may ask its hub for a name that is no folder",
    "register_attention": "takes nothing",
    "TrainingConfig": "in test_data",
    "CurvePoint": "a value",
    "DivergedError": "an error",
    "TrainingResult": "a value",
    "evaluate": "takes a network and a corpus; what it refuses is in training/test_loop",
    "train": "takes a network and a corpus; what it refuses is in training/test_loop",
}


@budget(0.06)
@given(case=cases(TARGETS))
def test_everything(case):
    with torch.no_grad():
        obeys(*case)


def test_no_public_name_is_left_out():
    named = {target.name for target in TARGETS} | set(OVER_TOKENS) | ELSEWHERE.keys()
    assert named >= set(models.__all__) | set(training.__all__)
