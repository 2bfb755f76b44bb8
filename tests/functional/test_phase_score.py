import inspect

import pytest
import torch

from syncattn.functional.phase_score import score_inputs

NONE = dict.fromkeys(("natural_frequency", "attn_mask", "key_mask", "cu_seqlens", "scale", "sink"))


def checked(theta, **options):
    options = NONE | {"is_causal": True, "exclude_self": True} | options
    gates = options.pop("query_gate", None), options.pop("key_gate", None)
    return score_inputs(theta, options.pop("key_phase", theta), *gates, **options)


def test_half_precision_is_widened_and_gates_take_the_shape_of_the_phases():
    theta = torch.randn(2, 3, 5, 4).bfloat16()
    score = checked(theta, query_gate=torch.ones(3, 1, 4).bfloat16()).score
    assert score.query_phase.dtype == score.query_gate.dtype == torch.float32
    assert score.query_gate.shape == score.key_gate.shape == theta.shape
    assert score.query_phase is score.key_phase
    assert score.scale == 0.5
    assert score.drift is None
    assert score.sink is None


def test_queries_that_are_keys_stay_so_under_padding():
    theta = torch.randn(2, 3, 5, 4)
    real = torch.ones(2, 5, dtype=torch.bool)
    real[0, 3:] = False
    score = checked(theta.masked_fill(~real[:, None, :, None], torch.nan), key_mask=real).score
    assert score.query_phase is score.key_phase
    assert not score.key_phase[0, :, 3:].any()


def test_a_row_that_nobody_sees_is_blanked_as_a_key_and_kept_as_a_query():
    theta, allowed = torch.randn(1, 1, 3, 2), torch.ones(3, 3, dtype=torch.bool)
    allowed[:, 1] = False
    score = checked(theta, attn_mask=allowed).score
    assert not score.key_phase[:, :, 1].any()
    assert torch.equal(score.query_phase, theta)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["theta", "key_phase", "query_gate", "key_gate"])
def test_what_is_not_finite_is_refused_by_name(name, bad):
    tensors = {n: torch.randn(1, 1, 3, 2) for n in ("theta", "key_phase", "query_gate", "key_gate")}
    tensors[name][0, 0, 1, 1] = bad
    shown = "query_phase" if name == "theta" else name
    with pytest.raises(ValueError, match=f"`{shown}` must be finite .* got 1 NaN or infinite"):
        checked(**tensors)


def test_finite_values_whose_sum_is_not_are_accepted():
    assert checked(torch.full((1, 1, 3, 2), 3e38)).score.key_phase.isfinite().all()


def test_a_gate_that_does_not_broadcast_is_refused():
    with pytest.raises(ValueError, match="`key_gate` must broadcast to"):
        inspect.unwrap(checked)(torch.randn(1, 1, 3, 2), key_gate=torch.ones(4, 1))
