from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from syncattn.benchmarks.arms import ARMS, Arm
from syncattn.benchmarks.networks import (
    Adapter,
    Shape,
    build_network,
    flops_per_token,
    parameters_of,
)
from syncattn.benchmarks.problems import Batch
from syncattn.benchmarks.tasks import TASKS, task_named
from syncattn.nn.heads import HeadwiseLinear
from tests.benchmarks.benchmark_small import SHAPE, network, problem

task_named("copy")


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("task", ["copy", "agreement-v2", "keywords-learned"])
def test_every_arm_answers_every_kind_of_task(arm, task):
    batch = problem(task).training_batch(3, seed=0, step=0)
    logits = network(arm, task)(batch)
    classes = problem(task).num_labels or problem(task).vocabulary_size
    assert logits.shape == (*batch.target.shape, classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("task", TASKS)
def test_laptop_networks_have_as_many_parameters_as_softmax(arm, task):
    known = TASKS[task]
    recipe = known.recipes["laptop"]
    if task.startswith(("keywords", "agreement-n", "wikitext", "tiny")):
        recipe = recipe if task.startswith("keywords") else known.recipes["smoke"]
    small = problem(task)

    def build(name, parameters):
        return build_network(
            ARMS[name], small, recipe.shape, is_causal=known.is_causal, positions=known.positions,
            parameters=parameters,
        )  # fmt: skip

    with torch.device("meta"):
        target = parameters_of(build("softmax", None))
        assert parameters_of(build(arm, target)) == pytest.approx(target, rel=0.01)


def test_positions_of_the_stream_replace_those_of_the_arm():
    batch = problem("keywords").training_batch(2, seed=0, step=0)
    mixed = batch._replace(inputs=batch.inputs.flip(1))
    for task, same in (("keywords", True), ("keywords-sinusoidal", False),
                       ("keywords-learned", False)):  # fmt: skip
        model = network("softmax", task).eval()
        assert torch.allclose(model(batch), model(mixed), atol=1e-5) == same


def test_the_class_is_read_at_the_place():
    model = network("softmax", "agreement-v2").eval()
    batch = problem("agreement-v2").training_batch(4, seed=0, step=0)
    elsewhere = batch._replace(place=batch.place - 1)
    assert not torch.allclose(model(batch), model(elsewhere))


def test_the_mean_leaves_padding_out():
    model = network("softmax", "agreement-v2").eval()
    ids = torch.randint(5, 20, (2, 6))
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[:, 6:] = False
    padded = torch.cat([ids, torch.zeros(2, 2, dtype=torch.long)], 1)
    target = torch.zeros(2, dtype=torch.long)
    alone = model(Batch(ids, target, mask[:, :6]))
    torch.testing.assert_close(alone, model(Batch(padded, target, mask)))


class Plain(nn.Module):
    def __init__(self, hidden_size, num_heads):
        super().__init__()
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x):
        return self.proj(x.cumsum(1))


class Aware(Plain):
    def forward(self, x, *, is_causal, key_mask=None):
        self.seen = (is_causal, key_mask)
        return self.proj(x)


class Wrong(Plain):
    def forward(self, x):
        return self.proj(x)[:, :-1]


def _foreign(kind, task="copy"):
    known = task_named(task)
    return build_network(
        Arm("softmax", "", 1e-3, attention=kind), problem(task), SHAPE, is_causal=known.is_causal,
        positions=known.positions,
    )  # fmt: skip


def test_a_third_party_gets_what_it_asks_for():
    batch = problem("agreement-v2").training_batch(4, seed=0, step=0)
    assert _foreign(Plain, "agreement-v2")(batch).shape == (4, 2)
    model = _foreign(Aware, "agreement-v2")
    model(batch)
    assert isinstance(model.attentions[0], Adapter)
    is_causal, key_mask = model.attentions[0].mixing.seen
    assert is_causal is False
    assert torch.equal(key_mask, batch.mask)
    assert model.synchrony(batch) == []


def test_a_third_party_that_loses_a_token_is_refused():
    with pytest.raises(ValueError, match="`attention` of an arm must return the shape"):
        _foreign(Wrong)(problem("copy").training_batch(2, seed=0, step=0))


def test_operations_are_counted_by_hand():
    task = problem("copy")
    shape = Shape(16, 1, 2, 24)
    model = network("softmax", shape=shape)
    linear = 4 * 16 * 16 + 3 * 16 * 24 + 16 * task.vocabulary_size
    pairs = 2 * (task.length + 1) / 2 * 4 * 8
    counted = flops_per_token(model, ARMS["softmax"], task, shape)
    assert counted == pytest.approx(2 * linear + pairs)
    bare = Arm("softmax", "", 1e-3)
    assert flops_per_token(model, bare, task, shape) == pytest.approx(2 * linear)


@pytest.mark.parametrize("arm", ARMS)
def test_operations_of_linear_maps_are_those_that_torch_counts(arm):
    model, batch = network(arm), problem("copy").training_batch(2, seed=0, step=0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        places = model(batch).shape[:2].numel()
    maps = counter.get_flop_counts()["Global"][torch.ops.aten.mm] / places
    # A map per head is a batched product, as the pairs of tokens are.
    heads = 2 * sum(m.weight.numel() for m in model.modules() if isinstance(m, HeadwiseLinear))
    bare = replace(ARMS[arm], flops_per_pair=None)
    assert flops_per_token(model, bare, problem("copy"), SHAPE) == pytest.approx(maps + heads)
