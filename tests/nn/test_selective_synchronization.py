import math

import pytest
import torch

from syncattn.nn import SelectiveSynchronization
from syncattn.nn.calibration import squared_cutoff
from syncattn.nn.decay import undecayed
from tests.nn.battery import WIDTH, ModuleLaws


class TestSelectiveSynchronization(ModuleLaws):
    def build(self):
        return SelectiveSynchronization(WIDTH, 2, frequency_dim=3)


class TestWithPositionCoordinate(ModuleLaws):
    def build(self):
        return SelectiveSynchronization(WIDTH, 2, frequency_dim=3, position="coordinate")


class TestWithLearnedPosition(ModuleLaws):
    def build(self):
        return SelectiveSynchronization(
            WIDTH, 2, frequency_dim=3, position="learned", max_positions=12
        )

    def test_every_parameter_learns(self):
        # Rows of the table beyond the sequence have no gradient; those within must.
        module, x = self.build(), self.stream()
        module(x, is_causal=True).square().sum().backward()
        gradient = module.frequency_position.table.grad
        # A token that locks with itself alone tells its place nothing.
        assert gradient[:, : x.shape[1]].any(-1).float().mean() > 0.5
        assert not gradient[:, x.shape[1] :].any()


class TestPublishedForm(ModuleLaws):
    def build(self):
        return SelectiveSynchronization(WIDTH, 4, variant="paper")

    def test_every_parameter_learns(self):
        module, x = self.build(), self.stream().requires_grad_()
        module(x, is_causal=True).square().sum().backward()
        # The biases of frequency and phase matter to nothing: their gradient is rounding.
        for name, parameter in module.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any() or name.endswith("proj.bias"), name

    def test_the_picture_is_that_of_the_forward_pass(self):
        # The law wants rows that sum to 1 to 1e-12; the published epsilon leaves 1e-8.
        module, x = self.build().double(), self.stream().double()
        weights = module.synchrony(x, is_causal=True).weights
        torch.testing.assert_close(
            weights.sum(-1), torch.ones_like(weights.sum(-1)), atol=2e-8, rtol=0
        )
        value = module.v_proj(x).unflatten(-1, (4, -1)).transpose(1, 2)
        out = module.o_proj((weights @ value).transpose(1, 2).flatten(-2))
        torch.testing.assert_close(out, module(x, is_causal=True), rtol=1e-10, atol=1e-10)


class TestWithOneCouplingStrength(ModuleLaws):
    def build(self):
        return SelectiveSynchronization(
            WIDTH, 2, frequency_dim=3, per_head_coupling=False, smoothing=0.1,
            unbiased_order_parameter=True, bias=True, top_k=5,
        )  # fmt: skip


class TestWithDrift(ModuleLaws):
    def build(self):
        return SelectiveSynchronization(WIDTH, 2, frequency_dim=3, position="drift")


def author_layer(x, state, num_heads, top_k=None, eps=1e-8):
    """The published equations, written down once more in their own order: sheet 1.2."""

    def project(name):
        y = x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
        return y.view(*x.shape[:2], num_heads, -1).transpose(1, 2)

    omega, theta, value = project("W_omega"), project("W_theta"), project("W_v")
    squared = omega.square().sum(-1)
    product = omega @ omega.transpose(-1, -2)
    u = (squared[..., :, None] + squared[..., None, :] - 2 * product).relu()
    # The public code forms the distance of a token from itself by the norms too; in this test
    # rounding must not decide whether it locks.
    u = u * (1 - torch.eye(x.shape[1], dtype=x.dtype))
    decay = torch.nn.functional.softplus(state["alpha"])[:, None, None]
    coupling = torch.exp(-decay * u)
    coherence = (theta.cos().mean(2).square() + theta.sin().mean(2).square()).sqrt().mean(-1)
    strength = torch.nn.functional.softplus(state["K"])
    threshold = strength * coherence[..., None, None] * coupling + eps
    rho = u.sqrt()
    locked = (rho <= threshold).to(x.dtype)
    ratio = (rho / threshold).clamp(-1 + eps, 1 - eps)
    synchronization = locked * coupling * ratio.arcsin().cos()
    if top_k is not None and top_k < x.shape[1]:
        best, index = synchronization.topk(top_k, dim=-1)
        synchronization = torch.zeros_like(synchronization).scatter(-1, index, best)
    weights = synchronization / (synchronization.sum(-1, keepdim=True) + eps)
    out = (weights @ value).transpose(1, 2).flatten(-2)
    return out @ state["W_o.weight"].T + state["W_o.bias"], synchronization


def author_state(width, num_heads, scale=1.0, dtype=torch.float32):
    state = {
        f"{name}.{end}": torch.randn(*shape, dtype=torch.float64) * width**-0.5
        for name in ("W_omega", "W_theta", "W_v", "W_o")
        for end, shape in (("weight", (width, width)), ("bias", (width,)))
    }
    state["W_omega.weight"] *= scale
    state["K"] = torch.tensor(1.3, dtype=torch.float64)
    state["alpha"] = torch.linspace(0.5, 1.5, num_heads, dtype=torch.float64)
    return {name: value.to(dtype) for name, value in state.items()}


@pytest.mark.parametrize("top_k", [None, 3, 100])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["fp64", "fp32"]
)
def test_the_published_form_equals_the_public_code(dtype, tolerance, top_k):
    shares = []
    for seed, scale in enumerate((0.06, 0.15, 0.4, 1.0)):
        torch.manual_seed(seed)
        state = author_state(32, 4, scale, dtype)
        module = SelectiveSynchronization(32, 4, variant="paper", top_k=top_k).to(dtype)
        module.load_author_state_dict(state)
        x = torch.randn(2, 24, 32, dtype=torch.float64).to(dtype)
        expected, synchronization = author_layer(x, state, 4, top_k)
        torch.testing.assert_close(module(x), expected, rtol=0, atol=tolerance)
        picture = module.synchrony(x)
        assert torch.equal(picture.locked, synchronization > 0)
        shares.append((synchronization > 0).double().mean().item())
    # Nearly all, some and nearly none of the pairs: the whole range was compared.
    if top_k is None:
        assert shares[0] > 0.8 > 0.2 > shares[2] and shares[-1] < 0.06


def test_the_published_layer_starts_as_published():
    module, num_heads = SelectiveSynchronization(64, 8, variant="paper"), 8
    assert module.raw_coupling_strength.shape == ()
    assert module.raw_coupling_decay.shape == (num_heads,)
    assert sum(p.numel() for p in module.parameters()) == 4 * (64 * 64 + 64) + 1 + num_heads
    for projection in (module.frequency_proj, module.phase_proj, module.v_proj, module.o_proj):
        assert projection.weight.abs().max() <= 64**-0.5
        assert projection.weight.std().item() == pytest.approx((3 * 64) ** -0.5, rel=0.05)
        assert projection.bias.any()
    torch.testing.assert_close(module.coupling_strength, torch.full((8,), 1.31326))


def test_the_published_layer_is_dead_at_a_practical_size_and_the_default_is_not():
    x, other = normalised(1, 32, 512), normalised(1, 32, 512)
    changed = torch.cat([other[:, :31], x[:, -1:]], 1)
    paper = SelectiveSynchronization(512, 8, variant="paper")
    assert (paper(changed) - paper(x))[:, -1].abs().max() < 1e-6
    torch.testing.assert_close(paper(x), paper.o_proj(paper.v_proj(x)))


def test_the_coherence_at_first_is_that_of_the_publication():
    module = SelectiveSynchronization(512, 8, variant="paper")
    r = module.synchrony(torch.randn(1, 256, 512)).order_parameter
    assert r.mean().item() == pytest.approx(math.exp(-1 / 6), abs=3e-3)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_weights_of_a_network_load_behind_their_prefix(shape):
    module, state = SelectiveSynchronization(16, 2, variant="paper"), author_state(16, 2)
    state["K"] = state["K"].reshape(shape)
    whole = {f"blocks.0.ssa.{k}": v for k, v in state.items()} | {"head.weight": torch.ones(2)}
    module.load_author_state_dict(whole, prefix="blocks.0.ssa.")
    assert torch.equal(module.frequency_proj.weight, state["W_omega.weight"])
    assert torch.equal(module.o_proj.bias, state["W_o.bias"])
    assert module.raw_coupling_strength.item() == state["K"].item()


@pytest.mark.parametrize("empty_rows", ["zero", "nearest", "mean"])
def test_a_training_with_dropout_has_the_weights_of_one_without(empty_rows):
    module = SelectiveSynchronization(
        16, 2, frequency_dim=2, target_locked_fraction=0.3, dropout=1e-15, edge_floor=0.5,
        empty_rows=empty_rows,
    ).double()  # fmt: skip
    x = normalised(2, 6, 16).double()
    # A token always locks with itself: here it may not see itself.
    before = torch.ones(6, 6, dtype=torch.bool).tril(-1)
    alone = ~module.synchrony(x, attn_mask=before).locked[:, :, 1:].any(-1)
    assert alone.any() and not alone.all()
    found = []
    for dropout in (1e-15, 0.0):
        module.dropout = dropout
        module.zero_grad()
        out = module.train()(x, attn_mask=before)
        out.square().sum().backward()
        found += [out, module.frequency_proj.weight.grad, module.v_proj.weight.grad]
    for dropped, kept in zip(found[:3], found[3:], strict=True):
        torch.testing.assert_close(dropped, kept)


def test_dropout_thins_the_weights_in_training_alone():
    module, x = SelectiveSynchronization(16, 2, variant="paper", dropout=0.5), normalised(2, 6, 16)
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))
    kept = SelectiveSynchronization(16, 2, variant="paper")
    kept.load_state_dict(module.state_dict())
    assert torch.equal(kept(x), module(x))


def test_top_k_keeps_the_strongest():
    module = SelectiveSynchronization(16, 2, target_locked_fraction=0.9, top_k=2)
    locked = module.synchrony(normalised(1, 12, 16)).locked
    assert (locked.sum(-1) == 2).any()
    assert (locked.sum(-1) <= 2).all()
    assert locked.diagonal(dim1=-2, dim2=-1).all()


def test_options_reach_the_operator():
    x = normalised(1, 12, 16)
    plain = SelectiveSynchronization(16, 2, target_locked_fraction=0.6)
    for options in ({"smoothing": 0.3}, {"unbiased_order_parameter": True}, {"top_k": 1}):
        other = SelectiveSynchronization(16, 2, target_locked_fraction=0.6, **options)
        other.load_state_dict(plain.state_dict())
        assert not torch.allclose(other(x), plain(x), atol=1e-5), options
    lone = SelectiveSynchronization(16, 2, target_locked_fraction=0.01, empty_rows="mean")
    only = torch.eye(12, dtype=torch.bool).roll(1, 0)
    hidden = SelectiveSynchronization(16, 2, target_locked_fraction=0.01)
    hidden.load_state_dict(lone.state_dict())
    assert not torch.allclose(lone(x, attn_mask=only), hidden(x, attn_mask=only), atol=1e-4)
    floored = SelectiveSynchronization(16, 2, target_locked_fraction=0.6, edge_floor=1.0)
    floored.load_state_dict(plain.state_dict())
    gradients = []
    for module in (plain, floored):
        module(x).square().sum().backward()
        gradients.append(module.frequency_proj.weight.grad)
    torch.testing.assert_close(floored(x), plain(x))
    assert not torch.allclose(*gradients, rtol=1e-3)
    with pytest.raises(ValueError, match="`backend` of selective_synchronization must be one of"):
        SelectiveSynchronization(16, 2, backend="abacus")(x)


@pytest.mark.parametrize("target", [0.1, 0.6])
def test_the_target_holds_with_a_table_of_places(target):
    module = SelectiveSynchronization(
        256, 4, position="learned", max_positions=96, target_locked_fraction=target
    )
    locked = module.synchrony(normalised(4, 96, 256)).locked
    share = locked[..., ~torch.eye(96, dtype=torch.bool)].float().mean().item()
    assert abs(share - target) < 0.05


def test_a_gain_changes_the_learning_and_not_the_layer():
    plain = SelectiveSynchronization(64, 2)
    geared = SelectiveSynchronization(64, 2, frequency_gain=0.1)
    spread = plain.frequency_proj.weight.std() / geared.frequency_proj.weight.std()
    assert spread.item() == pytest.approx(0.1, rel=0.15)
    state = plain.state_dict()
    geared.load_state_dict(state | {"frequency_proj.weight": 10 * state["frequency_proj.weight"]})
    x = normalised(2, 12, 64)
    torch.testing.assert_close(geared(x), plain(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(geared.natural_frequency(x), plain.natural_frequency(x))
    torch.manual_seed(1)
    expected = plain.locking_loss(x)
    torch.manual_seed(1)
    torch.testing.assert_close(geared.locking_loss(x), expected, rtol=1e-4, atol=1e-5)


def test_a_table_tells_places_apart_and_has_an_end():
    module = SelectiveSynchronization(16, 2, position="learned", max_positions=6)
    x = normalised(1, 6, 16)
    assert not torch.allclose(module(x.flip(1)).flip(1), module(x), atol=1e-4)
    with pytest.raises(ValueError, match="`max_positions` must be at least the length"):
        module(normalised(1, 7, 16))


def test_weight_decay_passes_over_couplings_and_positions():
    for position in ("coordinate", "drift", "learned"):
        module = SelectiveSynchronization(16, 2, position=position, max_positions=4)
        parameters = dict(module.named_parameters())
        marked = {n for n, p in parameters.items() if id(p) in undecayed(module)}
        name = "table" if position == "learned" else "rate"
        assert marked == {
            "raw_coupling_strength", "raw_coupling_decay", f"frequency_position.{name}"
        }  # fmt: skip


def test_the_locking_loss_of_a_layer_reads_its_own_target():
    module, x = SelectiveSynchronization(64, 2, target_locked_fraction=0.4), normalised(2, 64, 64)
    at_target = module.locking_loss(x, num_pairs=63, is_causal=True)
    assert at_target < 0.03
    with torch.no_grad():
        module.frequency_proj.weight.mul_(8)
    assert module.locking_loss(x) > 10 * at_target


def normalised(batch, length, width):
    x = torch.randn(batch, length, width)
    return x / x.square().mean(-1, keepdim=True).sqrt()


@pytest.mark.parametrize("frequency_dim", [1, 4, 16])
@pytest.mark.parametrize("target", [0.1, 0.3, 0.5, 0.8])
def test_the_locked_fraction_at_first_is_the_target(target, frequency_dim):
    shares = []
    for seed in range(6):
        torch.manual_seed(seed)
        module = SelectiveSynchronization(
            256, 4, frequency_dim=frequency_dim, target_locked_fraction=target
        )
        locked = module.synchrony(normalised(1, 96, 256)).locked
        shares.append(locked[..., ~torch.eye(96, dtype=torch.bool)].float().mean().item())
    assert abs(sum(shares) / len(shares) - target) < 0.03


def test_heads_may_have_targets_of_their_own():
    module = SelectiveSynchronization(256, 2, target_locked_fraction=(0.1, 0.8))
    locked = module.synchrony(normalised(1, 96, 256)).locked.float().mean((0, 2, 3))
    assert locked[0] < 0.25 < 0.6 < locked[1]
    with pytest.raises(ValueError, match="`target_locked_fraction` must be a number or one per"):
        SelectiveSynchronization(8, 2, target_locked_fraction=(0.1, 0.2, 0.3))
    with pytest.raises(ValueError, match="`target_locked_fraction` must be finite"):
        SelectiveSynchronization(8, 2, target_locked_fraction=(0.1, 1.0))


def test_context_reaches_a_token_at_a_practical_size():
    # The published initial values leave every token alone at this size.
    module, x = SelectiveSynchronization(512, 8), normalised(1, 32, 512)
    changed = torch.cat([normalised(1, 31, 512), x[:, -1:]], 1)
    assert (module(changed) - module(x))[:, -1].abs().max() > 1e-3


def test_a_position_coordinate_limits_the_reach_of_each_head():
    module = SelectiveSynchronization(
        32, 4, position="coordinate", position_window=(3.0, 24.0), target_locked_fraction=0.99
    )
    locked = module.synchrony(normalised(1, 64, 32)).locked[0]
    i, j = torch.arange(64)[:, None], torch.arange(64)
    cutoff = math.sqrt(squared_cutoff(math.log1p(math.e), math.log1p(math.e)))
    reach = (cutoff / module.position_rate[:, 0]).tolist()
    assert reach == pytest.approx([3.0, 6.0, 12.0, 24.0], rel=0.1)
    for head, limit in enumerate(reach):
        assert not locked[head][(i - j).abs() > limit + 1e-3].any()
        assert locked[head][(i - j).abs() > limit / 4].any()


@pytest.mark.parametrize("position", [None, "coordinate", "drift"])
def test_only_differences_of_place_matter(position):
    module = SelectiveSynchronization(16, 2, frequency_dim=3, position=position)
    x = normalised(1, 6, 16)
    longer = torch.cat([normalised(1, 40, 16), x], 1)
    real = (torch.arange(46) >= 40)[None]
    out = module(longer, is_causal=True, key_mask=real)[:, 40:]
    torch.testing.assert_close(out, module(x, is_causal=True), rtol=1e-3, atol=1e-4)


def test_without_position_the_order_of_tokens_does_not_matter():
    module, x = SelectiveSynchronization(16, 2), normalised(1, 6, 16)
    order = torch.randperm(6)
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order])


@pytest.mark.parametrize("position", ["coordinate", "drift"])
def test_frequencies_keep_double_precision(position):
    module = SelectiveSynchronization(16, 2, frequency_dim=3, position=position).double()
    omega = module.natural_frequency(normalised(1, 6, 16).double())
    assert omega.dtype == torch.float64
    assert omega.shape[-1] == (4 if position == "coordinate" else 3)


def test_half_precision_counts_beyond_256_places():
    module = SelectiveSynchronization(16, 2, position="coordinate").bfloat16()
    place = module.natural_frequency(torch.zeros(1, 600, 16).bfloat16())[0, 0, :, -1]
    assert (place.diff() > 0).all()


def test_couplings_start_as_published_and_stay_positive():
    module = SelectiveSynchronization(16, 2)
    for coupling in (module.coupling_strength, module.coupling_decay):
        torch.testing.assert_close(coupling, torch.full((2,), 1.31326))
    with torch.no_grad():
        module.raw_coupling_strength.fill_(-20.0)
    assert (module.coupling_strength > 0).all()
    assert module(normalised(1, 5, 16)).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "`hidden_size` must be a multiple of `num_heads`; got 16 and 3"),
        ({"frequency_dim": 0}, "`frequency_dim` must be at least 1; got 0"),
        ({"position": "absolute"}, "`position` must be one of None, 'coordinate', 'drift'"),
        ({"position": "learned"}, "`max_positions` must be given with `position` 'learned'"),
        ({"variant": "mine"}, "`variant` must be one of 'default', 'paper'"),
        ({"top_k": 0}, "`top_k` must be at least 1; got 0"),
        ({"smoothing": -1.0}, "`smoothing` must be finite and between"),
        ({"dropout": 2.0}, "`dropout` must be finite and between"),
        ({"variant": "paper", "frequency_dim": 8}, "`frequency_dim` must be left out with"),
        ({"variant": "paper", "position": "drift"}, "`position` must be left out with"),
        ({"variant": "paper", "smoothing": 0.1}, "`smoothing` must be left out with"),
        ({"variant": "paper", "bias": False}, "`bias` must be left out with"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SelectiveSynchronization(16, **({"num_heads": 2} | options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("raw", [-1e4, 1e4, -6e4, 6e4])
def test_couplings_stay_in_range_where_softplus_leaves_it(raw, dtype):
    module = SelectiveSynchronization(16, 2)
    with torch.no_grad():
        for parameter in (module.raw_coupling_strength, module.raw_coupling_decay):
            parameter.fill_(raw * (1 if dtype == torch.float16 else 1e30))
    module = module.to(dtype)
    for coupling in (module.coupling_strength, module.coupling_decay):
        assert coupling.isfinite().all() and (coupling > 0).all() and coupling.dtype == dtype
    x = normalised(1, 5, 16)
    assert module.float()(x).isfinite().all()
    if dtype != torch.float16:
        assert module.locking_loss(x).isfinite()


@pytest.mark.parametrize("raw", [-20.0, -3.0, 1.0, 30.0])
def test_in_range_couplings_are_those_of_softplus_to_the_bit(raw):
    module = SelectiveSynchronization(16, 2)
    with torch.no_grad():
        module.raw_coupling_decay.fill_(raw)
    plain = module.raw_coupling_decay.detach().clone().requires_grad_()
    expected = torch.nn.functional.softplus(plain)
    assert torch.equal(module.coupling_decay, expected)
    for x in (module.coupling_decay, expected):
        x.square().sum().backward()
    assert torch.equal(module.raw_coupling_decay.grad, plain.grad)
