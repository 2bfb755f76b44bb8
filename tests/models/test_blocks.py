import pytest

from syncattn.models.blocks import ATTENTIONS, DEFAULT_OPTIONS, build_attention, build_block
from syncattn.nn import EuclideanBlock, MeanFieldCoupling, PhaseBlock
from tests.models.networks import EVERY_MECHANISM, config


@EVERY_MECHANISM
def test_a_block_holds_the_attention_of_its_mechanism(mechanism):
    block = build_block(config(mechanism))
    assert type(block.attention) is ATTENTIONS[mechanism]
    kind = PhaseBlock if config(mechanism).on_torus else EuclideanBlock
    assert type(block) is kind
    assert block.feedforward.down_proj._adds_to_stream
    assert build_block(config(mechanism, feedforward="none")).feedforward is None


def test_mean_field_couples_phases():
    block = build_block(config("kuramoto", feedforward="mean-field"))
    assert isinstance(block.feedforward, MeanFieldCoupling)


def test_default_options_give_way():
    def attention(**options):
        return build_attention("selective", 16, 2, max_positions=8, options=options)

    assert attention().position == DEFAULT_OPTIONS["selective"]["position"]
    assert attention(position=None).frequency_position is None
    assert attention(variant="paper").frequency_gain == 1
    assert attention(empty_rows="nearest", top_k=2).options["empty_rows"] == "nearest"
    with pytest.raises(ValueError, match=r"must be among .*edge_floor.*; got 'operator_options'"):
        attention(operator_options={})


def test_a_delay_beyond_the_longest_sequence_is_refused():
    for options, size in (({"num_delays": 5}, 5), ({"num_delays": 2}, 1), ({}, 1)):
        block = build_attention("frustrated", 8, 2, max_positions=size, options=options)
        assert block.coupling_kernel.num_delays == options.get("num_delays", 2)
    with pytest.raises(ValueError, match=r"`num_delays` must not be more .* got 6 delays and 5"):
        build_attention("frustrated", 8, 2, max_positions=5, options={"num_delays": 6})
    for name in ("num_delays", "num_harmonics"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1; got 0"):
            build_attention("frustrated", 8, 2, max_positions=5, options={name: 0})
