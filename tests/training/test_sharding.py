"""Two processes, with whole or shared weights, come to the losses of one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed
from torch.distributed.tensor import DTensor

from syncattn.training import evaluate, last_checkpoint, parameter_groups, train
from syncattn.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from syncattn.training.config import TrainingConfig
from syncattn.training.sharding import (
    copied_state,
    local,
    put_back,
    restore,
    shard,
    sharding_wanted,
    whole,
    whole_state,
)

from . import tiny, together

ROOT = Path(__file__).parents[2]


def test_settings_or_the_launcher_ask_for_shared_weights(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    assert not sharding_wanted(TrainingConfig())
    assert sharding_wanted(TrainingConfig(sharding="full"))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert sharding_wanted(TrainingConfig())


def test_what_is_whole_stays_as_it_is():
    model = tiny.gpt2()
    state = whole_state(model)
    assert state.keys() == model.state_dict().keys()
    assert state["lm_head.weight"] is state["transformer.wte.weight"]
    x = torch.ones(2)
    assert whole(x) is x and local(x) is x
    restore(x, torch.zeros(2))
    assert x.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shared", [False, True])
def test_a_copy_is_put_back_whatever_the_model_did_meanwhile(group, shared):
    model = tiny.gpt2().eval()
    if shared:
        shard(model, torch.device("cpu"))
    before = {name: value.clone() for name, value in whole_state(model).items()}
    copy = copied_state(model)
    assert copy["lm_head.weight"] is copy["transformer.wte.weight"]
    stepped(model)
    after = whole_state(model)
    assert not torch.equal(after["lm_head.weight"], before["lm_head.weight"])
    put_back(model, copy)
    for name, value in whole_state(model).items():
        assert torch.equal(value, before[name])


def test_alone_there_is_nothing_to_share(tmp_path):
    model = tiny.llama()
    config = TrainingConfig(**tiny.CONFIG.as_dict() | {"sharding": "full", "steps": 1})
    train(model, tiny.corpus(tmp_path), config, directory=tmp_path / "run", progress=False)
    assert type(model).__name__ == "LlamaForCausalLM"


@pytest.fixture
def group(tmp_path):
    """A process group of this process alone."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


def stepped(model):
    """The model's optimiser after a step."""
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=0.01)
    ids = torch.arange(32).view(2, 16)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("make", [tiny.gpt2, together.selective, together.kuramoto])
def test_shards_keep_their_marks_and_make_whole_checkpoints(tmp_path, group, make):
    plain, shared = make().eval(), make().eval()
    shard(shared, torch.device("cpu"))
    assert all(isinstance(p, DTensor) for p in shared.parameters())
    names = [
        [{name for name, p in model.named_parameters() if any(p is x for x in group["params"])}
         for group in parameter_groups(model, 0.1)]
        for model in (plain, shared)
    ]  # fmt: skip
    assert names[0] == names[1]
    optimizers = [stepped(model) for model in (plain, shared)]
    paths = [
        save_checkpoint(
            tmp_path / name, model, optimizer, TrainingState(1, best=copied_state(model)), run={}
        )
        for name, model, optimizer in zip("ab", (plain, shared), optimizers, strict=True)
    ]
    for name in ("model/model.safetensors", "best/model.safetensors", "optimizer.safetensors"):
        first, second = (load_file(path / name) for path in paths)
        assert first.keys() == second.keys()
        for key, value in first.items():
            torch.testing.assert_close(second[key], value)
    # And back, into whole weights and into shards.
    other, shards = make().eval(), make().eval()
    shard(shards, torch.device("cpu"))
    for model in (other, shards):
        optimizer = stepped(model)
        state = load_checkpoint(paths[1], model, optimizer, run={})
        for found, expected in zip(state.best.values(), copied_state(shared).values(), strict=True):
            assert torch.equal(whole(found), whole(expected))
            assert isinstance(found, DTensor) == (model is shards)
        for found, expected in zip(model.parameters(), shared.parameters(), strict=True):
            assert torch.equal(whole(found.detach()), whole(expected.detach()))
        state, saved = optimizer.state_dict()["state"], optimizers[1].state_dict()["state"]
        for index, moments in saved.items():
            for key, value in moments.items():
                assert torch.equal(whole(state[index][key]), whole(value))


def test_a_writer_alone_writes(tmp_path):
    model = tiny.gpt2()
    path = save_checkpoint(
        tmp_path, model, stepped(model), TrainingState(1), run={}, write=False
    )  # fmt: skip
    assert not path.exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every training of `together`, by two processes under torchrun."""
    folder = tmp_path_factory.mktemp("together")
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    # What fails comes first: the others show that nobody still waits for anybody.
    launch(launcher, folder, together.OVERFLOW, *together.TRAININGS)
    return folder


def launch(launcher, folder, *names, **environment):
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-m", *launcher, "tests.training.together", folder, *names]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)


def assert_same_curve(folder, name, alone):
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    points = [json.loads(line) for line in lines]
    assert [point["step"] for point in points] == [4, 8, 12]
    for found, point in zip(points, alone.curve, strict=True):
        assert found["train_bits_per_byte"] == pytest.approx(point.train_bits_per_byte, rel=1e-4)
        assert found["valid_bits_per_byte"] == pytest.approx(point.valid_bits_per_byte, rel=1e-4)
        assert found["gradient_norm"] == pytest.approx(point.gradient_norm, rel=1e-3)


@pytest.mark.parametrize("name", together.TRAININGS)
def test_two_processes_come_to_the_losses_of_one(tmp_path, folder, name):
    config, make = together.training(name)
    alone = train(make(), tiny.corpus(tmp_path), config, directory=tmp_path / "alone",
                  progress=False)  # fmt: skip
    assert_same_curve(folder, name, alone)
    shards = (folder / name / "shards.txt").read_text()
    assert shards == ("half" if config.sharding == "full" else "whole")
    # The checkpoint of two loads in one, and says the same.
    checkpoint = last_checkpoint(folder / name)
    assert checkpoint is not None and checkpoint.name == "step-00000012"
    model, first = make(), make()
    model = type(model).from_pretrained(checkpoint / "model")
    assert model.state_dict().keys() == first.state_dict().keys()
    figures = [point.valid_bits_per_byte for point in alone.curve]
    assert (checkpoint / "best").exists() == config.keeps_best
    corpus = tiny.corpus(tmp_path)
    found = evaluate(model, corpus.valid, batch_size=4, context_length=16, max_tokens=100)
    assert found == pytest.approx(figures[-1], rel=1e-4)
    if config.keeps_best:
        best = type(model).from_pretrained(checkpoint / "best")
        found = evaluate(best, corpus.valid, batch_size=4, context_length=16, max_tokens=100)
        assert found == pytest.approx(min(figures), rel=1e-4)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_group_is_left_before_the_interpreter_ends(folder, rank):
    assert (folder / f"group-{rank}.txt").read_text() == "left"


@pytest.mark.parametrize("rank", [0, 1])
def test_an_overflow_in_one_process_ends_the_training_of_both(folder, rank):
    told = (folder / f"overflow-{rank}.txt").read_text()
    assert told.startswith("The output of the network must stay finite; got inf after 5 steps.")
    newest = last_checkpoint(folder / together.OVERFLOW)
    assert newest is not None and newest.name == "step-00000005"


@pytest.mark.parametrize("name", ["llama-whole", "selective-shared"])
def test_a_run_of_two_goes_on_in_one(tmp_path, folder, name):
    config, make = together.training(name)
    run = tmp_path / "run"
    shutil.copytree(folder / name, run)
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    corpus = tiny.corpus(folder)
    with pytest.warns(UserWarning, match="The run goes on in 1 processes after 2"):
        result = train(make(), corpus, config, directory=run, progress=False, resume=True)
    assert_same_curve(folder, name, result)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The run goes on:UserWarning")
@pytest.mark.parametrize("name", ["llama-whole", "selective-shared"])
def test_a_run_of_one_goes_on_in_two(tmp_path, name):
    config, make = together.training(name)
    alone = train(make(), tiny.corpus(tmp_path), config, directory=tmp_path / name,
                  progress=False)  # fmt: skip
    shutil.rmtree(tmp_path / name / "checkpoints" / "step-00000012")
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    launch(launcher, tmp_path, name)
    assert_same_curve(tmp_path, name, alone)


@pytest.mark.slow
def test_accelerate_launch_shares_weights_too(tmp_path):
    config, make = together.training("llama-whole")
    alone = train(make(), tiny.corpus(tmp_path), config, directory=tmp_path / "alone",
                  progress=False)  # fmt: skip
    launcher = ["accelerate.commands.launch", "--use_fsdp", "--fsdp_version=2",
                "--num_processes=2", "--num_machines=1", "--main_process_port=0",
                "--mixed_precision=no", "--dynamo_backend=no", "--module"]  # fmt: skip
    launch(launcher, tmp_path, "llama-whole")
    assert_same_curve(tmp_path, "llama-whole", alone)
    assert (tmp_path / "llama-whole" / "shards.txt").read_text() == "half"
