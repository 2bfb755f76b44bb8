import inspect

import pytest
import torch

from syncattn import functional
from syncattn.functional import (
    PhaseState,
    frustrated_synchronization_step,
    kuramoto_attention_step,
)
from tests.tolerance import assert_same

LENGTH = 9
CHUNKS = pytest.mark.parametrize("chunks", [(1,) * LENGTH, (4, 1, 4), (LENGTH,)])


def drawn(dtype=torch.float64, gated=True):
    generator = torch.Generator().manual_seed(6)
    tensors = [
        torch.randn(2, 2, LENGTH, 4, generator=generator, dtype=torch.float64).to(dtype)
        for _ in range(3)
    ]
    return tensors if gated else [tensors[0], None, None]


def kernel(delays, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    names = ("harmonic_amplitude", "frustration")
    shape = (2, delays, 2, 4)
    return {
        n: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for n in names
    }


OPERATORS = {
    "kuramoto": (functional.kuramoto_attention, kuramoto_attention_step, {}),
    "one delay": (
        functional.frustrated_synchronization, frustrated_synchronization_step, kernel(2)
    ),
    "two delays": (
        functional.frustrated_synchronization, frustrated_synchronization_step, kernel(3)
    ),
}  # fmt: skip
ALL = pytest.mark.parametrize("name", OPERATORS)
DRIFT = {"natural_frequency": torch.tensor([1.0, 0.5, 0.1, 3.0], dtype=torch.float64)}


def stepped(step, tensors, chunks, key_mask=None, **options):
    """Returns the increments of all steps and the last state."""
    state, outputs, start = None, [], 0
    for size in chunks:
        part = slice(start, start + size)
        new = (None if x is None else x[:, :, part] for x in tensors)
        mask = None if key_mask is None else key_mask[:, part]
        out, state = step(*new, state, key_mask=mask, **options)
        outputs.append(out)
        start += size
    return torch.cat(outputs, 2), state


def whole(operator, tensors, **options):
    phase, query_gate, key_gate = tensors
    return operator(phase, phase, query_gate, key_gate, is_causal=True, **options)


@CHUNKS
@ALL
@pytest.mark.parametrize("options", [{}, DRIFT | {"sink": 0.3}, {"exclude_self": False}])
@pytest.mark.parametrize("gated", [True, False])
def test_token_by_token_is_the_full_causal_pass(name, chunks, options, gated):
    operator, step, own = OPERATORS[name]
    tensors = drawn(gated=gated)
    out, state = stepped(step, tensors, chunks, **own, **options)
    assert_same(out, whole(operator, tensors, **own, **options))
    assert state.length == LENGTH
    assert (state.gate is None) != gated


@CHUNKS
@ALL
def test_padding_on_the_left_changes_nothing(name, chunks):
    operator, step, own = OPERATORS[name]
    tensors = drawn()
    real = torch.ones(2, LENGTH, dtype=torch.bool)
    real[1, :4] = False
    garbage = [x.clone() for x in tensors]
    for x in garbage:
        x[1, :, :4] = torch.nan
    out, _ = stepped(step, garbage, chunks, real, **own, **DRIFT)
    assert_same(out[:1], whole(operator, [x[:1] for x in tensors], **own, **DRIFT))
    alone = whole(operator, [x[1:, :, 4:] for x in tensors], **own, **DRIFT)
    assert_same(out[1:, :, 4:], alone)


@ALL
def test_a_mask_may_begin_late(name):
    operator, step, own = OPERATORS[name]
    tensors = drawn()
    _, state = step(*(x[:, :, :5] for x in tensors), **own)
    real = torch.tensor([[True, False, True, True]] * 2)
    out, state = step(*(x[:, :, 5:] for x in tensors), state, key_mask=real, **own)
    mask = torch.cat([torch.ones(2, 5, dtype=torch.bool), real], 1)
    expected = whole(operator, tensors, key_mask=mask, **own)
    assert_same(out[:, :, [0, 2, 3]], expected[:, :, [5, 7, 8]])
    assert torch.equal(state.key_mask, mask)


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_keeps_its_dtype(name, dtype):
    operator, step, own = OPERATORS[name]
    own = {n: x.to(dtype) for n, x in own.items()}
    tensors = drawn(dtype)
    out, state = stepped(step, tensors, (1,) * LENGTH, **own)
    assert out.dtype == state.phase.dtype == dtype
    torch.testing.assert_close(out, whole(operator, tensors, **own))


@ALL
def test_gradients_flow_through_the_steps(name):
    operator, step, own = OPERATORS[name]
    tensors = [x.requires_grad_() for x in drawn()]
    outs = stepped(step, tensors, (4, 5), **own)[0], whole(operator, tensors, **own)
    gradients = [torch.autograd.grad(out.square().sum(), tensors) for out in outs]
    for stepwise, full in zip(*gradients, strict=True):
        assert full.any()
        assert_same(stepwise, full, 1e-10)


@ALL
def test_a_state_follows_the_beams_and_goes_back(name):
    operator, step, own = OPERATORS[name]
    tensors = drawn()
    _, state = step(*(x[:, :, :7] for x in tensors), **own, key_mask=torch.ones(2, 7).bool())
    order = torch.tensor([1, 0, 1])
    chosen = state.select(order).crop(6)
    assert chosen.length == 6
    assert chosen.key_mask.shape == (3, 6)
    out, _ = step(*(x[:, :, 6:].index_select(0, order) for x in tensors), chosen, **own)
    assert_same(out, whole(operator, tensors, **own)[:, :, 6:].index_select(0, order))
    with pytest.raises(ValueError, match="`length` must be at most the tokens of the state"):
        state.crop(8)


@ALL
def test_a_step_may_take_another_backend_than_those_around_it(name):
    operator, step, own = OPERATORS[name]
    tensors = drawn()
    state, outputs = None, []
    for place in range(LENGTH):
        backend = "reference" if place in (3, 6) else "auto"
        new = (x[:, :, place : place + 1] for x in tensors)
        out, state = step(*new, state, backend=backend, **own, **DRIFT)
        outputs.append(out)
    assert_same(torch.cat(outputs, 2), whole(operator, tensors, **own, **DRIFT))


@ALL
def test_a_gate_alone_may_learn_through_the_steps(name):
    operator, step, own = OPERATORS[name]
    phase, query_gate, key_gate = drawn()
    query_gate.requires_grad_()
    tensors = [phase, query_gate, key_gate]
    outs = stepped(step, tensors, (1,) * LENGTH, **own)[0], whole(operator, tensors, **own)
    stepwise, full = (torch.autograd.grad(out.square().sum(), query_gate)[0] for out in outs)
    assert full.any()
    assert_same(stepwise, full, 1e-10)


@ALL
def test_a_state_of_inference_goes_on_without_gradients(name):
    operator, step, own = OPERATORS[name]
    tensors = drawn()
    with torch.inference_mode():
        first, state = stepped(step, [x[:, :, :4] for x in tensors], (1,) * 4, **own)
    with torch.no_grad():
        second, _ = step(*(x[:, :, 4:] for x in tensors), state, **own)
    assert_same(torch.cat([first, second], 2), whole(operator, tensors, **own))


def test_a_detached_state_forgets_its_history():
    theta = drawn()[0].requires_grad_()
    _, state = kuramoto_attention_step(theta)
    assert state.phase.requires_grad
    assert not state.detach().phase.requires_grad
    assert isinstance(state.detach(), PhaseState)


def test_what_does_not_fit_is_refused():
    phase, query_gate, key_gate = drawn()
    _, state = kuramoto_attention_step(phase, query_gate, key_gate)

    # Without the typing hook, which would speak first.
    step = inspect.unwrap(kuramoto_attention_step)
    for name in ("is_causal", "attn_mask", "cu_seqlens"):
        with pytest.raises(ValueError, match=f"`{name}` must be left out in a decoding step"):
            step(phase, **{name: True})
    with pytest.raises(ValueError, match="`key_gate` must be passed in every step"):
        step(phase, query_gate, None, state)
    with pytest.raises(ValueError, match="`key_mask` must have one entry for each new token"):
        step(phase, key_mask=torch.ones(2, 3).bool())
    with pytest.raises(ValueError, match="`phase` must hold at least one new token"):
        step(phase[:, :, :0])
    with pytest.raises(ValueError, match=r"as many coordinates as `state.phase`"):
        step(phase[..., :1], None, key_gate[..., :1], state)
