import math

import pytest
import torch

from syncattn import explain_pair, functional
from tests.conformance import Scene
from tests.functional.operators import SELECTIVE

K, A = 1.3, 1.1
COUPLINGS = {"coupling_strength": K, "coupling_decay": A}


def cutoff(r=1.0):
    """The radius at which the detuning meets the threshold, by bisection."""
    low, high = 0.0, K * r
    for _ in range(200):
        middle = (low + high) / 2
        near = middle < K * r * math.exp(-A * middle**2)
        low, high = (middle, high) if near else (low, middle)
    return low


def line(*places):
    return torch.tensor(places, dtype=torch.float64).reshape(1, 1, -1, 1)


def test_numbers_by_hand():
    omega = line(0.0, 0.4, 3.0)
    told = explain_pair(omega, omega, query=0, key=1, **COUPLINGS)
    assert told.detuning == pytest.approx(0.4)
    assert told.threshold == pytest.approx(K * math.exp(-A * 0.16))
    assert told.cutoff_radius == pytest.approx(cutoff(), rel=1e-12)
    assert told.margin == pytest.approx(cutoff() - 0.4)
    assert told.order_parameter == 1.0
    strength = math.sqrt(math.exp(-2 * A * 0.16) - 0.16 / K**2)
    assert told.synchronization == pytest.approx(strength)
    assert told.weight == pytest.approx(strength / (1 + strength))
    assert told.locked
    assert told.visible
    assert told.reason == (
        f"Query 0 and key 1 lock: their detuning 0.4 is within the cutoff radius "
        f"{cutoff():.4g} at coherence 1."
    )


def test_the_sign_of_the_margin_decides():
    radius = cutoff()
    for place, locked in ((radius - 1e-6, True), (radius + 1e-6, False)):
        omega = line(0.0, place)
        told = explain_pair(omega, omega, query=0, key=1, **COUPLINGS)
        assert told.locked == locked == (told.margin > 0) == (told.detuning < told.threshold)
    assert told.synchronization == told.weight == 0.0
    assert "do not lock: their detuning" in told.reason
    assert "is beyond the cutoff radius" in told.reason


def test_a_mask_and_stronger_keys_are_named():
    omega = line(0.0, 0.1, 0.2)
    hidden = explain_pair(omega, omega, query=0, key=2, is_causal=True, **COUPLINGS)
    assert not hidden.visible
    assert not hidden.locked
    assert hidden.margin > 0
    assert hidden.reason == "Query 0 does not see key 2: a mask hides it."
    late = explain_pair(omega, omega, query=0, key=2, top_k=2, **COUPLINGS)
    assert late.visible
    assert not late.locked
    assert late.reason == "Query 0 and key 2 would lock, but 2 stronger keys come first."


def test_a_token_that_is_told_to_be_itself_has_no_detuning():
    told = explain_pair(line(5.0), line(0.0, 1.0), query=0, key=1, self_pairs=True, **COUPLINGS)
    assert told.detuning == 0.0
    assert told.synchronization == 1.0


@pytest.mark.parametrize("is_causal", [False, True])
def test_every_pair_agrees_with_the_dense_weights(is_causal):
    inputs = SELECTIVE.inputs(Scene("plain"))
    tensors = [inputs[n] for n in ("query_frequency", "key_frequency", "phase")]
    couplings = {n: inputs[n] for n in ("coupling_strength", "coupling_decay")}
    weights, r, locked = functional.selective_synchronization_weights(
        *tensors, **couplings, is_causal=is_causal
    )
    seen = set()
    for b, h, i, j in torch.cartesian_prod(*(torch.arange(n) for n in weights.shape)).tolist():
        told = explain_pair(
            *tensors, query=i, key=j, batch=b, head=h, is_causal=is_causal, **couplings
        )
        assert told.locked == bool(locked[b, h, i, j])
        assert told.weight == pytest.approx(weights[b, h, i, j].item(), abs=1e-12)
        assert told.order_parameter == pytest.approx(r[b, h, i].item())
        assert told.locked == (told.visible and told.margin > 0)
        seen.add((told.locked, told.visible))
    assert len(seen) == 2 + is_causal


def test_what_is_not_there_is_refused():
    omega = line(0.0, 1.0)
    for name in ("query", "key", "batch", "head"):
        indices = {"query": 0, "key": 0} | {name: 2}
        with pytest.raises(IndexError, match=f"`{name}` must be an index below"):
            explain_pair(omega, omega, **indices, **COUPLINGS)
    with pytest.raises(ValueError, match="`variant` must be 'default'"):
        explain_pair(omega, omega, query=0, key=0, variant="paper", **COUPLINGS)


def test_a_pair_without_numbers_is_refused():
    x = torch.empty(1, 1, 2, 2, device="meta")
    with pytest.raises(ValueError, match="`query_frequency` must hold numbers"):
        functional.explain_pair(x, x, query=0, key=1, coupling_strength=1.0, coupling_decay=1.0)
