import pytest
import torch

from syncattn import OscillatorState, functional, oscillator_attention_step
from tests.tolerance import assert_same

LENGTH = 11
CHUNKS = pytest.mark.parametrize("chunks", [(1,) * LENGTH, (4, 1, 1, 5), (LENGTH,)])
OPTIONS = {
    "linear": {"anchor_bounded": True},
    "gain": {"anchor_bounded": True, "readout_gain": torch.tensor([0.3, 1.0]).double()},
    "sharp gain": {"anchor_bounded": True, "readout_gain": 2.5},
    "power": {"anchor_bounded": True, "readout_power": 4, "coupling": "elu"},
    "free": {"row_gain": True},
    "finite time": {"anchor_bounded": True, "mode": "settle(0.5)"},
    "euler": {"mode": "euler(4, 0.1)", "scale": 0.3},
}
EVERY_OPTION = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def drawn(dtype=torch.float64, value_dim=3, length=LENGTH):
    generator = torch.Generator().manual_seed(6)
    q, k, v, r = (
        torch.randn(2, 2, length, n, generator=generator).to(dtype) for n in (4, 4, value_dim, 3)
    )
    return q, k, v, 0.9 * r / r.norm(dim=-1, keepdim=True)


def whole(tensors, **options):
    return functional.oscillator_attention(*tensors, is_causal=True, **options)


def stepped(tensors, chunks, key_mask=None, **options):
    """Returns the outputs of all steps and the last state."""
    state, outputs, start = None, [], 0
    for size in chunks:
        part = slice(start, start + size)
        mask = None if key_mask is None else key_mask[:, part]
        out, state = oscillator_attention_step(
            *(x[:, :, part] for x in tensors), state, key_mask=mask, **options
        )
        outputs.append(out)
        start += size
    return torch.cat(outputs, 2), state


@CHUNKS
@EVERY_OPTION
def test_token_by_token_is_the_full_causal_pass(chunks, options):
    tensors = drawn()
    out, state = stepped(tensors, chunks, **options)
    assert_same(out, whole(tensors, **options))
    assert_same(out, whole(tensors, backend="reference", **options))
    assert state.length == LENGTH
    assert state.num_real.tolist() == [LENGTH, LENGTH]
    assert (state.value is None) == (state.sums is not None)


@CHUNKS
@EVERY_OPTION
def test_padding_changes_nothing(chunks, options):
    tensors = drawn()
    real = torch.ones(2, LENGTH, dtype=torch.bool)
    real[1, :5] = False
    garbage = [x.clone() for x in tensors]
    for x in garbage:
        x[1, :, :5] = torch.nan
    out, state = stepped(garbage, chunks, real, **options)
    assert_same(out[:1], whole([x[:1] for x in tensors], **options))
    assert_same(out[1:, :, 5:], whole([x[1:, :, 5:] for x in tensors], **options))
    assert state.num_real.tolist() == [LENGTH, LENGTH - 5]


def test_a_mask_may_begin_late():
    tensors = drawn()
    real = torch.ones(2, LENGTH, dtype=torch.bool)
    real[:, 4] = False
    for options in OPTIONS.values():
        state, outputs = None, []
        for part in (slice(0, 4), slice(4, 5), slice(5, LENGTH)):
            mask = real[:, part] if part.start == 4 else None
            out, state = oscillator_attention_step(
                *(x[:, :, part] for x in tensors), state, key_mask=mask, **options
            )
            outputs.append(out)
        kept = real[0]
        expected = whole([x[:, :, kept] for x in tensors], **options)
        assert_same(torch.cat(outputs, 2)[:, :, kept], expected)


def numbers(state, but=()):
    parts = state._asdict().items()
    return sum(x.numel() for name, x in parts if x is not None and name not in but)


@pytest.mark.parametrize("value_dim", [3, 300])
def test_the_memory_of_the_values_does_not_grow_with_the_length(value_dim):
    grown = []
    for length in (4, 9):
        _, state = stepped(drawn(value_dim=value_dim, length=length), (1,) * length,
                           anchor_bounded=True)  # fmt: skip
        grown.append(numbers(state))
        assert state.sums.shape == (2, 2, 4, value_dim + 1)
    # A key of 4 and an anchor of 3 coordinates for every new token, batch and head.
    assert grown[1] - grown[0] == 5 * 2 * 2 * (4 + 3)
    _, kept = stepped(drawn(value_dim=value_dim), (1,) * LENGTH, readout_power=2)
    assert kept.value.shape == (2, 2, LENGTH, value_dim)


@EVERY_OPTION
def test_a_state_can_be_cropped_and_reordered(options):
    tensors = drawn()
    _, state = stepped([x[:, :, :8] for x in tensors], (5, 3), keep_values=True, **options)
    cropped = state.crop(6)
    assert isinstance(cropped, OscillatorState)
    assert cropped.length == 6
    out, _ = oscillator_attention_step(
        *(x[:, :, 6:] for x in tensors), cropped, keep_values=True, **options
    )
    assert_same(out, whole(tensors, **options)[:, :, 6:])
    swap = torch.tensor([1, 0, 1])
    more = [x[swap][:, :, 8:] for x in tensors]
    out, _ = oscillator_attention_step(*more, state.select(swap), keep_values=True, **options)
    assert_same(out, whole(tensors, **options)[swap][:, :, 8:])


def test_a_padded_state_can_be_cropped():
    tensors, real = drawn(), torch.ones(2, LENGTH, dtype=torch.bool)
    real[1, :5] = False
    options = {"anchor_bounded": True, "keep_values": True}
    _, state = stepped(tensors, (LENGTH,), real, **options)
    _, short = stepped([x[:, :, :7] for x in tensors], (7,), real[:, :7], **options)
    for got, wanted in zip(state.crop(7), short, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_keeps_its_dtype(dtype):
    tensors = drawn(dtype)
    out, state = stepped(tensors, (1,) * LENGTH, anchor_bounded=True)
    assert out.dtype == state.key.dtype == dtype
    assert state.sums.dtype == torch.float32
    torch.testing.assert_close(out, whole(tensors, anchor_bounded=True))


@EVERY_OPTION
def test_gradients_flow_through_the_steps(options):
    tensors = [x.requires_grad_() for x in drawn()]
    gradients = [
        torch.autograd.grad(out.square().sum(), tensors)
        for out in (stepped(tensors, (4, 7), **options)[0], whole(tensors, **options))
    ]
    for got, wanted in zip(*gradients, strict=True):
        assert_same(got, wanted, 1e-10)
    _, state = stepped(tensors, (4, 7), **options)
    assert not any(x.requires_grad for x in state.detach() if x is not None)


def test_what_contradicts_decoding_is_refused():
    q, k, v, r = drawn()
    _, linear = oscillator_attention_step(q, k, v, r, anchor_bounded=True)
    for options, message in (
        ({"is_causal": True}, "`is_causal` must be left out"),
        ({"legacy_padding": True}, "`legacy_padding` must be left out"),
        ({"state": linear}, "The state must hold the values unless"),
        ({"state": linear, "anchor_bounded": True, "keep_values": True}, "Begin with `keep_values"),
        ({"state": linear.select(torch.tensor([0])), "anchor_bounded": True}, "as many sequences"),
    ):
        with pytest.raises(ValueError, match=message):
            oscillator_attention_step(q, k, v, r, **options)
    with pytest.raises(ValueError, match="`key` must hold at least one new token"):
        oscillator_attention_step(*(x[:, :, :0] for x in (q, k, v, r)))
    with pytest.raises(RuntimeError, match=r"must have been kept to crop.*`keep_values=True`"):
        linear.crop(3)
    with pytest.raises(ValueError, match="`length` must be at most the tokens of the state"):
        linear.crop(LENGTH + 1)
