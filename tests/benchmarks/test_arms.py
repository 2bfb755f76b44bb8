import pytest

from syncattn.benchmarks.arms import ARMS, TOLERANCE, count_parameters, matched_config
from syncattn.models import SyncAttnForCausalLM

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_comes_within_the_tolerance(name):
    config = matched_config(ARMS[name], parameters=60_000, context_length=32, **SHAPE)
    assert abs(count_parameters(config) - 60_000) <= TOLERANCE * 60_000


@pytest.mark.parametrize("name", ARMS)
def test_count_is_that_of_the_real_model(name):
    config = matched_config(ARMS[name], parameters=60_000, context_length=32, **SHAPE)
    model = SyncAttnForCausalLM(config)
    assert count_parameters(config) == sum(p.numel() for p in model.parameters())


def test_a_count_that_cannot_be_reached_is_refused():
    with pytest.raises(ValueError, match=r"`parameters` .* softmax .* got 1,000, and the nearest"):
        matched_config(ARMS["softmax"], parameters=1_000, context_length=32, **SHAPE)
