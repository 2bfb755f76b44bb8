"""The floor of the data: corpora, batches, tasks; and the settings of a training."""

import torch
from hypothesis import given

from syncattn import data
from syncattn.training import TrainingConfig
from tests.fuzz.data_files import folder, missing_folder
from tests.fuzz.law import budget, obeys
from tests.fuzz.strategies import JUNK, Target, cases


def text_file(dice):
    content = dice.choice((
        b"", b"short", b"one two three four five six. " * 40, b"\xff\xfe\x00bad", b"\x00" * 50,
        "\u00e4\u00f6\u00fc \U0001f600 ".encode() * 60, b"a" * 500, b"\n\n\n",
    ))  # fmt: skip
    path = folder() / dice.choice(("a.txt", "b", "c.gz", "\u00e9.txt"))
    path.write_bytes(content)
    return dice.choice((path, str(path), missing_folder()))


def tokens(dice):
    return dice.integers(200, dice.choice((0, 1, 5, 30, 60))).to(torch.uint8)


def batches(**arguments):
    return list(data.evaluation_batches(**arguments))


def copying(*, batch_size, seed, **sizes):
    return data.CopyingTask(**sizes).batch(batch_size, seed=seed)


def config(**settings):
    settings = TrainingConfig(**settings)
    return [settings.learning_rate_at(step) for step in (0, 1, 5)]


def draw_config(dice):
    return dice.some(
        steps=lambda: 20, batch_size=lambda: 4, accumulation_steps=lambda: 2,
        context_length=lambda: 8, learning_rate=lambda: 1e-3, min_learning_rate_ratio=lambda: 0.1,
        schedule=lambda: "linear", warmup_steps=lambda: 3, weight_decay=lambda: 0.1,
        beta1=lambda: 0.8, beta2=lambda: 0.9, gradient_clip=lambda: None,
        evaluation_interval=lambda: 3, evaluation_tokens=lambda: 10, patience=lambda: 2,
        test_tokens=lambda: 10, checkpoint_interval=lambda: 0, seed=lambda: 3,
        mixed_precision=lambda: "bf16", sharding=lambda: "full", tracker=lambda: "none",
        final_weights=lambda: "best",
    ) | dice.some(tracker=lambda: dice.choice(JUNK))  # fmt: skip


TARGETS = [
    Target("load_corpus", data.load_corpus, lambda dice: {
        "path": text_file(dice), "context_length": 8, **dice.some(max_bytes=lambda: 300)}),
    Target("load_words", data.load_words, lambda dice: {
        "path": text_file(dice), **dice.some(vocabulary_size=lambda: 20,
                                             punctuation=lambda: True)}),
    Target("training_batch", data.training_batch, lambda dice: {
        "split": tokens(dice), "batch_size": 2, "context_length": 4, "seed": 0, "step": 1}),
    Target("evaluation_batches", batches, lambda dice: {
        "split": tokens(dice), "batch_size": 2, "context_length": 4,
        **dice.some(max_tokens=lambda: 7)}),
    Target("CopyingTask", copying, lambda dice: {
        "batch_size": 2, "seed": 0, "vocab_size": 8, "length": 12, "min_period": 2,
        "max_period": 5, **dice.some(distinct=lambda: False)}),
    Target("AgreementTask", lambda **a: data.AgreementTask(**a),
           lambda dice: dice.some(corrected=lambda: True)),
    Target("TrainingConfig", config, draw_config),
]  # fmt: skip

# Values, and a measure of one of them with tests of its own.
VALUES = {"AgreementSplit", "CopyingBatch", "Corpus", "CorpusIdentity", "WordCorpus",
          "copying_accuracy", "TrainingConfig"}  # fmt: skip


@budget(0.05)
@given(case=cases(TARGETS))
def test_everything(case):
    obeys(*case)


def test_no_public_name_is_left_out():
    assert {target.name for target in TARGETS} | VALUES >= set(data.__all__)
