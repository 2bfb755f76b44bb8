import math

import pytest
import torch

from syncattn import functional
from syncattn.functional import settling_diagnostics
from tests.conformance import Scene
from tests.functional.operators import OSCILLATOR
from tests.tolerance import assert_same


def drawn(**scene):
    inputs = OSCILLATOR.inputs(Scene("plain", **scene))
    return [inputs[name].detach() for name in ("query", "key", "anchor")]


def test_rate_and_order_parameter_are_those_of_the_drive():
    q, k, r = drawn()
    W = torch.nn.functional.softplus(q @ k.mT / 2).tril()
    h = W @ r
    found = settling_diagnostics(q, k, r, is_causal=True)
    assert_same(found.drive, h.norm(dim=-1))
    assert_same(found.order_parameter, h.norm(dim=-1) / W.sum(-1))
    gained = settling_diagnostics(q, k, r, is_causal=True, row_gain=True)
    assert_same(gained.drive, found.order_parameter)
    assert found.num_coupled == 24
    assert found.coupled.all()


# theory: OA-9
@pytest.mark.parametrize("row_gain", [False, True])
@pytest.mark.parametrize("angle", [0.3, 0.01])
def test_after_the_settling_time_the_angle_is_the_angle(row_gain, angle):
    q, k, r = drawn(batch=1, queries=1)
    start = torch.randn(1, 2, 1, 3, dtype=torch.float64)
    options = {"row_gain": row_gain, "initial_oscillator": start}
    found = settling_diagnostics(q, k, r, angle=angle, mode="settle(1)", **options)
    (weights, *_) = functional.oscillator_attention_weights(q, k, r)
    for head in range(2):
        time = found.settling_time[0, head, 0].item()
        W = torch.nn.functional.softplus(q @ k.mT / 2)
        h = (W @ r) / (W.sum(-1, keepdim=True) if row_gain else 1)
        x = functional.settle(h, f"settle({time})", start / start.norm(dim=-1, keepdim=True))
        e = h / h.norm(dim=-1, keepdim=True)
        assert abs(torch.acos((x * e).sum(-1))[0, head, 0].item() - angle) < 1e-6
        assert found.settled_fraction(found.settling_time.max().item()) == 1
    assert weights.shape == (1, 2, 1, 6)


def test_cancelled_pulls_and_antipodal_starts_are_counted():
    query, key = torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 2, 2)
    allowed = torch.tensor([[1, 1], [1, 0], [0, 0]], dtype=torch.bool)
    anchor = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[None, None]
    near = torch.tensor([-math.cos(0.1), math.sin(0.1)])
    found = settling_diagnostics(
        query, key, anchor, attn_mask=allowed, initial_oscillator=near.expand(1, 1, 3, 2)
    )
    assert found.near_degenerate.flatten().tolist() == [True, False, False]
    assert found.near_antipode.flatten().tolist() == [False, True, False]
    assert found.coupled.flatten().tolist() == [True, True, False]
    assert (found.num_near_degenerate, found.num_near_antipode, found.num_coupled) == (1, 1, 2)
    time = found.settling_time.flatten()
    assert time[0] == torch.inf
    expected = (math.log(math.tan((math.pi - 0.1) / 2)) - math.log(math.tan(0.005))) / math.log(2)
    assert abs(time[1].item() - expected) < 1e-4
    assert time[2].isnan()
    assert found.order_parameter.flatten()[2].isnan()
    assert found.settled_fraction(1e9) == 0.5
    assert found.settled_fraction(1.0) == 0
    strict = settling_diagnostics(
        query, key, anchor, attn_mask=allowed, antipode_within=0.05,
        initial_oscillator=near.expand(1, 1, 3, 2),
    )  # fmt: skip
    assert strict.num_near_antipode == 0


def test_who_begins_at_the_end_is_settled_at_once():
    q, k, r = drawn()
    h = torch.nn.functional.softplus(q @ k.mT / 2) @ r
    found = settling_diagnostics(q, k, r, initial_oscillator=h)
    assert not found.settling_time.any()


@pytest.mark.parametrize("options", [{"angle": 0.0}, {"angle": 4.0}, {"antipode_within": -1.0}])
def test_bad_numbers_are_refused(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be finite and"):
        settling_diagnostics(*drawn(), **options)
