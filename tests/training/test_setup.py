"""Only matrices without a mark are decayed, and misfits are refused before the first step."""

import inspect
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from syncattn.training import parameter_groups, train
from syncattn.training.setup import prepare
from tests.models.networks import EVERY_MECHANISM, build

from . import tiny


class Phases(nn.Module):
    _no_weight_decay = True

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(2, 2))
        self.inner = nn.Linear(2, 2)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.phases = Phases()
        self.coupling = nn.Parameter(torch.zeros(2, 2))
        self.coupling._no_weight_decay = True
        self.scalar = nn.Parameter(torch.zeros(()))
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
        self.tied = self.linear


def test_marked_parameters_and_vectors_are_not_decayed():
    model = Model()
    decayed, others = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert [p is model.linear.weight for p in decayed["params"]] == [True]
    expected = {
        *map(id, (model.linear.bias, model.coupling, model.scalar)),
        *map(id, model.phases.parameters()),
    }
    assert {id(p) for p in others["params"]} == expected
    assert len(others["params"]) == len(expected)


@EVERY_MECHANISM
def test_no_coupling_gain_anchor_or_phase_of_our_networks_is_decayed(mechanism):
    model = build(mechanism)
    decayed, others = parameter_groups(model, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    for parameter in decayed["params"]:
        name = names[id(parameter)]
        table = "embed_tokens" in name and not model.config.on_torus
        assert table or name.endswith("_proj.weight") or name == "lm_head.weight", name
    assert {"softmax": 0}.get(mechanism, 1) <= sum(
        "attention." in names[id(parameter)] for parameter in others["params"]
    )


def test_empty_groups_are_left_out():
    model = nn.Linear(2, 2, bias=False)
    assert [group["weight_decay"] for group in parameter_groups(model, 0.3)] == [0.3]
    model.weight._no_weight_decay = True
    assert [group["weight_decay"] for group in parameter_groups(model, 0.3)] == [0.0]


def test_a_frozen_model_is_refused():
    model = Model().requires_grad_(False)
    with pytest.raises(ValueError, match="`model` must have a trainable parameter"):
        parameter_groups(model, 0.1)


def refused(tmp_path, model=None, config=tiny.CONFIG, corpus=None):
    prepare(model or tiny.gpt2(), corpus or tiny.corpus(tmp_path), config, tmp_path / "run", "x")


def test_misfits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`max_position_embeddings`; got 17 and 16"):
        refused(tmp_path, config=replace(tiny.CONFIG, context_length=17))
    with pytest.raises(ValueError, match=r"at least 256.* got 255"):
        refused(tmp_path, model=tiny.llama(vocab_size=255))
    corpus = tiny.corpus(tmp_path)
    with pytest.raises(ValueError, match=r"\+ 1 = 17 bytes; got 16 for valid"):
        refused(tmp_path, corpus=replace(corpus, valid=corpus.valid[:16]))
    assert not (tmp_path / "run").exists()


def test_weights_that_cannot_learn_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"more than float16.* got 'transformer.wte.weight'"):
        refused(tmp_path, model=tiny.gpt2().half())
    broken = tiny.gpt2()
    with torch.no_grad():
        broken.transformer.h[0].ln_1.bias[3] = torch.nan
    with pytest.raises(ValueError, match=r"finite weights; .* 'transformer.h.0.ln_1.bias'"):
        refused(tmp_path, model=broken)


@pytest.mark.parametrize("name", ["model", "corpus", "config", "directory"])
def test_what_is_none_is_refused_by_name(name, tmp_path):
    given = {"model": tiny.gpt2(), "corpus": tiny.corpus(tmp_path), "config": tiny.CONFIG,
             "directory": tmp_path}  # fmt: skip
    # Past the checks of types that only tests have.
    bare = inspect.unwrap(prepare)
    with pytest.raises(TypeError, match=f"`{name}` must be .*; got NoneType"):
        bare(**given | {name: None}, label="x")


def test_the_folder_may_be_a_text(tmp_path):
    run = prepare(tiny.gpt2(), tiny.corpus(tmp_path), tiny.CONFIG, str(tmp_path), "x")
    assert run.directory == tmp_path


def test_the_batch_must_be_shared_equally(tmp_path, monkeypatch):
    two = SimpleNamespace(num_processes=3)
    monkeypatch.setattr("syncattn.training.setup.Accelerator", lambda **_: two)
    with pytest.raises(
        ValueError, match=r"multiple of the number of processes .*; got 4 and 3 \* 1"
    ):
        refused(tmp_path)
    two.num_processes = 2
    with pytest.raises(ValueError, match=r"`accumulation_steps`; got 4 and 2 \* 4\. Choose"):
        refused(tmp_path, config=replace(tiny.CONFIG, accumulation_steps=4))


def test_a_run_knows_what_must_stay_the_same(tmp_path):
    corpus = tiny.corpus(tmp_path)

    def identity(model, config):
        return prepare(model, corpus, config, tmp_path, "x").identity

    first = identity(tiny.gpt2(), tiny.CONFIG)
    free = {"evaluation_interval": 1, "test_tokens": 5, "checkpoint_interval": 0, "patience": 3,
            "accumulation_steps": 2, "sharding": "full", "final_weights": "best"}  # fmt: skip
    assert identity(tiny.gpt2(), replace(tiny.CONFIG, **free)) == first
    model = tiny.gpt2()
    model.save_pretrained(tmp_path / "saved")
    assert identity(model, tiny.CONFIG) == first
    assert identity(tiny.gpt2(), replace(tiny.CONFIG, seed=6)) != first
    assert identity(tiny.gpt2(), replace(tiny.CONFIG, schedule="linear")) != first
    assert identity(tiny.gpt2(resid_pdrop=0.0), tiny.CONFIG) != first
    assert identity(tiny.llama(), tiny.CONFIG) != first
    halves = []
    for part in ("wte", "wpe"):
        model = tiny.gpt2()
        getattr(model.transformer, part).requires_grad_(False)
        halves.append(identity(model, tiny.CONFIG))
    assert halves[0] != halves[1] and first not in halves


def test_the_launcher_divides_no_gradient(tmp_path, monkeypatch):
    """`accelerate launch --gradient_accumulation_steps 4` tells it by the environment."""
    config = replace(tiny.CONFIG, steps=1, checkpoint_interval=0)
    corpus, norms = tiny.corpus(tmp_path), []
    for parts in ("1", "4"):
        monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", parts)
        done = train(tiny.llama(), corpus, config, directory=tmp_path / parts, progress=False)
        norms.append(done.curve[0].gradient_norm)
    assert norms[0] == norms[1] > 0
