import inspect

import pytest
import torch

from syncattn import SynchronizationState, functional, selective_synchronization_step
from tests.tolerance import assert_same

LENGTH = 11


def drawn(dtype=torch.float64, phases=True):
    generator = torch.Generator().manual_seed(6)
    sizes = (2, 2, 3) if phases else (2, 2)
    omega, value, *phase = (
        0.4 * torch.randn(2, 2, LENGTH, n + 1, generator=generator, dtype=dtype) for n in sizes
    )
    couplings = {
        "coupling_strength": torch.tensor([1.3, 0.9], dtype=dtype),
        "coupling_decay": torch.tensor([1.1, 0.6], dtype=dtype),
    }
    return (omega, value, phase[0] if phases else None), couplings


def whole(tensors, **options):
    omega, value, phase = tensors
    return functional.selective_synchronization(
        omega, omega, value, phase, is_causal=True, **options
    )


def stepped(tensors, chunks, key_mask=None, **options):
    """Returns the outputs of all steps and the last state."""
    state, outputs, start = None, [], 0
    for size in chunks:
        part = slice(start, start + size)
        new = (None if x is None else x[:, :, part] for x in tensors)
        mask = None if key_mask is None else key_mask[:, part]
        out, state = selective_synchronization_step(*new, state, key_mask=mask, **options)
        outputs.append(out)
        start += size
    assert start == LENGTH
    return torch.cat(outputs, 2), state


CHUNKS = pytest.mark.parametrize("chunks", [(1,) * LENGTH, (4, 1, 1, 5), (LENGTH,)])


@CHUNKS
@pytest.mark.parametrize("backend", ["auto", "blockwise", "pruned", "band", "reference"])
@pytest.mark.parametrize("phases", [True, False])
def test_token_by_token_is_the_full_causal_pass(chunks, backend, phases):
    tensors, couplings = drawn(phases=phases)
    options = couplings | {"backend": backend, "position_coordinate": 0}
    out, state = stepped(tensors, chunks, **options)
    assert_same(out, whole(tensors, **options))
    assert state.length == LENGTH
    assert (state.num_real == LENGTH).all()


@CHUNKS
def test_options_reach_the_step(chunks):
    tensors, couplings = drawn()
    plain = whole(tensors, **couplings)
    for option in (
        {"unbiased_order_parameter": True}, {"smoothing": 0.1}, {"top_k": 2},
    ):  # fmt: skip
        expected = whole(tensors, **couplings, **option)
        assert not torch.equal(expected, plain)
        assert_same(stepped(tensors, chunks, **couplings, **option)[0], expected)


@CHUNKS
def test_padding_on_the_left_changes_nothing(chunks):
    tensors, couplings = drawn()
    real = torch.ones(2, LENGTH, dtype=torch.bool)
    real[1, :5] = False
    garbage = [x.clone() for x in tensors]
    for x in garbage:
        x[1, :, :5] = torch.nan
    out, state = stepped(garbage, chunks, real, **couplings)
    alone = whole([x[1:, :, 5:] for x in tensors], **couplings)
    assert_same(out[:1], whole([x[:1] for x in tensors], **couplings))
    assert_same(out[1:, :, 5:], alone)
    assert_same(out[:, :, 5:], whole(garbage, key_mask=real, **couplings)[:, :, 5:])
    assert state.num_real.flatten().tolist() == [LENGTH, LENGTH - 5]


def test_a_mask_may_begin_late_and_end_early():
    tensors, couplings = drawn()
    real = torch.ones(2, LENGTH, dtype=torch.bool)
    real[:, 4] = False
    state, outputs = None, []
    for part in (slice(0, 4), slice(4, 5), slice(5, LENGTH)):
        mask = real[:, part] if part.start == 4 else None
        out, state = selective_synchronization_step(
            *(x[:, :, part] for x in tensors), state, key_mask=mask, **couplings
        )
        outputs.append(out)
    kept = real[0]
    expected = whole([x[:, :, kept] for x in tensors], **couplings)
    assert_same(torch.cat(outputs, 2)[:, :, kept], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_keeps_its_dtype(dtype):
    tensors, couplings = drawn(dtype)
    out, state = stepped(tensors, (1,) * LENGTH, **couplings)
    assert out.dtype == state.frequency.dtype == dtype
    assert state.cosine.dtype == torch.float32
    torch.testing.assert_close(out, whole(tensors, **couplings))


def test_gradients_flow_through_the_steps():
    tensors, couplings = drawn()
    tensors = [x.requires_grad_() for x in tensors]
    gradients = [
        torch.autograd.grad(out.square().sum(), tensors)
        for out in (stepped(tensors, (4, 7), **couplings)[0], whole(tensors, **couplings))
    ]
    for stepwise, full in zip(*gradients, strict=True):
        assert full.any()
        assert_same(stepwise, full, 1e-10)


def test_a_state_follows_the_beams():
    tensors, couplings = drawn()
    first = [x[:, :, :8] for x in tensors]
    _, state = selective_synchronization_step(*first, **couplings)
    order = torch.tensor([1, 0, 1])
    out, _ = selective_synchronization_step(
        *(x[:, :, 8:].index_select(0, order) for x in tensors), state.select(order), **couplings
    )
    assert_same(out, whole(tensors, **couplings)[:, :, 8:].index_select(0, order))


def test_a_detached_state_forgets_its_history():
    tensors, couplings = drawn(phases=False)
    omega = tensors[0].requires_grad_()
    _, state = selective_synchronization_step(omega, tensors[1], **couplings)
    assert state.frequency.requires_grad
    assert not state.detach().frequency.requires_grad
    assert isinstance(state.detach(), SynchronizationState)
    assert state.detach().cosine is None


def test_what_does_not_fit_is_refused():
    tensors, couplings = drawn()
    omega, value, phase = tensors
    _, state = selective_synchronization_step(*tensors, **couplings)

    # Without the typing hook, which would speak first.
    plain = inspect.unwrap(selective_synchronization_step)

    def step(*arguments, **options):
        return plain(*arguments, **couplings, **options)

    for name in ("is_causal", "attn_mask", "self_pairs"):
        with pytest.raises(ValueError, match=f"`{name}` must be left out in a decoding step"):
            step(omega, value, phase, **{name: True})
    with pytest.raises(ValueError, match="`phase` must be passed in every step"):
        step(omega, value, None, state)
    with pytest.raises(ValueError, match="`key_mask` must have one entry for each new token"):
        step(omega, value, phase, key_mask=torch.ones(2, 3).bool())
    with pytest.raises(ValueError, match="`frequency` must hold at least one new token"):
        step(omega[:, :, :0], value[:, :, :0], phase[:, :, :0])
    with pytest.raises(ValueError, match=r"as many coordinates as `state.frequency`"):
        step(omega[..., :1], value, phase, state)
    with pytest.raises(ValueError, match="as many tokens as `frequency`"):
        step(omega, value[:, :, :3], phase)


def test_a_state_that_kept_its_phases_can_be_cropped():
    tensors, couplings = drawn()
    real = torch.ones(2, LENGTH, dtype=torch.bool)
    real[1, :3] = False
    _, state = stepped(tensors, (6, 5), real, keep_phases=True, **couplings)
    cropped = state.crop(6)
    _, expected = selective_synchronization_step(
        *(x[:, :, :6] for x in tensors), key_mask=real[:, :6], keep_phases=True, **couplings
    )
    for found, other in zip(cropped, expected, strict=True):
        assert_same(found.double(), other.double())
    out, _ = selective_synchronization_step(
        *(x[:, :, 6:] for x in tensors), cropped, keep_phases=True, **couplings
    )
    assert_same(out, stepped(tensors, (LENGTH,), real, **couplings)[0][:, :, 6:])


def test_without_its_phases_only_a_state_of_frequencies_can_be_cropped():
    tensors, couplings = drawn()
    _, state = stepped(tensors, (LENGTH,), **couplings)
    with pytest.raises(RuntimeError, match="The phases must have been kept to crop a state"):
        state.crop(4)
    with pytest.raises(ValueError, match="`keep_phases` must be the same in every step"):
        selective_synchronization_step(*tensors, state, keep_phases=True, **couplings)
    _, bare = stepped(drawn(phases=False)[0], (LENGTH,), **couplings)
    assert bare.crop(4).num_real.flatten().tolist() == [4, 4]
    with pytest.raises(ValueError, match="`length` must be at most the tokens of the state"):
        bare.crop(LENGTH + 1)


@pytest.mark.parametrize("width", [0, 1, 3])
def test_phases_of_another_width_than_those_of_the_past_are_refused(width):
    x = torch.randn(1, 2, 3, 2)
    _, state = functional.selective_synchronization_step(
        x, x, x, coupling_strength=1.3, coupling_decay=1.1
    )
    with pytest.raises(ValueError, match="`phase` must have as many coordinates"):
        functional.selective_synchronization_step(
            x, x, torch.randn(1, 2, 3, width), state, coupling_strength=1.3, coupling_decay=1.1
        )
