"""Couplings, phases, rates, anchors and gains carry the mark; matrices do not."""

import pytest
from torch import nn

from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from syncattn.nn.decay import without_decay
from syncattn.training.setup import parameter_groups

MATRICES = ("proj.weight", "lm_head.weight")


def test_marks_a_parameter_and_a_module_with_all_it_holds():
    layer = nn.Sequential(without_decay(nn.Linear(2, 2)), nn.Linear(2, 2, bias=False))
    decayed, others = parameter_groups(layer, 0.1)
    assert [id(p) for p in decayed["params"]] == [id(layer[1].weight)]
    assert {id(p) for p in others["params"]} == {id(p) for p in layer[0].parameters()}


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
