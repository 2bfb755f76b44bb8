import inspect

import pytest
import torch

from syncattn.nn import SelectiveSynchronization, SoftmaxAttention
from syncattn.nn.decoding import DecodingAttention, DecodingState, KeyValueState
from tests.nn.battery import WIDTH

LENGTH = 11


def selective(**options):
    return SelectiveSynchronization(WIDTH, 2, **({"frequency_dim": 3} | options))


LAYERS = {
    "softmax": lambda: SoftmaxAttention(WIDTH, 2),
    "selective": selective,
    "selective-coordinate": lambda: selective(position="coordinate", frequency_gain=0.1),
    "selective-drift": lambda: selective(position="drift"),
    "selective-learned": lambda: selective(position="learned", max_positions=LENGTH),
    "selective-options": lambda: selective(
        top_k=3, smoothing=0.1, unbiased_order_parameter=True, empty_rows="nearest"
    ),
    "selective-paper": lambda: SelectiveSynchronization(WIDTH, 4, variant="paper"),
}
EVERY_LAYER = pytest.mark.parametrize("name", LAYERS)
CHUNKS = pytest.mark.parametrize("chunks", [(1,) * LENGTH, (5, 1, 1, 4), (LENGTH,)])


@pytest.fixture
def layer(name):
    return LAYERS[name]().double().eval()


def stream(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, LENGTH, WIDTH, generator=generator, dtype=torch.float64)


def stepped(layer, x, chunks, key_mask=None, state=None):
    """Returns the outputs of all steps and the last state."""
    outputs, start = [], 0
    for size in chunks:
        part = slice(start, start + size)
        mask = None if key_mask is None else key_mask[:, part]
        out, state = layer.step(x[:, part], state, key_mask=mask)
        outputs.append(out)
        start += size
    return torch.cat(outputs, 1), state


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@EVERY_LAYER
@CHUNKS
def test_step_by_step_is_the_full_causal_pass(layer, chunks):
    x = stream()
    out, state = stepped(layer, x, chunks)
    assert_same(out, layer(x, is_causal=True))
    assert isinstance(layer, DecodingAttention)
    assert isinstance(state, DecodingState)
    assert state.length == LENGTH


@EVERY_LAYER
@torch.no_grad()
def test_without_gradients_the_steps_say_the_same(layer):
    x, real = stream(), torch.ones(2, LENGTH, dtype=torch.bool)
    real[1, :4] = False
    out, _ = stepped(layer, x, (5, 1, 2, 3), real)
    assert_same(out[real], layer(x, is_causal=True, key_mask=real)[real])


@EVERY_LAYER
@CHUNKS
@pytest.mark.parametrize("side", ["left", "right", "within"])
def test_padding_on_any_side(layer, chunks, side):
    x, real = stream(), torch.ones(2, LENGTH, dtype=torch.bool)
    # A prompt padded on the right leaves its padding within what follows.
    real[1, {"left": slice(0, 4), "right": slice(7, None), "within": slice(4, 6)}[side]] = False
    x[1, ~real[1]] = 1e3
    out, _ = stepped(layer, x, chunks, real)
    assert out.isfinite().all()
    assert_same(out[real], layer(x, is_causal=True, key_mask=real)[real])
    if side == "left":
        # Rotary angles are float32, so that another place is another rounding.
        alone = layer(x[1:, 4:], is_causal=True)
        torch.testing.assert_close(out[1:, 4:], alone, rtol=1e-5, atol=1e-5)


@EVERY_LAYER
def test_a_state_follows_the_beams(layer):
    x, order = stream(), torch.tensor([1, 1, 0])
    _, state = stepped(layer, x, (6,))
    out, after = stepped(layer, x[order][:, 6:], (1, 4), state=state.select(order))
    assert_same(out, layer(x[order], is_causal=True)[:, 6:])
    assert after.length == LENGTH
    assert state.length == 6


@EVERY_LAYER
@pytest.mark.parametrize("padded", [False, True])
def test_a_cropped_state_is_the_earlier_one(layer, padded):
    x = stream()
    real = torch.ones(2, LENGTH, dtype=torch.bool)
    real[1, :3] = not padded
    _, state = stepped(layer, stream(2), (6, 2), real if padded else None)
    _, earlier = stepped(layer, stream(2), (5,), real if padded else None)
    cropped = state.crop(5)
    assert cropped.length == 5
    outputs = [
        stepped(layer, x[:, 5:], (3,), real[:, 5:] if padded else None, s)[0]
        for s in (cropped, earlier)
    ]
    assert_same(*outputs)
    with pytest.raises(ValueError, match="`length` must be at most the tokens of the state"):
        state.crop(9)


@EVERY_LAYER
def test_gradients_flow_through_the_steps(layer):
    x = stream().requires_grad_()
    gradients = [
        torch.autograd.grad(out.square().sum(), [x, *layer.parameters()], allow_unused=True)
        for out in (stepped(layer, x, (4, 7))[0], layer(x, is_causal=True))
    ]
    for found, expected in zip(*gradients, strict=True):
        if expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@EVERY_LAYER
def test_what_does_not_fit_is_refused(layer):
    # Without the typing hook, which would speak first.
    step, x = inspect.unwrap(type(layer).step), stream()
    with pytest.raises(ValueError, match="`hidden_states` must hold at least one new token"):
        step(layer, x[:, :0])
    with pytest.raises(ValueError, match="`key_mask` must have one entry for each new token"):
        step(layer, x, key_mask=torch.ones(2, 3).bool())
    with pytest.raises(TypeError, match="`key_mask` must be a boolean tensor"):
        step(layer, x, key_mask=torch.ones(2, LENGTH))
    with pytest.raises(TypeError, match="`state` must be what the step before returned"):
        step(layer, x, object())


def test_cropping_to_nothing_is_refused():
    tokens = torch.zeros(1, 1, 3, 2)
    with pytest.raises(ValueError, match="`length` must be at least 1"):
        KeyValueState(tokens, tokens, None).crop(0)
