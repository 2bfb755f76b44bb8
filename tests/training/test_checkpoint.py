"""A checkpoint gives back every number, and a torn one is noticed."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import GPT2LMHeadModel
from transformers.utils import logging

from syncattn.training import CurvePoint, last_checkpoint
from syncattn.training import checkpoint as checkpoint_module
from syncattn.training.checkpoint import (
    TrainingState,
    has_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from syncattn.training.sharding import copied_state

from . import tiny

RUN = {"learning_rate": 0.1, "corpus": "abc", "betas": (0.9, 0.95)}


def stepped(seed=0, model=None):
    """A model and an optimizer that has a state."""
    model = model or tiny.gpt2()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    torch.manual_seed(seed)
    for _ in range(2):
        model(input_ids=torch.randint(256, (2, 8))).logits.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def state_at(step):
    point = CurvePoint(1, 2, 0.1 + 0.2, 1 / 3, 1e-3, 0.7, 0.5)
    return TrainingState(step, [point], 1 / 7, 3, 2.5, 1000)


def save(directory, step, seed=0):
    model, optimizer = stepped(seed)
    return save_checkpoint(directory, model, optimizer, state_at(step), run=RUN)


def same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("make", [tiny.gpt2, tiny.llama])
def test_everything_comes_back_exactly(tmp_path, make, capsys):
    model, optimizer = stepped(model=make())
    path = save_checkpoint(tmp_path, model, optimizer, state_at(7), run=RUN)
    assert capsys.readouterr() == ("", "") and logging.is_progress_bar_enabled()
    other, other_optimizer = stepped(seed=1, model=make())
    state = load_checkpoint(path, other, other_optimizer, run=RUN)
    assert state == state_at(7)
    same(model.state_dict(), other.state_dict())
    before, after = optimizer.state_dict(), other_optimizer.state_dict()
    assert before["param_groups"] == after["param_groups"]
    assert before["state"].keys() == after["state"].keys()
    for index in before["state"]:
        same(before["state"][index], after["state"][index])


def test_an_optimizer_without_a_state_comes_back(tmp_path):
    model = tiny.gpt2()
    optimizer = torch.optim.AdamW(model.parameters())
    path = save_checkpoint(tmp_path, model, optimizer, TrainingState(), run=RUN)
    other, other_optimizer = stepped()
    assert load_checkpoint(path, other, other_optimizer, run=RUN) == TrainingState()
    assert other_optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("make", [tiny.gpt2, tiny.llama])
def test_the_best_weights_come_back_beside_the_last(tmp_path, make):
    model, optimizer = stepped(model=make())
    best = copied_state(model)
    stepped(seed=1, model=model)
    state = replace(state_at(7), best=best)
    path = save_checkpoint(tmp_path, model, optimizer, state, run=RUN)
    other, other_optimizer = stepped(seed=2, model=make())
    loaded = load_checkpoint(path, other, other_optimizer, run=RUN)
    same(other.state_dict(), model.state_dict())
    same(loaded.best, best)
    same(type(model).from_pretrained(path / "best").state_dict(), best)
    assert not torch.equal(best["lm_head.weight"], model.state_dict()["lm_head.weight"])
    without = save_checkpoint(tmp_path / "b", model, optimizer, state_at(7), run=RUN)
    assert load_checkpoint(without, other, other_optimizer, run=RUN).best is None


def test_torn_best_weights_are_noticed(tmp_path):
    model, optimizer = stepped()
    state = replace(state_at(7), best=copied_state(model))
    path = save_checkpoint(tmp_path, model, optimizer, state, run=RUN)
    (path / "best" / "model.safetensors").write_bytes(b"torn")
    with pytest.warns(UserWarning, match="torn"):
        assert last_checkpoint(tmp_path) is None


def test_the_best_point_is_the_first_of_the_lowest():
    points = [replace(state_at(1).curve[0], step=n, valid_bits_per_byte=v)
              for n, v in enumerate([3.0, 2.0, 2.5, 2.0])]  # fmt: skip
    assert TrainingState(curve=points).best_point is points[1]


def test_the_model_can_be_loaded_by_transformers(tmp_path):
    path = save(tmp_path, 1)
    model = GPT2LMHeadModel.from_pretrained(path / "model")
    same(model.state_dict(), stepped()[0].state_dict())


def test_the_newest_is_found_and_the_last_two_are_kept(tmp_path):
    assert last_checkpoint(tmp_path) is None and not has_checkpoints(tmp_path)
    for step in (1, 9, 10, 11):
        assert last_checkpoint(tmp_path) != save(tmp_path, step)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-00000011"
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000010", "step-00000011"]


def test_torn_ones_do_not_push_out_the_only_whole_one(tmp_path):
    for step in (100, 200, 300):
        model, optimizer = stepped()
        save_checkpoint(tmp_path, model, optimizer, state_at(step), run=RUN, keep=3)
    for step in (200, 300):
        cut_state(tmp_path / "checkpoints" / f"step-{step:08d}")
    stray = tmp_path / "checkpoints" / "step-00000400"
    stray.write_text("no folder")
    newer = save(tmp_path, 150)
    # What is torn gives way: the new one takes its place.
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir())
    assert names == ["step-00000100", "step-00000150"] and stray.exists()
    stray.unlink()
    assert last_checkpoint(tmp_path) == newer


def test_the_one_just_written_stays_whatever_its_step(tmp_path):
    model, optimizer = stepped()
    save(tmp_path, 300)
    for keep in (2, 1):
        new = save_checkpoint(tmp_path, model, optimizer, state_at(keep), run=RUN, keep=keep)
        kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
        assert kept == ({new.name, "step-00000300"} if keep == 2 else {new.name})


def test_a_checkpoint_that_cannot_be_read_gives_way_to_the_one_before(tmp_path, monkeypatch):
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    real = checkpoint_module.sha256_of

    def fail(path):
        if newer in path.parents:
            raise OSError("input/output error")
        return real(path)

    monkeypatch.setattr(checkpoint_module, "sha256_of", fail)
    with pytest.warns(UserWarning, match="torn"):
        assert last_checkpoint(tmp_path) == older


def test_a_checkpoint_can_be_written_twice(tmp_path):
    save(tmp_path, 5)
    path = save(tmp_path, 5, seed=3)
    assert last_checkpoint(tmp_path) == path
    model, optimizer = stepped()
    load_checkpoint(path, model, optimizer, run=RUN)
    same(model.state_dict(), stepped(seed=3)[0].state_dict())


def tear_weights(path):
    with (path / "model" / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x7f")


def cut_state(path):
    text = (path / "state.json").read_bytes()
    (path / "state.json").write_bytes(text[:-10])


def cut_manifest(path):
    text = (path / "manifest.json").read_bytes()
    (path / "manifest.json").write_bytes(text[:-10])


TEARS = [
    tear_weights,
    cut_state,
    cut_manifest,
    lambda path: (path / "manifest.json").unlink(),
    lambda path: (path / "optimizer.safetensors").unlink(),
    lambda path: (path / "model" / "stray").touch(),
]


@pytest.mark.parametrize("tear", TEARS)
def test_a_torn_checkpoint_gives_way_to_the_one_before(tmp_path, tear):
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    tear(newer)
    with pytest.warns(UserWarning, match="'step-00000002' .* is torn"):
        assert last_checkpoint(tmp_path) == older
    tear(older)
    with pytest.warns(UserWarning, match="torn"):
        assert last_checkpoint(tmp_path) is None
    assert has_checkpoints(tmp_path)


@pytest.mark.parametrize("place", ["save_file", "_checksums", "Path.rename"])
def test_a_failure_while_saving_leaves_the_last_checkpoint(tmp_path, monkeypatch, place):
    older = save(tmp_path, 1)

    def fail(*_, **__):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(f"syncattn.training.checkpoint.{place}", fail)
        with pytest.raises(OSError, match="disk is full"):
            save(tmp_path, 2)
    assert last_checkpoint(tmp_path) == older
    assert last_checkpoint(tmp_path) != save(tmp_path, 2)
    assert not list((tmp_path / "checkpoints").glob(".partial*"))


def test_another_run_is_refused_by_name(tmp_path):
    path = save(tmp_path, 1)
    model, optimizer = stepped(seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    changes = [{"learning_rate": 0.2}, {"corpus": "xyz"}, {"extra": 1}]
    for change in changes:
        (name,) = change
        with pytest.raises(ValueError, match=f"`{name}` must be the same .* another directory"):
            load_checkpoint(path, model, optimizer, run=RUN | change)
    same(before, model.state_dict())


def test_numbers_that_are_not_finite_are_never_written(tmp_path):
    model, optimizer = stepped()
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(
            tmp_path, model, optimizer, replace(state_at(1), nats=float("nan")), run=RUN
        )
    assert last_checkpoint(tmp_path) is None


def test_the_state_is_plain_json(tmp_path):
    content = json.loads((save(tmp_path, 4) / "state.json").read_text())
    assert content["state"]["step"] == 4 and content["run"]["corpus"] == "abc"


def test_a_state_counts_steps_and_starts_its_mean_anew_at_a_point():
    state = TrainingState()
    state.advance(1.0, 0.5)
    state.advance(3.0, 0.5)
    assert (state.step, state.nats / state.nats_steps, state.seconds) == (2, 2.0, 1.0)
    state.add(state_at(1).curve[0])
    state.advance(5.0, 0.5)
    assert (state.step, state.nats / state.nats_steps, len(state.curve)) == (3, 5.0, 1)
