from dataclasses import replace

import pytest
import torch

from syncattn import BackendUnavailableError, functional, reference
from syncattn.functional.oscillator_attention import oscillator_couplings
from syncattn.functional.oscillator_settling import Euler
from tests.conformance import HEADS, Conformance, Operator, PermutationLaws, Scene, WeightLaws
from tests.functional.operators import INVERSE_ROOT, OSCILLATOR, SHARP_OSCILLATOR
from tests.tolerance import assert_same


def euler(drive, initial, num_steps=3, step=0.3):
    x = initial
    for _ in range(num_steps):
        x = x + step * (drive - (x * drive).sum(-1, keepdim=True) * x)
        x = x / x.norm(dim=-1, keepdim=True)
    return x


def settling_operator(mode, settle, row_gain, power, gain):
    """Returns the operator in a mode that begins somewhere, with a learned gain."""

    def draw(batch, queries, keys, generator):
        drawn = OSCILLATOR.draw(batch, queries, keys, generator)
        shape = (batch, HEADS, queries, 3)
        drawn["initial_oscillator"] = torch.randn(shape, generator=generator, dtype=torch.float64)
        drawn["readout_gain"] = torch.tensor(gain, dtype=torch.float64)
        return drawn

    def call(inputs, backend, **visibility):
        return functional.oscillator_attention(
            **inputs, mode=mode, row_gain=row_gain, readout_power=power, backend=backend,
            **visibility,
        )  # fmt: skip

    def define(inputs, mask, reach):
        q, k, v, r, start, g = inputs.values()
        h, total = reference.drive(q, k, r, scale=INVERSE_ROOT, mask=mask)
        alive = mask.any(-1, keepdim=True)
        h = h / torch.where(alive, total[..., None], 1.0) if row_gain else h
        x = settle(torch.where(alive, h, 1.0), start / start.norm(dim=-1, keepdim=True))
        weights = reference.oscillator_attention_weights(
            x, r, readout_power=power, readout_gain=g, mask=mask
        )
        return weights @ v

    def weigh(inputs, **visibility):
        named = {name: x for name, x in inputs.items() if name != "value"}
        return functional.oscillator_attention_weights(
            **named, mode=mode, row_gain=row_gain, readout_power=power, **visibility
        )[0]

    return Operator(
        backends=("blockwise",),
        draw=draw,
        call=call,
        define=define,
        weights=weigh,
        on_queries=("query", "initial_oscillator"),
        on_keys=("key", "value", "anchor"),
    )


def linear(inputs, backend, **visibility):
    return functional.oscillator_attention(
        *inputs.values(), anchor_bounded=True, backend=backend, **visibility
    )


class TestOscillatorAttention(Conformance, PermutationLaws, WeightLaws):
    operator = replace(OSCILLATOR, backends=("blockwise", "reference"))


class TestLinearReadout(Conformance, PermutationLaws):
    operator = replace(OSCILLATOR, backends=("blockwise",), call=linear)


class TestSharpReadout(Conformance, PermutationLaws, WeightLaws):
    operator = replace(SHARP_OSCILLATOR, backends=("blockwise", "reference"))


class TestFiniteTime(Conformance, PermutationLaws, WeightLaws):
    operator = settling_operator(
        "settle(0.4)", lambda h, x: reference.settled(h, x, 0.4), False, 2, [0.9, 0.5]
    )


class TestEulerWithRowGain(Conformance, PermutationLaws, WeightLaws):
    operator = settling_operator(Euler(3, 0.3), euler, True, 1, [1.0, 0.4])


def test_anchors_are_shared_by_a_batch():
    inputs = OSCILLATOR.inputs(Scene("plain"))
    shared = inputs | {"anchor": inputs["anchor"][:1]}
    whole = inputs | {"anchor": inputs["anchor"][:1].expand(2, -1, -1, -1)}
    assert_same(OSCILLATOR.call(shared, "auto"), OSCILLATOR.call(whole, "auto"))


def test_a_coupling_may_be_any_positive_function():
    inputs = OSCILLATOR.inputs(Scene("plain"))
    out = functional.oscillator_attention(*inputs.values(), coupling=torch.exp, scale=0.25)
    expected = reference.oscillator_attention(*inputs.values(), coupling=torch.exp, scale=0.25)
    assert_same(out, expected)
    assert not torch.equal(out, OSCILLATOR.call(inputs, "auto"))


@pytest.mark.parametrize("name", ["softplus", "relu", "elu"])
def test_named_couplings_are_positive(name):
    inputs = OSCILLATOR.inputs(Scene("plain"))
    weights, rho, near = functional.oscillator_attention_weights(
        inputs["query"], inputs["key"], inputs["anchor"], coupling=name
    )
    assert (weights > 0).all()
    assert ((rho > 0) & (rho <= 1)).all()
    assert near.any()
    assert not near.all()


def test_the_order_parameter_is_that_of_the_weighted_anchors():
    inputs = OSCILLATOR.inputs(Scene("plain"))
    q, k, r = inputs["query"], inputs["key"], inputs["anchor"]
    _, rho, near = functional.oscillator_attention_weights(q, k, r, is_causal=True)
    W = torch.nn.functional.softplus(q @ k.mT / 2).tril()
    h = W @ r
    assert_same(rho, h.norm(dim=-1) / W.sum(-1))
    assert torch.equal(near, (h @ r.mT > 0) & torch.ones(6, 6, dtype=torch.bool).tril())
    assert_same(rho[..., 0], r[..., 0, :].norm(dim=-1))
    blind = torch.ones(6, 6, dtype=torch.bool)
    blind[2] = False
    _, rho, _ = functional.oscillator_attention_weights(q, k, r, attn_mask=blind)
    assert torch.equal(rho.isnan(), ~blind.any(-1).expand(2, 2, 6))


def test_no_drive_reads_out_uniformly_with_finite_gradients():
    query = torch.zeros(1, 1, 1, 2, requires_grad=True)
    key = torch.zeros(1, 1, 2, 2, requires_grad=True)
    anchor = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[None, None].requires_grad_()
    value = torch.tensor([[1.0], [3.0]])[None, None].requires_grad_()
    for options in ({}, {"row_gain": True}, {"readout_power": 4}, {"backend": "reference"}):
        out = functional.oscillator_attention(query, key, value, anchor, **options)
        torch.testing.assert_close(out, torch.full_like(out, 2.0))
        for gradient in torch.autograd.grad(out.sum(), (query, key, value, anchor)):
            assert gradient.isfinite().all()


@pytest.mark.parametrize("mode", ["settle(3)", "euler(5, 0.2)", "ode(3)"])
def test_no_drive_leaves_the_oscillators_where_they_began(mode):
    query, key = torch.zeros(2, 1, 1, 1, 2, requires_grad=True)
    keys = key.expand(1, 1, 2, 2)
    anchor = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[None, None].requires_grad_()
    value = torch.tensor([[1.0], [3.0]])[None, None]
    start = torch.tensor([[0.6, 0.8]])[None, None]
    out = functional.oscillator_attention(
        query, keys, value, anchor, mode=mode, initial_oscillator=start
    )
    torch.testing.assert_close(out, torch.full_like(out, (1.6 + 3 * 0.4) / 2))
    for gradient in torch.autograd.grad(out.sum(), (query, key, anchor)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("magnitude", [1e-30, 1e-6, 1e3])
def test_the_size_of_the_anchors_does_not_break_half_precision(magnitude):
    inputs = OSCILLATOR.inputs(Scene("plain"), dtype=torch.bfloat16)
    inputs["anchor"] = inputs["anchor"] * magnitude
    out = functional.oscillator_attention(*inputs.values())
    assert out.isfinite().all()


# theory: OA-5
@pytest.mark.parametrize("options", [{}, {"readout_power": 4}, {"is_causal": True}])
def test_a_gain_of_the_rows_leaves_the_equilibrium(options):
    inputs = OSCILLATOR.inputs(Scene("plain"))
    plain = functional.oscillator_attention(*inputs.values(), **options)
    gained = functional.oscillator_attention(*inputs.values(), row_gain=True, **options)
    assert_same(gained, plain)
    finite = {"mode": "settle(0.5)"} | options
    slow = functional.oscillator_attention(*inputs.values(), row_gain=True, **finite)
    fast = functional.oscillator_attention(*inputs.values(), **finite)
    assert (slow - fast).abs().max() > 1e-3


def test_a_gain_of_the_rows_scales_the_couplings():
    inputs = OSCILLATOR.inputs(Scene("plain"))
    real = torch.ones(2, 6, dtype=torch.bool)
    real[1, 4:] = False
    plain, anchor, value, mask = oscillator_couplings(*inputs.values(), key_mask=real)
    gained, *_ = oscillator_couplings(*inputs.values(), key_mask=real, row_gain=True)
    assert_same(gained, plain / plain.sum(-1, keepdim=True))
    assert not plain[1, ..., 4:].any()
    assert not anchor[1, :, 4:].any()
    assert not value[1, :, 4:].any()
    assert torch.equal(mask.expand_as(plain) & (plain > 0), plain > 0)


def test_more_gain_is_more_contrast():
    inputs = OSCILLATOR.inputs(Scene("plain"))
    tensors = (inputs["query"], inputs["key"], inputs["anchor"])
    peaks = []
    for gain in (0.5, 1.0, 3.0):
        weights, *_ = functional.oscillator_attention_weights(*tensors, readout_gain=gain)
        peaks.append(weights.amax(-1))
        assert (weights > 0).all() == (gain <= 1)
    assert (peaks[0] < peaks[1]).all()
    assert (peaks[1] < peaks[2]).all()
    per_head, *_ = functional.oscillator_attention_weights(
        *tensors, readout_gain=torch.tensor([0.5, 3.0], dtype=torch.float64)
    )
    assert_same(per_head.amax(-1), torch.stack([peaks[0][:, 0], peaks[2][:, 1]], 1))


@pytest.mark.parametrize("power", [1, 2])
def test_legacy_padding_reads_what_it_is_not_coupled_to(power):
    inputs = OSCILLATOR.inputs(Scene("plain"))
    q, k, v, r = inputs.values()
    real = torch.ones(2, 6, dtype=torch.bool)
    real[1, 4:] = False
    out = functional.oscillator_attention(
        q, k, v, r, key_mask=real, legacy_padding=True, readout_power=power
    )
    W = torch.nn.functional.softplus(q @ k.mT / 2) * real[:, None, None]
    x = W @ r
    a = (1 + x / x.norm(dim=-1, keepdim=True) @ r.mT) ** power
    assert_same(out, a / a.sum(-1, keepdim=True) @ v)
    masked = functional.oscillator_attention(q, k, v, r, key_mask=real, readout_power=power)
    assert_same(out[0], masked[0])
    assert (out - masked)[1].abs().max() > 1e-2


def test_padding_hides_keys_of_another_stream_and_none_of_its_queries():
    inputs = OSCILLATOR.inputs(Scene("plain"))
    q, k, v, r = inputs.values()
    real = torch.ones(2, 6, dtype=torch.bool)
    real[:, 3:] = False
    out = functional.oscillator_attention(q, k, v, r, key_mask=real)
    assert_same(out, functional.oscillator_attention(q, k[:, :, :3], v[:, :, :3], r[:, :, :3]))


@pytest.mark.parametrize("mode", ["settle(0.5)", "euler(4, 0.1)", "ode(0.5, 1e-9, 1e-10)"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_the_default_start_hangs_on_the_place_alone(mode, is_causal):
    inputs = OSCILLATOR.inputs(Scene("plain", batch=1, queries=8, keys=8))
    whole = functional.oscillator_attention(*inputs.values(), mode=mode, is_causal=is_causal)
    again = functional.oscillator_attention(*inputs.values(), mode=mode, is_causal=is_causal)
    assert torch.equal(whole, again)
    q, k, v, r = inputs.values()
    late = functional.oscillator_attention(q[:, :, 5:], k, v, r, mode=mode, is_causal=is_causal)
    assert_same(late, whole[:, :, 5:], 1e-8)
    packed = functional.oscillator_attention(
        *(torch.cat([x, x], 2) for x in (q, k, v, r)), mode=mode, is_causal=is_causal,
        cu_seqlens=torch.tensor([0, 8, 16]),
    )  # fmt: skip
    assert_same(packed, torch.cat([whole, whole], 2), 1e-8)


@pytest.mark.parametrize("mode", ["equilibrium", "settle(0.4)", "euler(4, 0.1)", "ode(0.4)"])
@pytest.mark.parametrize("power", [1, 2])
def test_turning_anchors_and_starts_together_changes_nothing(mode, power):
    inputs = OSCILLATOR.inputs(Scene("plain"))
    q, k, v, r = inputs.values()
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(2, 2, 6, 3, generator=generator, dtype=torch.float64)
    Q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    options = {"mode": mode, "readout_power": power, "is_causal": True}
    plain = functional.oscillator_attention(q, k, v, r, initial_oscillator=start, **options)
    turned = functional.oscillator_attention(
        q, k, v, r @ Q, initial_oscillator=start @ Q, **options
    )
    assert_same(turned, plain, 1e-6 if mode.startswith("ode") else 1e-12)


def test_two_dimensions_for_a_time_are_phases_driven_by_references():
    inputs = OSCILLATOR.inputs(Scene("plain", batch=1))
    q, k, v, _ = (x.detach() for x in inputs.values())
    generator = torch.Generator().manual_seed(5)
    phi, theta = 2 * torch.randn(2, 1, 2, 6, generator=generator, dtype=torch.float64)
    r, start = (torch.stack([t.cos(), t.sin()], -1) for t in (phi, theta))
    out = functional.oscillator_attention(
        q, k, v, r, mode="settle(0.8)", initial_oscillator=start, is_causal=True
    )
    W = torch.nn.functional.softplus(q @ k.mT / 2).tril()

    def speed(t):
        return (W * torch.sin(phi[..., None, :] - t[..., :, None])).sum(-1)

    dt = 0.8 / 400
    for _ in range(400):
        a = speed(theta)
        b = speed(theta + dt / 2 * a)
        c = speed(theta + dt / 2 * b)
        theta = theta + dt / 6 * (a + 2 * b + 2 * c + speed(theta + dt * c))
    a = (1 + torch.cos(theta[..., :, None] - phi[..., None, :])).tril()
    assert_same(out, a / a.sum(-1, keepdim=True) @ v, 1e-8)


def test_bad_arguments_are_refused():
    inputs = OSCILLATOR.inputs(Scene("plain"))
    for options, message in (
        ({"mode": "settle"}, "`mode` must be 'equilibrium', 'settle"),
        ({"mode": "euler(3, 1e3)"}, "`step` times the largest drive must be at most 2.*row_gain"),
        ({"readout_gain": float("nan")}, "`readout_gain` must be finite"),
        ({"backend": "fast"}, "`backend` of oscillator_attention must be"),
        ({"readout_power": 3}, "`readout_power` must be one of 1, 2, 4"),
    ):
        with pytest.raises(ValueError, match=message):
            functional.oscillator_attention(*inputs.values(), **options)
    with pytest.raises(BackendUnavailableError, match=r"`coupling` is given by name \(NOT met"):
        functional.oscillator_attention(*inputs.values(), coupling=torch.exp, backend="blockwise")
    with pytest.raises(ValueError, match="`anchor` must have vectors of length above 0; got 24"):
        functional.oscillator_attention(
            *list(inputs.values())[:3], torch.zeros(2, 2, 6, 3, dtype=torch.float64)
        )
