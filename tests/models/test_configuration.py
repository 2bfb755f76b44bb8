import json

import pytest
from transformers import AutoConfig

from syncattn.models import MECHANISMS, SyncAttnConfig


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_defaults_are_one_network_of_every_mechanism(mechanism):
    config = SyncAttnConfig(mechanism=mechanism)
    assert config.intermediate_size == 4 * config.hidden_size
    assert config.on_torus == (mechanism in {"kuramoto", "frustrated"})
    assert config.tie_word_embeddings != config.on_torus


def test_it_survives_a_round_trip(tmp_path):
    config = SyncAttnConfig(
        mechanism="selective", attention_options={"position_window": (2.0, 8.0)}, vocab_size=31
    )
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["mechanism"] == "selective"
    again = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(again, SyncAttnConfig)
    assert again.vocab_size == 31
    assert list(again.attention_options["position_window"]) == [2.0, 8.0]
    assert again.model_type == "syncattn"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mechanism": "linear"}, "`mechanism` must be one of 'softmax', 'selective'.*'linear'"),
        ({"feedforward": "relu"}, "`feedforward` must be one of 'swiglu', 'mean-field', 'none'"),
        ({"feedforward": "mean-field"}, "`feedforward` 'mean-field' couples phases .*'softmax'"),
        ({"num_attention_heads": 3}, "`hidden_size` must be a multiple of `num_attention_heads`"),
        ({"vocab_size": 0}, "`vocab_size` must be at least 1; got 0"),
        ({"num_hidden_layers": 0}, "`num_hidden_layers` must be at least 1"),
        ({"intermediate_size": 0}, "`intermediate_size` must be at least 1"),
        ({"max_position_embeddings": -1}, "`max_position_embeddings` must be at least 1"),
        (
            {"mechanism": "kuramoto", "tie_word_embeddings": True},
            "`tie_word_embeddings`",
        ),
    ],
)
def test_bad_values_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SyncAttnConfig(**options)
