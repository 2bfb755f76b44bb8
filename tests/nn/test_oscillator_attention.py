import copy

import pytest
import torch

from syncattn.nn import OscillatorAttention
from syncattn.nn.anchors import KINDS
from syncattn.nn.decoding import DecodingAttention, DecodingState
from tests.nn.battery import LENGTH, WIDTH, ModuleLaws


class TestOscillatorAttention(ModuleLaws):
    def build(self):
        return OscillatorAttention(WIDTH, 2, max_positions=16, oscillator_dim=3)


class TestPublishedForm(ModuleLaws):
    def build(self):
        return OscillatorAttention(
            WIDTH, 2, max_positions=16, oscillator_dim=2, variant="paper"
        )  # fmt: skip


class TestUnitAnchors(ModuleLaws):
    def build(self):
        return OscillatorAttention(
            WIDTH, 2, max_positions=16, oscillator_dim=3, anchors="unit", readout_gain=None
        )


class TestContentAnchors(ModuleLaws):
    def build(self):
        return OscillatorAttention(
            WIDTH, 2, oscillator_dim=3, anchors="content", readout_power=2, readout_gain=3.0
        )


class TestRotaryAnchorsForATime(ModuleLaws):
    def build(self):
        return OscillatorAttention(
            WIDTH, 2, oscillator_dim=4, anchors="rotary", mode="settle(0.7)", rotary_base=None
        )


class TestRotaryContentByEuler(ModuleLaws):
    def build(self):
        return OscillatorAttention(
            WIDTH, 2, oscillator_dim=5, anchors="rotary-content", mode="euler(6, 0.5)",
            row_gain=True, coupling="elu",
        )  # fmt: skip


def stream(length=9, width=WIDTH, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, width, generator=generator, dtype=torch.float64)


def build(**options):
    torch.manual_seed(3)
    return OscillatorAttention(WIDTH, 2, **({"max_positions": 16} | options)).double()


@pytest.mark.parametrize("coupling", ["softplus", "relu", "elu", torch.exp])
@pytest.mark.parametrize("readout_power", [1, 2, 4])
def test_every_option_trains(coupling, readout_power):
    module = OscillatorAttention(
        8, 2, max_positions=9, coupling=coupling, readout_power=readout_power, anchors="unit"
    )
    module(torch.randn(2, 9, 8), is_causal=True).square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in module.parameters())


def published(layer, x, *, power, causal=False, real=None, leaking=False):
    """Returns the published layer, written anew pair by pair from its equations."""
    state, (batch, length, width) = layer.state_dict(), x.shape
    heads, dh = layer.num_heads, width // layer.num_heads
    out = torch.zeros_like(x)
    for b in range(batch):
        f, g, v = (x[b] @ state[f"{n}_proj.weight"].T for n in "qkv")
        mixed = torch.zeros(length, width, dtype=x.dtype)
        for h in range(heads):
            part = slice(h * dh, (h + 1) * dh)
            r = state["anchors.raw_anchor"][h, :length]
            for i in range(length):
                score = torch.stack([f[i, part].dot(g[j, part]) for j in range(length)]) / dh**0.5
                W = torch.log1p(torch.exp(-score.abs())) + score.clamp(min=0)
                see = torch.tensor([float(j <= i or not causal) for j in range(length)])
                column = torch.ones(length) if real is None else real[b].float()
                drive = ((W * see * column)[:, None] * r).sum(0)
                z = drive / drive.norm().clamp(min=1e-8)
                a = (1 + r @ z).clamp(min=0) ** power * see * (1 if leaking else column)
                mixed[i, part] = (a / a.sum().clamp(min=1e-8)) @ v[:, part]
        out[b] = mixed @ state["o_proj.weight"].T + state["o_proj.bias"]
    return out


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("power", [1, 4])
@pytest.mark.parametrize("leaking", [False, True])
@pytest.mark.parametrize("stretch", [1.0, 2.5])
def test_the_paper_variant_is_the_published_layer(dtype, tolerance, power, leaking, stretch):
    layer = build(
        variant="paper", oscillator_dim=2, readout_power=power, legacy_padding=leaking
    ).to(dtype)
    with torch.no_grad():
        # Training drives free anchors off the sphere.
        layer.anchors.raw_anchor.mul_(torch.linspace(1 / stretch, stretch, 16)[:, None])
    x = stream(6).to(dtype)
    real = torch.ones(2, 6, dtype=torch.bool)
    real[1, 4:] = False
    for options in ({}, {"causal": True}, {"real": real}, {"real": real, "causal": True}):
        expected = published(layer, x, power=power, leaking=leaking, **options)
        named = {"is_causal": options.get("causal", False), "key_mask": options.get("real")}
        rows = real if "real" in options and not leaking else torch.ones_like(real)
        found = layer(x, **named)
        assert (found - expected)[rows].abs().max() <= tolerance * expected.abs().max()


def test_the_paper_variant_is_what_it_says():
    layer = build(variant="paper", oscillator_dim=2)
    assert layer.o_proj.bias is not None
    assert all(p.bias is None for p in (layer.q_proj, layer.k_proj, layer.v_proj))
    assert layer.rotary_base is None
    assert layer.readout_gain is None
    assert not layer.options["legacy_padding"]
    norm = layer.anchors.raw_anchor.norm(dim=-1)
    torch.testing.assert_close(norm, torch.ones_like(norm))
    assert sum(p.numel() for p in layer.parameters()) == 4 * WIDTH**2 + WIDTH + 2 * 16 * 2
    assert build(variant="paper", anchors="unit", coupling="relu").anchor_kind == "unit"
    for options in ({"rotary_base": 5.0}, {"bias": False}, {"row_gain": True}):
        with pytest.raises(ValueError, match="must be left out with `variant` 'paper'"):
            build(variant="paper", **options)


@pytest.mark.parametrize("kind", KINDS)
def test_modes_share_their_parameters_and_meet_at_the_equilibrium(kind):
    layer, x = build(anchors=kind, oscillator_dim=4, row_gain=True), stream()
    settled = layer(x, is_causal=True)
    names = list(layer.state_dict())
    gaps = []
    for mode in ("settle(0.5)", "settle(5)", "settle(1e4)", "euler(3000, 0.5)"):
        layer.mode = mode
        assert str(layer.mode).split("(")[0] == mode.split("(")[0]
        gaps.append((layer(x, is_causal=True) - settled).abs().max())
    assert gaps[0] > gaps[1] > gaps[2]
    assert max(gaps[2], gaps[3]) < 1e-9
    assert list(layer.state_dict()) == names
    layer.mode = "equilibrium"
    assert torch.equal(layer(x, is_causal=True), settled)


def test_the_start_can_be_chosen():
    layer, x = build(mode="settle(0.3)"), stream()
    one = torch.randn(1, 2, 9, 8, dtype=torch.float64)
    assert (layer(x, initial_oscillator=one) - layer(x)).abs().max() > 1e-4
    torch.testing.assert_close(layer(x, initial_oscillator=3 * one),
                               layer(x, initial_oscillator=one))  # fmt: skip


@pytest.mark.parametrize("kind", ["rotary", "rotary-content"])
@pytest.mark.parametrize("mode", ["equilibrium", "settle(1)"])
def test_rotary_anchors_see_differences_of_place_alone(kind, mode):
    layer = build(anchors=kind, max_positions=None, oscillator_dim=4, rotary_base=None)
    x = stream()
    before = stream(40, seed=2)
    apart = torch.zeros(9, 49, dtype=torch.bool)
    apart[:, 40:] = True
    layer.mode = mode
    start = torch.zeros(1, 2, 9, 4, dtype=torch.float64)
    start[..., 0] = 1
    near = layer(x, initial_oscillator=start, is_causal=True)
    # The same tokens forty places later, blind to what comes before: everything turned by R(40 ω).
    allowed = torch.cat([torch.zeros(40, 49, dtype=torch.bool), apart])
    far_start = torch.zeros(1, 2, 49, 4, dtype=torch.float64)
    angle = 40 * layer.anchors.rate[:, 0]
    far_start[..., 0], far_start[..., 1] = angle.cos()[None, :, None], angle.sin()[None, :, None]
    late = layer(
        torch.cat([before, x], 1), attn_mask=allowed, is_causal=True, initial_oscillator=far_start
    )
    torch.testing.assert_close(late[:, 40:], near, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["content", "rotary", "rotary-content"])
def test_anchors_without_a_table_take_any_length(kind):
    layer = build(anchors=kind, max_positions=None)
    for length in (1, 100, 300):
        assert layer(stream(length, batch=1), is_causal=True).isfinite().all()


def test_content_anchors_have_no_order():
    layer, x = build(anchors="content", rotary_base=None, max_positions=None), stream()
    order = torch.randperm(9)
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])


@pytest.mark.parametrize("kind", ["ball", "content", "rotary"])
def test_cross_attention_reads_another_stream(kind):
    layer, x, other = build(anchors=kind, readout_power=2), stream(4), stream(9, seed=5)
    out = layer(x, encoder_hidden_states=other)
    assert out.shape == x.shape
    q, k, v = (
        p(s).unflatten(-1, (2, -1)).transpose(1, 2)
        for p, s in ((layer.q_proj, x), (layer.k_proj, other), (layer.v_proj, other))
    )
    r = layer.anchor(other)
    drive = torch.nn.functional.softplus(q @ k.mT / 8**0.5 - 4) @ r
    a = (1 + drive / drive.norm(dim=-1, keepdim=True) @ r.mT) ** 2
    expected = layer.project(a / a.sum(-1, keepdim=True) @ v)
    torch.testing.assert_close(out, expected)
    # One query per key and padding among the keys: the queries are not padding.
    x = stream(9, seed=7)
    real = torch.ones(2, 9, dtype=torch.bool)
    real[:, 6:] = False
    torch.testing.assert_close(
        layer(x, encoder_hidden_states=other, key_mask=real),
        layer(x, encoder_hidden_states=other[:, :6]),
    )
    picture = layer.synchrony(x, encoder_hidden_states=other, key_mask=real)
    assert picture.weights.shape == (2, 2, 9, 9)
    assert layer.diagnostics(x, encoder_hidden_states=other).num_coupled == 2 * 2 * 9


DECODERS = {
    "default": {},
    "paper": {"variant": "paper"},
    "sharp": {"readout_gain": 2.0},
    "power": {"readout_power": 4},
    "content": {"anchors": "content"},
    "rotary": {"anchors": "rotary", "rotary_base": None},
    "rotary-content": {"anchors": "rotary-content"},
    "finite time": {"mode": "settle(0.5)", "row_gain": True},
}


@pytest.mark.parametrize("options", DECODERS.values(), ids=DECODERS)
@pytest.mark.parametrize("chunks", [(1,) * 9, (4, 1, 4), (9,)])
def test_step_by_step_is_the_full_causal_pass(options, chunks):
    layer, x = build(**options), stream()
    real = torch.ones(2, 9, dtype=torch.bool)
    real[1, :3] = False
    for mask in (None, real):
        state, outputs, start = None, [], 0
        for size in chunks:
            part = slice(start, start + size)
            out, state = layer.step(
                x[:, part], state, key_mask=None if mask is None else mask[:, part]
            )
            outputs.append(out)
            start += size
        rows = real if mask is not None else torch.ones_like(real)
        expected = layer(x, is_causal=True, key_mask=mask)
        found = torch.cat(outputs, 1)
        torch.testing.assert_close(found[rows], expected[rows], rtol=1e-10, atol=1e-10)
    assert (state.value is None) == (options.get("anchors") is not None or not options)


def test_decoding_goes_on_from_a_cropped_state():
    layer, x = build(), stream()
    _, state = layer.step(x[:, :8], keep_values=True)
    assert isinstance(layer, DecodingAttention)
    assert isinstance(state, DecodingState)
    out, _ = layer.step(x[:, 5:], state.crop(5), keep_values=True)
    torch.testing.assert_close(out, layer(x, is_causal=True)[:, 5:])


def test_leaking_padding_cannot_be_decoded_and_no_padding_can():
    layer, x = build(variant="paper", legacy_padding=True), stream()
    out, _ = layer.step(x)
    torch.testing.assert_close(out, layer(x, is_causal=True))
    with pytest.raises(ValueError, match="`legacy_padding` must be left out in a decoding step"):
        layer.step(x, key_mask=torch.ones(2, 9, dtype=torch.bool))


@pytest.mark.parametrize("row_gain", [False, True])
def test_the_couplings_are_the_network_that_the_layer_is(row_gain):
    layer, x = build(row_gain=row_gain), stream()
    real = torch.ones(2, 9, dtype=torch.bool)
    real[1, 7:] = False
    found = layer.couplings(x, is_causal=True, key_mask=real)
    W, r, v, mask = found
    assert torch.equal(W > 0, mask.expand_as(W))
    if row_gain:
        torch.testing.assert_close(W.sum(-1), torch.ones(2, 2, 9).double())
    drive = W @ r
    a = torch.where(mask, 1 + drive / drive.norm(dim=-1, keepdim=True) @ r.mT, 0.0)
    out = layer.project(a / a.sum(-1, keepdim=True) @ v)
    torch.testing.assert_close(out, layer(x, is_causal=True, key_mask=real))


def test_diagnostics_tell_what_settles():
    layer, x = build(row_gain=True), stream()
    found = layer.diagnostics(x, is_causal=True, angle=0.05)
    picture = layer.synchrony(x, is_causal=True)
    torch.testing.assert_close(found.order_parameter, picture.order_parameter)
    torch.testing.assert_close(found.drive, found.order_parameter)
    assert found.num_coupled == 2 * 2 * 9
    longest = found.settling_time.max().item()
    assert found.settled_fraction(longest) == 1 > found.settled_fraction(longest / 3)
    settled = layer(x, is_causal=True)
    layer.mode = f"settle({longest})"
    assert (layer(x, is_causal=True) - settled).abs().max() < 0.1 * settled.abs().max()


def test_the_gain_is_learned_and_can_be_left_out():
    assert build().readout_gain.tolist() == [1.0, 1.0]
    assert build(readout_gain=2.5).readout_gain.tolist() == [2.5, 2.5]
    assert build(readout_gain=None).readout_gain is None
    layer = build(readout_gain=3.0)
    layer(stream(), is_causal=True).square().sum().backward()
    assert layer.readout_gain.grad.all()


@pytest.mark.parametrize("norm", ["unit", "ball", "free"])
def test_vanishing_anchors_keep_gradients_finite(norm):
    module = OscillatorAttention(8, 2, max_positions=9, anchors=norm)
    with torch.no_grad():
        module.anchors.raw_anchor.mul_(1e-20)
    module(torch.randn(2, 9, 8), is_causal=True).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    with torch.no_grad():
        module.anchors.raw_anchor.zero_()
    if norm == "ball":
        assert module(torch.randn(2, 9, 8), is_causal=True).isfinite().all()
        return
    with pytest.raises(ValueError, match="`anchor` must have vectors of length above 0"):
        module(torch.randn(2, 9, 8), is_causal=True)


def test_a_sequence_longer_than_the_table_is_refused():
    module = OscillatorAttention(8, 2, max_positions=4)
    message = r"`max_positions` must be at least the length .*got 4.*'content', 'rotary' or"
    with pytest.raises(ValueError, match=message):
        module(torch.randn(1, 5, 8))
    _, state = module.step(torch.randn(1, 4, 8))
    with pytest.raises(ValueError, match=message):
        module.step(torch.randn(1, 1, 8), state)


def test_a_step_too_long_for_the_drive_is_refused():
    layer, x = build(mode="euler(3, 200.0)"), stream(LENGTH)
    with pytest.raises(
        ValueError, match=r"`step` times the largest drive .*got 200 times [\d.]+\."
    ):
        layer(x)


@pytest.mark.parametrize(("coupling", "bias"), [("softplus", -4.0), ("elu", -4.0), ("relu", None)])
def test_the_bias_of_the_couplings_suits_them(coupling, bias):
    found = build(coupling=coupling).coupling_bias
    assert found is None if bias is None else found.tolist() == [bias] * 2
    assert build(coupling=coupling, coupling_bias=None).coupling_bias is None
    assert build(coupling=coupling, coupling_bias=0.5).coupling_bias.tolist() == [0.5, 0.5]


def test_a_bias_is_part_of_the_score():
    layer, x = build(coupling_bias=None), stream()
    biased = build(coupling_bias=1.5)
    biased.load_state_dict(layer.state_dict() | {"coupling_bias": torch.tensor([1.5, 1.5])})
    W = torch.expm1(layer.couplings(x).coupling).log()
    shifted = torch.expm1(biased.couplings(x).coupling).log()
    torch.testing.assert_close(shifted, W + 1.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coupling_bias": "large"}, "`coupling_bias` must be one of"),
        ({"coupling_bias": float("nan")}, "`coupling_bias` must be"),
        ({"num_heads": 3}, r"`hidden_size` must be a multiple of `2 \* num_heads`"),
        ({"max_positions": 0}, "`max_positions` must be at least 1"),
        ({"max_positions": None}, "`max_positions` must be given with `anchors` 'ball'"),
        ({"oscillator_dim": 1}, "`oscillator_dim` must be at least 2"),
        ({"readout_power": 3}, "`readout_power` must be one of 1, 2, 4; got 3"),
        ({"readout_gain": -1.0}, "`readout_gain` must be finite and strictly between 0"),
        ({"anchors": "cube"}, "`anchors` must be one of 'ball', 'unit', 'free', 'content', 'rot"),
        ({"coupling": "exp"}, "`coupling` must be one of 'softplus', 'relu', 'elu'"),
        ({"mode": "settle"}, r"`mode` must be 'equilibrium', 'settle\(time\)'"),
        ({"variant": "draft"}, "`variant` must be one of 'default', 'paper'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OscillatorAttention(8, **({"num_heads": 2, "max_positions": 4} | options))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_bias_is_not_rounded_to_half_precision(dtype):
    module = OscillatorAttention(64, 1, anchors="content", coupling_bias=-4.05, rotary_base=None)
    with torch.no_grad():
        module.q_proj.weight.zero_()
        module.k_proj.weight.zero_()
    half = copy.deepcopy(module).to(dtype)
    with torch.no_grad():
        half.coupling_bias.data = module.coupling_bias.detach().clone()
    coupling = half.couplings(torch.randn(1, 3, 64, dtype=dtype)).coupling
    expected = torch.nn.functional.softplus(torch.tensor(-4.05))
    torch.testing.assert_close(coupling, expected.expand_as(coupling), rtol=2e-4, atol=0)
    coupling.sum().backward()
    slope = 9 * torch.tensor(-4.05).sigmoid()
    torch.testing.assert_close(half.coupling_bias.grad, slope[None], rtol=1e-2, atol=0)
