import pytest
import torch

from syncattn.analysis.explorer_switches import Changes, Switch, off_heads, switched
from syncattn.models import MECHANISMS
from tests.analysis.explored import build, ids

EVERY_MECHANISM = pytest.mark.parametrize("mechanism", MECHANISMS)
TORUS = ("kuramoto", "frustrated")


def attentions(model):
    return [layer.attention for layer in model.model.layers]


def logits(model, changes):
    with torch.no_grad(), switched(attentions(model), changes):
        return model(ids()).logits


def first_layer(model, changes):
    """Returns what the first attention adds to the stream, and its weights."""
    block = model.model.layers[0]
    with torch.no_grad(), switched(attentions(model), changes):
        x = model.model.embed_tokens(ids())
        x = x if model.config.on_torus else block.attention_norm(x)
        picture = block.attention.synchrony(x, is_causal=True)
        return block.attention(x, is_causal=True), picture, x, block.attention


@EVERY_MECHANISM
@pytest.mark.parametrize("off", [(Switch(1, 1),), (Switch(0),), (Switch(0), Switch(1, 0))])
def test_a_switch_changes_the_model_and_gives_it_back(mechanism, off):
    model = build(mechanism)
    before = model(ids()).logits
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    assert (logits(model, Changes(off)) - before).abs().max() > 1e-5
    torch.testing.assert_close(model(ids()).logits, before, rtol=0, atol=0)
    after = model.state_dict()
    assert list(after) == list(weights)
    assert all(torch.equal(after[name], weights[name]) for name in weights)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in build(mechanism).named_parameters()]  # fmt: skip  # noqa: E501


@EVERY_MECHANISM
def test_a_failure_inside_gives_the_model_back_too(mechanism):
    model = build(mechanism)
    before = model(ids()).logits
    with pytest.raises(KeyError), switched(attentions(model), Changes((Switch(0),))):
        raise KeyError
    torch.testing.assert_close(model(ids()).logits, before, rtol=0, atol=0)


@EVERY_MECHANISM
def test_all_heads_off_are_the_layer_off(mechanism):
    model = build(mechanism)
    heads = logits(model, Changes((Switch(1, 0), Switch(1, 1))))
    torch.testing.assert_close(heads, logits(model, Changes((Switch(1),))), rtol=0, atol=0)


@pytest.mark.parametrize("mechanism", TORUS)
def test_an_uncoupled_head_pulls_no_phase(mechanism):
    added, *_ = first_layer(build(mechanism), Changes((Switch(0, 1),)))
    assert torch.equal(added[..., 8:], torch.zeros_like(added[..., 8:]))
    assert (added[..., :8].abs() > 1e-4).any()


def test_softmax_leaves_the_head_out():
    added, *_ = first_layer(build("softmax"), Changes((Switch(0),)))
    assert torch.equal(added, torch.zeros_like(added))


def test_selective_without_coupling_locks_each_token_with_itself():
    picture = first_layer(build("selective"), Changes((Switch(0, 1),)))[1]
    torch.testing.assert_close(picture.weights[0, 1], torch.eye(24))
    assert (picture.weights[0, 0].tril(-1) > 0).any()


@pytest.mark.parametrize("gain", [4.0, None])
def test_oscillators_without_drive_read_the_mean(gain):
    model = build("oscillator", attention_options={"readout_gain": gain})
    picture = first_layer(model, Changes((Switch(0, 1),)))[1]
    even = torch.ones(24, 24).tril()
    torch.testing.assert_close(picture.weights[0, 1], even / even.sum(-1, keepdim=True))
    assert model.model.layers[0].attention.readout_gain is None or gain is not None


def test_a_bandwidth_scales_every_cutoff():
    model = build("selective")
    _, plain, x, layer = first_layer(model, Changes())
    for factor in (0.5, 2.0):
        wide = first_layer(model, Changes(bandwidth=factor))[1]
        # The same pairs lock when all frequencies are divided instead.
        with torch.no_grad():
            for part in (layer.frequency_proj.weight, layer.frequency_position.rate):
                part.div_(factor)
            expected = layer.synchrony(x, is_causal=True)
            for part in (layer.frequency_proj.weight, layer.frequency_position.rate):
                part.mul_(factor)
        torch.testing.assert_close(wide.weights, expected.weights, rtol=1e-3, atol=1e-4)
        gained = wide.locked.sum() - plain.locked.sum()
        assert gained > 0 if factor > 1 else gained < 0


def test_a_stronger_coupling_locks_more():
    model = build("selective")
    counts = [
        int(first_layer(model, Changes(strength=k))[1].locked.sum()) for k in (0.25, 1.0, 4.0)
    ]
    assert counts[0] < counts[1] < counts[2]


def test_no_change_changes_no_bit():
    model = build("selective")
    torch.testing.assert_close(logits(model, Changes()), model(ids()).logits, rtol=0, atol=0)


@pytest.mark.parametrize("part", [{"harmonic": 1}, {"delay": 1}, {"harmonic": 2, "delay": 0}])
def test_part_of_a_kernel_goes_and_the_rest_stays(part):
    model = build("frustrated")
    kernel = model.model.layers[0].attention.coupling_kernel
    with torch.no_grad():
        kernel.raw_amplitude.uniform_(0.5, 1.0)
    kernel.freeze(amplitude=True, head=1)
    before = kernel.signed_amplitude.clone()
    with switched(attentions(model), Changes((Switch(0, 1, **part),))):
        after = kernel.signed_amplitude.clone()
    expected = before.clone()
    harmonic, delay = part.get("harmonic"), part.get("delay")
    expected[
        1,
        slice(None) if delay is None else delay,
        slice(None) if harmonic is None else harmonic - 1,
    ] = 0
    assert torch.equal(after, expected)
    assert torch.equal(kernel.signed_amplitude, before)


def test_off_heads():
    off = [Switch(0, 1), Switch(1), Switch(0, 0, harmonic=1)]
    assert off_heads(off, 0, 2).tolist() == [False, True]
    assert off_heads(off, 1, 2).tolist() == [True, True]
    assert off_heads(off, 2, 2).tolist() == [False, False]


def test_a_switch_has_a_name():
    assert str(Switch(0)) == "layer 1"
    assert str(Switch(1, 0, harmonic=2, delay=1)) == "layer 2, head 1, harmonic 2, delay 1"


@pytest.mark.parametrize(
    ("mechanism", "switch", "named"),
    [
        ("softmax", Switch(2), "`layer` must be at most 1; got 2"),
        ("softmax", Switch(-1), "`layer` must be at least 0"),
        ("selective", Switch(0, 2), "`head` must be at most 1"),
        ("kuramoto", Switch(0, 0, harmonic=1), "without a coupling kernel"),
        ("frustrated", Switch(0, 0, harmonic=3), "`harmonic` must be at most 2"),
        ("frustrated", Switch(0, 0, delay=2), "`delay` must be at most 1"),
    ],
)
def test_what_does_not_exist_is_refused(mechanism, switch, named):
    model = build(mechanism)
    with pytest.raises(ValueError, match=named), switched(attentions(model), Changes((switch,))):
        pass


@pytest.mark.parametrize("name", ["strength", "bandwidth"])
@pytest.mark.parametrize("factor", [0.0, 1e9, float("nan")])
def test_a_factor_out_of_range_is_refused(name, factor):
    with pytest.raises(ValueError, match=f"`{name}` must be finite and between"):
        Changes(**{name: factor})
