import copy

import pytest
import torch

from syncattn.benchmarks.arms import ARMS, Arm
from syncattn.benchmarks.controls import (
    CONTROLS,
    apply_control,
    dynamics_of,
    locked_fractions,
    why_not,
    without_coupling,
)
from syncattn.benchmarks.controls_weights import Silent
from syncattn.benchmarks.fitting import fit
from syncattn.nn import SoftmaxAttention
from syncattn.training import TrainingConfig
from tests.benchmarks.benchmark_small import network, problem

OURS = list(ARMS)
CHANGING = ("frozen", "bypass-identity", "bypass-mean", "random", "coupling-off")
CONFIG = TrainingConfig(steps=1, batch_size=2, learning_rate=1e-2)


def trained(model):
    return fit(model, problem("copy"), CONFIG, metric="accuracy")


def batch():
    return problem("copy").training_batch(4, seed=0, step=0)


@pytest.mark.parametrize("arm", OURS)
def test_frozen_dynamics_stay_and_everything_else_moves(arm):
    model = network(arm)
    apply_control(model, "frozen", ARMS[arm], batch())
    before = copy.deepcopy(dict(model.named_parameters()))
    frozen = {id(parameter) for parameter in dynamics_of(model, ARMS[arm])}
    assert frozen
    trained(model)
    for name, parameter in model.named_parameters():
        moved = not torch.equal(parameter, before[name])
        assert moved == (id(parameter) not in frozen), name


@pytest.mark.parametrize("arm", OURS)
def test_without_the_control_the_dynamics_move(arm):
    model = network(arm)
    before = [parameter.clone() for parameter in dynamics_of(model, ARMS[arm])]
    trained(model)
    moved = [not torch.equal(a, b) for a, b in
             zip(before, dynamics_of(model, ARMS[arm]), strict=True)]  # fmt: skip
    # A single coefficient can have no gradient at first; most must have one.
    assert sum(moved) > len(moved) / 2


@pytest.mark.parametrize("arm", OURS)
def test_identity_mixes_nothing(arm):
    model = network(arm).eval()
    apply_control(model, "bypass-identity", ARMS[arm], batch())
    some = batch()
    other = some._replace(inputs=some.inputs.clone())
    other.inputs[:, 4] = (other.inputs[:, 4] + 1) % 64
    difference = (model(some) - model(other)).abs().amax((0, 2))
    assert difference[4] > 0
    difference[4] = 0
    assert (difference == 0).all()


@pytest.mark.parametrize("arm", OURS)
@pytest.mark.parametrize("control", ["bypass-mean", "random"])
def test_weights_that_know_places_alone_do_not_know_content(arm, control):
    model = network(arm).eval()
    apply_control(model, control, ARMS[arm], batch())
    here, there = (model.synchrony(b)[0].weights for b in (batch(), batch()._replace(
        inputs=batch().inputs.flip(0))))  # fmt: skip
    assert torch.equal(here, there)


def test_random_weights_of_selective_are_as_sparse_as_the_layer_at_first():
    model = network("selective").eval()
    visible = torch.ones(31, 31, dtype=torch.bool).tril(-1)
    locked = [layer.locked[..., visible].float().mean() for layer in model.synchrony(batch())]
    apply_control(model, "random", ARMS["selective"], batch())
    for layer, share in zip(model.synchrony(batch()), locked, strict=True):
        drawn = (layer.weights[..., visible] > 0).float().mean()
        assert drawn == pytest.approx(float(share), abs=0.06)


def test_padding_is_neither_locked_nor_unlocked():
    model = network("selective", "agreement-v2").eval()
    batch = problem("agreement-v2").training_batch(16, seed=0, step=0)
    assert batch.mask is not None and not batch.mask.all()
    layers = model.synchrony(batch)
    told = locked_fractions(model, layers, batch)
    for layer, share in zip(layers, told, strict=True):
        counted = []
        for row, real in zip(layer.locked, batch.mask, strict=True):
            length = int(real.sum())
            pairs = ~torch.eye(length, dtype=torch.bool)
            counted.append(row[:, :length, :length][:, pairs].flatten())
        assert share == pytest.approx(torch.cat(counted).double().mean().item())


@pytest.mark.parametrize("arm", [a for a in OURS if a != "softmax"])
def test_zeroed_coupling_is_zero(arm):
    model = network(arm).eval()
    before = sum(p.numel() for p in model.parameters())
    without_coupling(model, ARMS[arm])
    assert sum(p.numel() for p in model.parameters()) == before
    for attention in model.attentions:
        if isinstance(attention, Silent):
            assert (attention(torch.randn(1, 5, 16), is_causal=True) == 0).all()
            continue
        weights = attention.synchrony(torch.randn(1, 5, 16), is_causal=True).weights
        alone = ARMS[arm].mechanism == "selective"
        expected = torch.eye(5) if alone else torch.ones(5, 5).tril() / torch.arange(1, 6)[:, None]
        torch.testing.assert_close(weights, expected.expand_as(weights))


@pytest.mark.parametrize("arm", ["softmax", "selective", "oscillator", "frustrated"])
@pytest.mark.parametrize("control", CHANGING)
def test_every_control_can_be_trained(arm, control):
    if why_not(ARMS[arm], control):
        return
    model = network(arm)
    apply_control(model, control, ARMS[arm], batch())
    assert 0 <= trained(model).valid_score <= 1


def test_coupling_off_trained_is_coupling_off_from_the_start():
    for arm in ("selective", "oscillator", "kuramoto"):
        torch.manual_seed(0)
        one = network(arm).eval()
        torch.manual_seed(0)
        other = network(arm).eval()
        apply_control(one, "coupling-off", ARMS[arm], batch())
        without_coupling(other, ARMS[arm])
        assert torch.equal(one(batch()), other(batch()))


def test_what_makes_no_sense_has_a_reason():
    softmax, foreign = ARMS["softmax"], Arm("softmax", "", 1e-3, attention=SoftmaxAttention)
    assert why_not(softmax, "matched") and why_not(softmax, "coupling-off")
    assert why_not(foreign, "random")
    assert not any(why_not(foreign, c) for c in CONTROLS if c != "random")
    assert not any(why_not(ARMS["selective"], c) for c in CONTROLS)
    with pytest.raises(ValueError, match="`control` must be one of none, frozen"):
        why_not(softmax, "sham")
