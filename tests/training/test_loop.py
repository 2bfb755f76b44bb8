"""Training learns, says what it measured, and goes on exactly where it was killed."""

import atexit
import inspect
import json
import math
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy

from syncattn._validation import OverflowedError
from syncattn.data import evaluation_batches, training_batch
from syncattn.data.download import sha256_of
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from syncattn.training import DivergedError, evaluate, last_checkpoint, train
from syncattn.training import loop as loop_module
from syncattn.training.checkpoint import TrainingState
from syncattn.training.setup import leave_group, prepare

from . import tiny

CONFIG = tiny.CONFIG
# At this rate the first points are the best by far.
WORSENING = replace(CONFIG, steps=40, evaluation_interval=2, patience=2, learning_rate=1.0)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def corpus(tmp_path):
    return tiny.corpus(tmp_path)


def run(tmp_path, corpus, config=CONFIG, model=None, name="run", **options):
    model = tiny.gpt2() if model is None else model
    return train(model, corpus, config, directory=tmp_path / name, progress=False, **options)


@pytest.fixture
def uninterrupted(tmp_path, corpus):
    return tiny.figures(run(tmp_path, corpus, name="uninterrupted"))


def test_a_model_learns_and_the_result_is_consistent(tmp_path, corpus):
    config = replace(CONFIG, steps=80, learning_rate=2e-2, evaluation_interval=30)
    model = tiny.llama()
    start = evaluate(model, corpus.valid, batch_size=4, context_length=16)
    result = run(tmp_path, corpus, config, model, label="llama")
    assert start == pytest.approx(8, abs=0.2)
    assert result.valid_bits_per_byte < 4.5 and result.test_bits_per_byte < 4.5
    assert [point.step for point in result.curve] == [30, 60, 80]
    assert [point.tokens for point in result.curve] == [30 * 64, 60 * 64, 80 * 64]
    assert result.curve[0].train_bits_per_byte > result.curve[-1].train_bits_per_byte
    assert result.valid_bits_per_byte == result.curve[-1].valid_bits_per_byte
    assert result.weights_step == 80
    assert result.curve[-1].learning_rate == pytest.approx(2e-3)
    assert result.num_tokens == 80 * 64
    assert result.tokens_per_second == pytest.approx(result.num_tokens / result.seconds)
    assert result.num_parameters == sum(p.numel() for p in model.parameters())
    assert (result.label, result.seed, result.device) == ("llama", 5, str(model.device))
    assert result.peak_memory_bytes >= 0 and not model.training
    again = evaluate(model, corpus.test, batch_size=4, context_length=16, max_tokens=100)
    assert again == result.test_bits_per_byte
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False))["seed"] == 5


def test_the_files_beside_a_run_hold_its_curve_and_settings(tmp_path, corpus):
    result = run(tmp_path, corpus)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [asdict(point) for point in result.curve]
    settings = json.loads((tmp_path / "run" / "training.json").read_text())
    assert settings["config"] == CONFIG.as_dict()
    assert settings["corpus"] == corpus.identity.as_dict()
    assert result.checkpoint == last_checkpoint(tmp_path / "run")
    assert result.checkpoint is not None and result.checkpoint.name == "step-00000012"


def test_the_first_steps_are_those_of_a_plain_loop(tmp_path, corpus):
    """The same arithmetic, written again without Accelerate."""
    config = replace(CONFIG, steps=3, evaluation_interval=1, warmup_steps=0, checkpoint_interval=0)
    model = tiny.llama()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(config.beta1, config.beta2))
    expected = []
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        windows = training_batch(
            corpus.train, batch_size=4, context_length=16, seed=config.seed, step=step
        )
        logits = model(input_ids=windows[:, :-1]).logits
        loss = cross_entropy(logits.reshape(-1, 256), windows[:, 1:].reshape(-1))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        expected.append((loss.item() / math.log(2), norm.item()))
    result = run(tmp_path, corpus, config, tiny.llama())
    measured = [(p.train_bits_per_byte, p.gradient_norm) for p in result.curve]
    assert measured == [pytest.approx(pair, rel=1e-5) for pair in expected]


def test_training_repeats_exactly_whatever_the_generators_did_before(
    tmp_path, corpus, uninterrupted
):
    torch.manual_seed(123)
    model = tiny.gpt2()
    torch.rand(7)
    assert tiny.figures(run(tmp_path, corpus, model=model)) == uninterrupted
    other = run(tmp_path, corpus, replace(CONFIG, seed=6), name="other")
    assert tiny.figures(other) != uninterrupted


def test_evaluating_more_often_changes_no_weight(tmp_path, corpus, uninterrupted):
    often = run(tmp_path, corpus, replace(CONFIG, evaluation_interval=1))
    assert often.test_bits_per_byte == uninterrupted[-1]
    last = [p.train_bits_per_byte for p in often.curve[8:12]]
    assert sum(last) / 4 == pytest.approx(uninterrupted[2][2], rel=1e-12)


@pytest.mark.parametrize(
    ("failing_step", "make"), [(1, tiny.gpt2), (3, tiny.gpt2), (11, tiny.gpt2), (5, tiny.llama)]
)
def test_an_interrupted_run_resumes_to_the_same_losses(
    tmp_path, corpus, monkeypatch, failing_step, make
):
    expected = tiny.figures(run(tmp_path, corpus, model=make(), name="whole"))
    drawn = []

    def fail_once(split, *, step, **options):
        if step == failing_step and step not in drawn:
            drawn.append(step)
            raise KeyboardInterrupt
        return training_batch(split, step=step, **options)

    monkeypatch.setattr(loop_module, "training_batch", fail_once)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, corpus, model=make(), resume=True)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 99')
    result = run(tmp_path, corpus, model=make(), resume=True)
    assert tiny.figures(result) == expected
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4, 8, 12]


def test_a_finished_run_resumes_to_its_result(tmp_path, corpus):
    first = run(tmp_path, corpus)
    second = run(tmp_path, corpus, resume=True)
    assert second == first


def test_a_torn_checkpoint_costs_steps_but_no_exactness(tmp_path, corpus, uninterrupted):
    result = run(tmp_path, corpus)
    assert result.checkpoint is not None
    (result.checkpoint / "model" / "model.safetensors").write_bytes(b"torn")
    with pytest.warns(UserWarning, match="torn"):
        again = run(tmp_path, corpus, resume=True)
    assert tiny.figures(again) == uninterrupted


@pytest.mark.parametrize(
    ("place", "survivor"),
    [
        ("checkpoint", 3),
        pytest.param("step", 6, marks=pytest.mark.slow),
        pytest.param("weights", 3, marks=pytest.mark.slow),
        pytest.param("dropping", 6, marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_by_the_system_resumes_to_the_same_losses(
    tmp_path, corpus, uninterrupted, place, survivor
):
    arguments = ["tests.training.tiny", tmp_path, "gpt2", str(torch.get_num_threads()), place]
    killed = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    newest = last_checkpoint(tmp_path / "run")
    assert newest is not None and newest.name == f"step-{survivor:08d}"
    assert tiny.figures(run(tmp_path, corpus, resume=True)) == uninterrupted


def test_a_batch_in_parts_gives_the_same_losses(tmp_path, corpus):
    whole = run(tmp_path, corpus, model=tiny.llama(), name="whole")
    parts = run(tmp_path, corpus, replace(CONFIG, accumulation_steps=4), tiny.llama())
    for first, second in zip(tiny.figures(whole)[:-1], tiny.figures(parts)[:-1], strict=True):
        assert second == pytest.approx(first, rel=1e-4)


def test_a_run_that_no_longer_improves_ends_and_stays_ended(tmp_path, corpus):
    config = WORSENING
    result = run(tmp_path, corpus, config)
    figures = [point.valid_bits_per_byte for point in result.curve]
    assert result.curve[-1].step < 40
    assert min(figures) == figures[-3] < min(figures[-2:])
    assert all(min(figures[n + 1 : n + 3]) < min(figures[: n + 1]) for n in range(len(figures) - 3))
    assert result.num_tokens == result.curve[-1].step * 64
    assert result.checkpoint is not None
    assert result.checkpoint.name == f"step-{result.curve[-1].step:08d}"
    assert run(tmp_path, corpus, config, resume=True) == result
    further = run(tmp_path, corpus, replace(config, patience=None), resume=True)
    assert further.curve[-1].step == 40 and further.curve[: len(figures)] == result.curve


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def valid(model, corpus):
    return evaluate(model, corpus.valid, batch_size=4, context_length=16, max_tokens=100)


@pytest.mark.parametrize("make", [tiny.gpt2, tiny.llama])
def test_a_run_that_ends_early_ends_with_its_best_weights(tmp_path, corpus, make):
    model = make()
    result = run(tmp_path, corpus, WORSENING, model)
    best = min(result.curve, key=lambda point: point.valid_bits_per_byte)
    assert best.step == result.weights_step == result.curve[-3].step
    assert result.valid_bits_per_byte == best.valid_bits_per_byte == valid(model, corpus)
    again = evaluate(model, corpus.test, batch_size=4, context_length=16, max_tokens=100)
    assert result.test_bits_per_byte == again
    assert result.as_dict()["weights_step"] == best.step
    assert result.checkpoint is not None
    saved = type(model).from_pretrained(result.checkpoint / "best").eval()
    assert same(saved.state_dict(), model.state_dict())
    newest = type(model).from_pretrained(result.checkpoint / "model").eval()
    assert valid(newest, corpus) == result.curve[-1].valid_bits_per_byte


@pytest.mark.parametrize("interval", [0, 1, 3, 100])
def test_an_interrupted_run_ends_with_the_same_best_weights(
    tmp_path, corpus, monkeypatch, interval
):
    config = replace(WORSENING, checkpoint_interval=interval)
    model = tiny.gpt2()
    expected = run(tmp_path, corpus, config, model, name="whole")
    # Once after the best point and before the end; the best is in a checkpoint, or found again.
    failing = [expected.weights_step + 1]

    def fail_once(split, *, step, **options):
        if failing and step == failing[0]:
            failing.clear()
            raise KeyboardInterrupt
        return training_batch(split, step=step, **options)

    monkeypatch.setattr(loop_module, "training_batch", fail_once)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, corpus, config, resume=True)
    again = tiny.gpt2()
    result = run(tmp_path, corpus, config, again, resume=True)
    assert tiny.figures(result) == tiny.figures(expected)
    assert result.weights_step == expected.weights_step < result.curve[-1].step
    assert same(again.state_dict(), model.state_dict())
    finished = tiny.gpt2()
    run(tmp_path, corpus, config, finished, resume=True)
    assert same(finished.state_dict(), model.state_dict())


def test_which_weights_a_run_ends_with_can_be_chosen(tmp_path, corpus):
    last = replace(WORSENING, final_weights="last")
    model = tiny.gpt2()
    result = run(tmp_path, corpus, last, model)
    assert result.weights_step == result.curve[-1].step
    assert result.valid_bits_per_byte == valid(model, corpus)
    assert result.checkpoint is not None and not (result.checkpoint / "best").exists()
    best = replace(WORSENING, steps=8, patience=None, final_weights="best")
    model = tiny.gpt2()
    result = run(tmp_path, corpus, best, model, name="best")
    assert result.curve[-1].step == 8
    assert valid(model, corpus) == min(point.valid_bits_per_byte for point in result.curve)


def test_best_weights_that_were_not_kept_are_not_promised(tmp_path, corpus):
    run(tmp_path, corpus)
    patient = replace(CONFIG, patience=2)
    with pytest.raises(ValueError, match=r"`final_weights` must be 'last' .* step 12 are gone"):
        run(tmp_path, corpus, patient, resume=True)
    result = run(tmp_path, corpus, replace(patient, final_weights="last"), resume=True)
    assert result.weights_step == 12


def test_processes_agree_on_the_figure_that_decides(tmp_path, corpus, monkeypatch):
    def from_the_first(points):
        return [replace(points[0], valid_bits_per_byte=9.0 - 1.0 * (points[0].step == 8))]

    monkeypatch.setattr(loop_module, "broadcast_object_list", from_the_first)
    result = run(tmp_path, corpus, replace(CONFIG, patience=3))
    assert [point.valid_bits_per_byte for point in result.curve] == [9.0, 8.0, 9.0]
    assert result.weights_step == 8


def test_an_earlier_run_is_never_overwritten(tmp_path, corpus):
    run(tmp_path, corpus)
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    with pytest.raises(ValueError, match="`directory` must hold no earlier run"):
        run(tmp_path, corpus)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_a_run_never_resumes_with_other_settings(tmp_path, corpus):
    run(tmp_path, corpus)
    with pytest.raises(ValueError, match=r"`learning_rate` must be the same .* 0\.5, but"):
        run(tmp_path, corpus, replace(CONFIG, learning_rate=0.5), resume=True)
    with pytest.raises(ValueError, match="`model"):
        run(tmp_path, corpus, model=tiny.llama(), resume=True)
    (tmp_path / "corpus.txt").write_text("other text\n" * 500)
    with pytest.raises(ValueError, match="`corpus` must be the same"):
        run(tmp_path, tiny.corpus(tmp_path), resume=True)


def test_without_checkpoints_none_is_written(tmp_path, corpus):
    result = run(tmp_path, corpus, replace(CONFIG, checkpoint_interval=0))
    assert result.checkpoint is None
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "metrics.jsonl",
        "training.json",
    ]
    run(tmp_path, corpus, replace(CONFIG, checkpoint_interval=0))


def test_bfloat16_trains_and_leaves_the_model_as_it_was(tmp_path, corpus, uninterrupted):
    model = tiny.gpt2()
    forward = model.forward
    result = run(tmp_path, corpus, replace(CONFIG, mixed_precision="bf16"), model)
    assert model.forward == forward
    assert all(p.dtype == torch.float32 for p in model.parameters())
    expected = uninterrupted[-1]
    assert result.test_bits_per_byte != expected
    assert result.test_bits_per_byte == pytest.approx(expected, rel=0.02)
    assert tiny.figures(run(tmp_path, corpus, name="after")) == uninterrupted


def test_frozen_parameters_stay(tmp_path, corpus):
    model = tiny.gpt2()
    frozen = model.transformer.wpe.weight.requires_grad_(False)
    before = frozen.clone()
    run(tmp_path, corpus, model=model)
    assert torch.equal(before, frozen)


def test_a_run_goes_on_with_the_same_frozen_parameters_alone(tmp_path, corpus):
    def frozen(part):
        model = tiny.gpt2()
        getattr(model.transformer, part).requires_grad_(False)
        return model

    run(tmp_path, corpus, model=frozen("wpe"))
    with pytest.raises(ValueError, match="`number of frozen parameters` must be the same"):
        run(tmp_path, corpus, model=frozen("ln_f"), resume=True)
    # Checkpoints of earlier versions do not tell.
    for path in (tmp_path / "run" / "checkpoints").glob("*/state.json"):
        state = json.loads(path.read_text())
        del state["run"]["number of frozen parameters"]
        path.write_text(json.dumps(state))
        manifest = path.with_name("manifest.json")
        sums = json.loads(manifest.read_text()) | {"state.json": sha256_of(path)}
        manifest.write_text(json.dumps(sums))
    run(tmp_path, corpus, model=frozen("wpe"), resume=True)
    fewer = frozen("wpe")
    fewer.transformer.h.requires_grad_(False)
    with pytest.raises(ValueError, match=r"must train the same parameters .* has more"):
        run(tmp_path, corpus, model=fewer, resume=True)


def poisoned(monkeypatch, at_step, poison):
    calls = []

    def fail(model, windows, mixed_precision, reduction="mean"):
        loss = real(model, windows, mixed_precision, reduction)
        if model.training:
            calls.append(1)
        return poison(loss) if model.training and len(calls) == at_step + 1 else loss

    real = loop_module._nats
    monkeypatch.setattr(loop_module, "_nats", fail)


@pytest.mark.parametrize(
    ("poison", "what"),
    [
        (lambda loss: loss * math.nan, "training loss"),
        (lambda loss: loss + math.inf, "training loss"),
        (lambda loss: loss + (loss - loss.detach()).abs().sqrt(), "gradient norm"),
    ],
)
def test_divergence_stops_at_the_last_finite_weights(tmp_path, corpus, monkeypatch, poison, what):
    poisoned(monkeypatch, 7, poison)
    model = tiny.gpt2()
    with pytest.raises(DivergedError, match=f"The {what} must stay finite; got .* after 7") as info:
        run(tmp_path, corpus, model=model)
    assert info.value.step == 7 and "learning_rate" in info.value.remedy
    assert isinstance(info.value, RuntimeError)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    newest = last_checkpoint(tmp_path / "run")
    assert newest is not None and newest.name == "step-00000007"
    saved = type(model).from_pretrained(newest / "model").state_dict()
    assert all(torch.equal(saved[name], value) for name, value in model.state_dict().items())


def test_a_learning_rate_far_too_high_diverges_and_keeps_what_was_finite(tmp_path, corpus):
    config = replace(CONFIG, learning_rate=1e30, warmup_steps=0, checkpoint_interval=1)
    with pytest.raises(DivergedError):
        run(tmp_path, corpus, config)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(math.isfinite(json.loads(line)["valid_bits_per_byte"]) for line in lines)


def test_a_training_that_failed_waits_for_no_other_process_at_exit(tmp_path, corpus, monkeypatch):
    calls = []
    monkeypatch.setattr(atexit, "register", lambda call: calls.append(("register", call)))
    monkeypatch.setattr(atexit, "unregister", lambda call: calls.append(("unregister", call)))
    run(tmp_path / "first", corpus)
    assert calls == [("unregister", leave_group), ("register", leave_group)]
    poisoned(monkeypatch, 7, lambda loss: loss * math.nan)
    with pytest.raises(DivergedError):
        run(tmp_path / "second", corpus)
    assert calls[2:] == [("unregister", leave_group)]


def test_evaluation_is_the_mean_over_every_byte(corpus):
    model = tiny.llama()
    model.train()
    measured = evaluate(model, corpus.valid, batch_size=3, context_length=16, max_tokens=50)
    assert model.training
    nats = []
    for windows in evaluation_batches(corpus.valid, batch_size=1, context_length=16, max_tokens=50):
        with torch.no_grad():
            log_p = model(input_ids=windows[:, :-1]).logits.log_softmax(-1)
        nats += (-log_p.gather(-1, windows[:, 1:, None])).flatten().tolist()
    assert len(nats) == 50
    assert measured == pytest.approx(sum(nats) / 50 / math.log(2), rel=1e-5)


def test_an_unknown_precision_is_refused(corpus):
    with pytest.raises(ValueError, match="`mixed_precision` must be one of 'no', 'bf16'; got"):
        inspect.unwrap(evaluate)(
            tiny.gpt2(), corpus.test, batch_size=2, context_length=16, mixed_precision="fp16"
        )


def test_a_uniform_guess_scores_eight_bits(corpus):
    model = tiny.llama()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert evaluate(model, corpus.test, batch_size=4, context_length=16) == pytest.approx(8)


def test_progress_is_a_line_per_point(tmp_path, corpus, capsys):
    train(tiny.gpt2(), corpus, CONFIG, directory=tmp_path / "run", label="gpt2")
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(",")[0] for line in err.splitlines()] == [
        f"gpt2: step {step}/12" for step in (4, 8, 12)
    ]


FAR = replace(
    CONFIG, steps=3, warmup_steps=0, evaluation_interval=1, evaluation_tokens=32,
    checkpoint_interval=0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("mechanism", "rate", "layers"),
    [("kuramoto", 1e20, 1), ("kuramoto", 1e12, 3), ("selective", 1e8, 1), ("selective", 1e36, 1)],
)
def test_divergence_that_validation_finds_is_one(tmp_path, corpus, mechanism, rate, layers):
    torch.manual_seed(0)
    model = SyncAttnForCausalLM(
        SyncAttnConfig(
            mechanism=mechanism, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2
        )
    )
    with pytest.raises(DivergedError, match="must stay finite"):
        run(tmp_path, corpus, replace(FAR, learning_rate=rate), model)
    assert model.training


def refusing(monkeypatch, error, when):
    real = loop_module._nats

    def fail(model, windows, mixed_precision, reduction="mean"):
        if when(model):
            raise error("`x` must be small enough; got values that overflow. Scale them down.")
        return real(model, windows, mixed_precision, reduction)

    monkeypatch.setattr(loop_module, "_nats", fail)


def test_the_mode_stays_when_an_evaluation_fails(corpus, monkeypatch):
    refusing(monkeypatch, OverflowedError, lambda _: True)
    for training in (True, False):
        model = tiny.llama().train(training)
        with pytest.raises(OverflowedError):
            evaluate(model, corpus.valid, batch_size=3, context_length=16, max_tokens=50)
        assert model.training is training


def test_a_test_split_that_overflows_is_a_divergence(tmp_path, corpus, monkeypatch):
    points = []
    refusing(monkeypatch, OverflowedError, lambda model: len(points) == 3 and not model.training)
    real = loop_module.TrainingState.add
    monkeypatch.setattr(
        loop_module.TrainingState, "add", lambda s, p: real(s, p) or points.append(p)
    )
    with pytest.raises(DivergedError, match="The test loss must stay finite; got inf after 12"):
        run(tmp_path, corpus)


def test_a_refusal_that_is_no_divergence_stays_what_it_is(tmp_path, corpus, monkeypatch):
    refusing(monkeypatch, ValueError, lambda model: not model.training)
    with pytest.raises(ValueError, match="`x` must be small enough"):
        run(tmp_path, corpus)


@pytest.mark.parametrize("here", [False, True])
def test_processes_agree_that_one_of_them_diverged(tmp_path, corpus, monkeypatch, here):
    """Before anything waits for a gradient that the other process will never send."""
    refusing(monkeypatch, OverflowedError, lambda model: here and model.training)
    asked, backwards = [], []
    reduce = Accelerator.reduce

    def from_both(self, tensor, reduction="sum", **options):
        asked.append((reduction, tensor.item()))
        return torch.ones(()) if len(asked) == 1 else reduce(self, tensor, reduction, **options)

    monkeypatch.setattr(Accelerator, "reduce", from_both)
    monkeypatch.setattr(Accelerator, "backward", lambda *_: backwards.append(1))
    with pytest.raises(DivergedError, match="output of the network"):
        run(tmp_path, corpus)
    # The vote, and then, in all processes, whether the weights are whole.
    assert asked == [("sum", float(here)), ("sum", 0)] and not backwards
    assert last_checkpoint(tmp_path / "run") is not None


@pytest.mark.parametrize("cause", [OverflowedError("x"), None])
def test_between_shards_nobody_waits_for_who_left_alone(tmp_path, corpus, monkeypatch, cause):
    asked = []
    monkeypatch.setattr(Accelerator, "reduce", lambda _, x, *__: asked.append(1) or x)
    config = replace(CONFIG, checkpoint_interval=0)
    made = replace(prepare(tiny.gpt2(), corpus, config, tmp_path / "run", "x"), is_sharded=True)
    error = DivergedError(1)
    error.__cause__ = cause
    with pytest.raises(DivergedError), loop_module._keeping_last_finite(made, TrainingState()):
        raise error
    assert len(asked) == (0 if cause else 1)
