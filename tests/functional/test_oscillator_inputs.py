import pytest
import torch

from syncattn.functional.oscillator_inputs import Options, checked, query_places, token_places
from tests.conformance import Scene
from tests.functional.operators import OSCILLATOR


def inputs(**options):
    q, k, v, r = OSCILLATOR.inputs(Scene("plain")).values()
    return checked(q, k, v, r, Options(**options))


def test_places_count_real_tokens_of_each_sequence():
    real = torch.tensor([[1, 1, 0, 1], [0, 0, 1, 1]], dtype=torch.bool)
    assert token_places(4, None, None, real.device).tolist() == [0, 1, 2, 3]
    assert token_places(4, real, None, real.device).tolist() == [[0, 1, 1, 2], [0, 0, 0, 1]]
    ends = torch.tensor([0, 1, 4])
    assert token_places(4, None, ends, real.device).tolist() == [0, 0, 1, 2]
    q, k, v, r = OSCILLATOR.inputs(Scene("plain", queries=4, keys=4)).values()
    late = checked(q[:, :, 2:], k, v, r, Options(key_mask=real)).visibility
    assert query_places(late, real.device).tolist() == [[1, 2], [0, 1]]
    packed = checked(
        *(x[:1] for x in (q, k, v, r)), Options(cu_seqlens=ends)
    ).visibility  # fmt: skip
    assert query_places(packed, real.device).tolist() == [0, 0, 1, 2]
    many = checked(q, k[:, :, :2], v[:, :, :2], r[:, :, :2], Options()).visibility
    assert query_places(many, real.device).tolist() == [0, 1, 2, 3]


def test_positive_weights_are_proven_or_not_claimed():
    assert inputs(anchor_bounded=True).positive
    assert inputs(anchor_bounded=True, readout_gain=torch.tensor([0.0, 1.0])).positive
    for options in (
        {},
        {"readout_gain": 1.01},
        {"readout_gain": -0.5},
        {"readout_gain": torch.tensor([0.5, 1.01])},
        {"readout_gain": torch.tensor([-0.5, 1.0])},
        {"mode": "settle(1)"},
    ):
        assert not inputs(**({"anchor_bounded": bool(options)} | options)).positive


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readout_gain": torch.ones(3)}, r"`readout_gain` must be a number or one per head, \(2,"),
        ({"initial_oscillator": torch.ones(2, 2, 5, 3)}, "`initial_oscillator` must broadcast to"),
        ({"initial_oscillator": torch.ones(2, 2, 6, 1)}, "`initial_oscillator` must broadcast to"),
        ({"initial_oscillator": torch.ones(6, 3)}, "`initial_oscillator` must broadcast to"),
        (
            {"initial_oscillator": torch.full((1, 1, 1, 3), torch.nan)},
            "`initial_oscillator` must be finite",
        ),
        (
            {"initial_oscillator": torch.zeros(1, 1, 1, 3)},
            "`initial_oscillator` must have vectors of length above 0; got 1",
        ),
        ({"coupling": "exp"}, "`coupling` must be one of"),
        ({"scale": float("inf")}, "`scale` must be finite"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        inputs(**options)


def test_bad_shapes_are_refused():
    q, k, v, r = OSCILLATOR.inputs(Scene("plain")).values()
    for tensors, message in (
        ((q, k, v, r[:, :, :5]), "`anchor` must have as many keys as `key`"),
        ((q, k, v, r.expand(2, 2, 6, 3)[:, :1]), "`anchor` must have as many heads as `key`"),
        ((q, k, v[:1], r), "`value` must have as many sequences"),
        ((torch.cat([q, q]), torch.cat([k, k]), torch.cat([v, v]), r), "one batch for all or 4"),
    ):
        with pytest.raises(ValueError, match=message):
            checked(*tensors, Options())
