"""Couplings, phases, rates, anchors and gains carry the mark; matrices do not."""

import copy

import pytest
from torch import nn

from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from syncattn.nn import (
    FrustratedSynchronization,
    KuramotoAttention,
    OscillatorAttention,
    PhaseSwiGLU,
    SelectiveSynchronization,
)
from syncattn.nn.decay import undecayed, without_decay
from syncattn.nn.frequency_position import FrequencyPosition
from syncattn.training.setup import parameter_groups

MATRICES = ("proj.weight", "lm_head.weight")


def test_marks_a_parameter_and_a_module_with_all_it_holds():
    layer = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    without_decay(layer[0])
    decayed, others = parameter_groups(layer, 0.1)
    assert [id(p) for p in decayed["params"]] == [id(layer[1].weight)]
    assert {id(p) for p in others["params"]} == {id(p) for p in layer[0].parameters()}


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (
            lambda: OscillatorAttention(16, 2, max_positions=8),
            {"anchors.raw_anchor", "readout_gain", "coupling_bias"},
        ),
        (
            lambda: OscillatorAttention(16, 2, anchors="rotary", coupling_bias=None),
            {"anchors.raw_anchor", "anchors.rate", "readout_gain"},
        ),
        (
            lambda: OscillatorAttention(16, 2, anchors="rotary-content", readout_gain=None),
            {"anchors.rate", "coupling_bias"},
        ),
        (lambda: KuramotoAttention(8, 2, gate="static"), {"step_size", "raw_gate"}),
        (lambda: KuramotoAttention(8, 2), {"step_size"}),
        (
            lambda: FrustratedSynchronization(8, 2),
            {"coupling_kernel.raw_amplitude", "coupling_kernel.raw_frustration"},
        ),
        (lambda: PhaseSwiGLU(4, 6), {"features.offset"}),
        (
            lambda: SelectiveSynchronization(8, 2, position="drift"),
            {"raw_coupling_strength", "raw_coupling_decay", "frequency_position.rate"},
        ),
        (lambda: FrequencyPosition("drift", 2, 3), {"rate"}),
        (lambda: FrequencyPosition("learned", 2, 3, max_positions=4), {"table"}),
    ],
)
def test_a_copy_of_a_layer_keeps_the_marks(build, expected):
    layer = build()
    for model in (layer, copy.deepcopy(layer), nn.Sequential(copy.deepcopy(layer))):
        kept = undecayed(model)
        names = {n.removeprefix("0.") for n, p in model.named_parameters() if id(p) in kept}
        assert names == expected
        groups = parameter_groups(model, 0.1)
        decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
        assert not decayed & kept


@pytest.mark.parametrize(
    ("mechanism", "options"),
    [
        ("selective", {"position": "learned"}),
        ("oscillator", {"anchors": "free"}),
        ("oscillator", {}),
        ("kuramoto", {"gate": "signed"}),
        ("frustrated", {"sink": "learned"}),
    ],
)
def test_only_matrices_of_a_model_are_decayed(mechanism, options):
    config = SyncAttnConfig(
        mechanism=mechanism, hidden_size=16, num_attention_heads=2, num_hidden_layers=1,
        intermediate_size=8, attention_options=options,
    )  # fmt: skip
    model = SyncAttnForCausalLM(config)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, others = parameter_groups(model, 0.1)
    kept = [names[id(parameter)] for parameter in others["params"]]
    for name in (names[id(parameter)] for parameter in decayed["params"]):
        # A Euclidean embedding is a matrix like any other; one of phases is not.
        assert name.endswith(MATRICES) or (not config.on_torus and "embed" in name), name
    assert not any(name.endswith(MATRICES) for name in kept)
