import dataclasses
import math

import pytest

from syncattn._validation import OverflowedError
from syncattn.benchmarks import cells
from syncattn.benchmarks.arms import ARMS, Arm
from syncattn.benchmarks.cells import Trial, load_plugins, matched_gap, run_cell
from syncattn.benchmarks.fitting import Fit
from syncattn.benchmarks.tasks import task_named
from syncattn.nn import SoftmaxAttention
from tests.benchmarks.benchmark_small import cell, problem, recipe


def test_a_run_becomes_a_record_with_everything_the_protocol_asks_for():
    (record,) = run_cell(cell(arm="selective", trials=((3e-3, 0.1),), command="again"))
    assert record.status == "ok"
    assert (record.metric, record.recipe["scale"]) == ("accuracy", "smoke")
    assert 0 <= record.test_score <= 1 and 0 <= record.valid_score <= 1
    assert record.parameters and record.flops_per_token and record.tokens and record.wall_seconds
    assert record.data["sha256"] == problem("copy").identity.sha256
    assert record.trials == [{"learning_rate": 3e-3, "valid_score": 0.1}]
    assert record.variant["positions"] == "own"
    assert len(record.curve) == 3 and record.steps == 3
    assert record.scores["ceiling"] == 1.0 and record.scores["by_group"]
    assert len(record.diagnostics["locked_fraction"]) == 1
    assert 0 <= record.diagnostics["order_parameter"][0] <= 1
    assert record.diagnostics["entropy"][0] >= 0
    assert record.command == "again" and record.versions and record.device


def test_bits_stand_in_their_own_fields_too():
    (record,) = run_cell(cell(task="enwik8-char"))
    assert record.metric == "bits per byte"
    assert record.test_bits_per_byte == record.test_score
    (record,) = run_cell(cell(task="agreement-v1"))
    assert record.test_bits_per_byte is None and record.test_perplexity is None
    assert record.scores["failed_to_learn"] in {True, False}


def test_a_trial_reads_the_validation_split_alone(monkeypatch):
    task, asked = problem("copy"), []
    batches = type(task).batches
    monkeypatch.setattr(
        type(task), "batches",
        lambda self, split, size: asked.append(split) or batches(self, split, size),
    )  # fmt: skip
    trial = run_cell(cell(is_trial=True))
    assert isinstance(trial, Trial)
    assert set(asked) == {"valid"}
    run_cell(cell())
    assert asked.count("test") == 1


def test_the_trained_model_is_tested_without_coupling_too():
    whole, off = run_cell(cell(arm="kuramoto", also_without_coupling=True))
    assert (whole.control, off.control) == ("none", "coupling-off-at-test")
    assert whole.valid_score == off.valid_score
    assert whole.parameters == off.parameters


def test_the_same_cell_twice_is_the_same():
    scores = [run_cell(cell(arm="frustrated"))[0].curve[-1]["train_nats"] for _ in range(2)]
    assert scores[0] == scores[1]


def test_a_training_that_diverges_is_a_record_or_a_trial_without_a_score(monkeypatch):
    endless = cell(learning_rate=1e30, recipe=dataclasses.replace(recipe("copy"), steps=6))
    (record,) = run_cell(endless)
    assert record.status == "failed" and "must stay finite" in record.failure
    trial = run_cell(
        dataclasses.replace(
            endless, is_trial=True, recipe=dataclasses.replace(endless.recipe, tuning_steps=6)
        )
    )
    assert trial.valid_score is None


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_validation_score_that_is_not_finite_is_none(monkeypatch, score):
    monkeypatch.setattr(cells, "fit", lambda *_, **__: Fit(valid_score=score))
    assert run_cell(cell(is_trial=True)).valid_score is None


@pytest.mark.parametrize("overflow", [False, True])
def test_a_test_that_diverges_without_coupling_leaves_the_run_itself(monkeypatch, overflow):
    task, tested = problem("copy"), []
    score = type(task).score

    def diverge(self, network, split, *, batch_size):
        found = score(self, network, split, batch_size=batch_size)
        tested.append(split)
        if tested.count("test") < 2:
            return found
        if overflow:
            raise OverflowedError("`x` must be small enough; got values that overflow. Scale.")
        monkeypatch.setattr(type(found), "value", lambda *_: math.nan)
        return found

    monkeypatch.setattr(type(task), "score", diverge)
    whole, off = run_cell(cell(arm="kuramoto", also_without_coupling=True))
    assert (whole.status, off.status) == ("ok", "failed")
    assert (off.control, off.steps) == ("coupling-off-at-test", 3)
    assert "must stay finite" in off.failure


def test_plugins_of_one_name_in_two_folders_are_both_loaded(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr("syncattn.benchmarks.arms.LOADED", loaded, raising=False)
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "arms.py"
        path.write_text(f"from syncattn.benchmarks import arms\narms.LOADED.append({folder!r})\n")
        paths.append(str(path))
    for _ in range(2):
        load_plugins(tuple(paths))
    load_plugins((str(tmp_path / "a" / ".." / "b" / "arms.py"),))
    assert loaded == ["a", "b"]


def test_changed_data_is_refused():
    with pytest.raises(RuntimeError, match="Give every worker the same data"):
        run_cell(cell(data_sha256="0" * 64))


def test_matched_is_softmax_as_large_as_the_arm(monkeypatch):
    big = Arm("softmax", "", 1e-3, attention=lambda d, h: SoftmaxAttention(d, h, bias=True))
    monkeypatch.setitem(ARMS, "big", big)
    own = run_cell(cell(arm="big"))[0]
    match = run_cell(cell(arm="big", control="matched"))[0]
    assert match.parameters == pytest.approx(own.parameters, rel=0.01)
    assert match.mechanism == "softmax" and own.mechanism == "third party"
    assert matched_gap(task_named("copy"), problem("copy"), recipe("copy"), big) < 0.01


def test_plugins_are_files_or_modules(tmp_path, monkeypatch):
    path = tmp_path / "mine.py"
    path.write_text(
        "from syncattn.benchmarks.arms import ARMS, register_arm\n"
        "import dataclasses\n"
        "register_arm('mine', dataclasses.replace(ARMS['softmax'], legend='mine'))\n"
    )
    monkeypatch.setattr("syncattn.benchmarks.arms.ARMS", ARMS)
    load_plugins((str(path),))
    load_plugins((str(path), "json"))
    assert ARMS.pop("mine").legend == "mine"
    with pytest.raises(ValueError, match="`plugins` must name modules or files"):
        load_plugins((str(tmp_path / "gone.py"),))


@pytest.mark.parametrize("line", ["import sys; sys.exit(3)", "raise SystemExit"])
def test_a_plugin_that_ends_the_program_is_named(tmp_path, line):
    path = tmp_path / "ending.py"
    path.write_text(line)
    with pytest.raises(ValueError, match=r"`plugins` must .*ending.py cannot: it ends the program"):
        load_plugins((str(path),))


def test_an_unknown_arm_is_told_how_to_be_known():
    with pytest.raises(ValueError, match="--plugins"):
        run_cell(cell(arm="mine"))


def test_names_of_cells():
    assert str(cell(control="random")) == "copy: softmax, random, seed 0"
    assert str(cell(is_trial=True)) == "copy: softmax, rate 0.003"
    assert cell().key != cell(seed=1).key
