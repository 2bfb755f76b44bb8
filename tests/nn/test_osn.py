import pytest
import torch
from torch import nn

from syncattn.nn import OscillatorySynchronizationBlock, OscillatorySynchronizationNetwork


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_the_published_block_has_the_published_count():
    block = OscillatorySynchronizationBlock(512, 8, variant="paper")
    transformer = nn.TransformerEncoderLayer(512, 8, dim_feedforward=2048)
    assert count(transformer) == 3_152_384
    assert count(block) == 3_152_393 == count(transformer) + 1 + 8


@pytest.mark.parametrize(
    ("layers", "parameters"), [(4, 28_994_596), (8, 41_604_168), (12, 54_213_740)]
)
def test_the_published_network_has_the_published_count(layers, parameters):
    with torch.device("meta"):
        model = OscillatorySynchronizationNetwork(32_000, 512, layers, 8, variant="paper")
    assert count(model) == parameters


def small(variant="default", **options):
    options = {"dropout": 0.0} | options
    return OscillatorySynchronizationNetwork(11, 32, 2, 4, variant=variant, **options)


def test_the_published_network_is_its_equations():
    model, tokens = small("paper"), torch.randint(11, (2, 9))
    x = model.embed_tokens.weight[tokens] * 32**0.5
    for block in model.layers:
        x = x + block.attention(nn.functional.layer_norm(x, (32,)))
        first, _, _, second, _ = block.feedforward
        y = nn.functional.layer_norm(x, (32,)) @ first.weight.T + first.bias
        y = y * (1 + torch.erf(y / 2**0.5)) / 2
        x = x + y @ second.weight.T + second.bias
    expected = nn.functional.layer_norm(x, (32,)) @ model.embed_tokens.weight.T
    torch.testing.assert_close(model(tokens), expected, rtol=1e-5, atol=1e-6)


def test_the_published_network_starts_as_published():
    model = OscillatorySynchronizationNetwork(500, 128, 2, 4, variant="paper")
    assert model.lm_head.weight is model.embed_tokens.weight
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.03)
            assert module.weight.mean().abs() < 2e-3
        if isinstance(module, nn.Linear) and module.bias is not None:
            assert not module.bias.any()
    for block in model.layers:
        assert block.attention.raw_coupling_strength.item() == 1.0
        assert (block.attention.raw_coupling_decay == 1.0).all()
        assert block.attention.dropout == 0.1
    # exp(-Var(theta) / 2) with Var(theta) = 4e-4 D.
    r = model.eval().synchrony(torch.randint(500, (4, 64)))[0].order_parameter.mean()
    assert r.item() == pytest.approx(0.975, abs=5e-3)


def test_the_published_network_does_not_know_places():
    model, tokens = small("paper"), torch.randint(11, (1, 12))
    order = torch.randperm(12)
    torch.testing.assert_close(model(tokens[:, order]), model(tokens)[:, order])


def mixing(model, tokens):
    """How far the logits of the last token move when all others are replaced."""
    changed = torch.cat([tokens[:, :-1].flip(0).roll(1, 1), tokens[:, -1:]], 1)
    return (model(changed) - model(tokens))[:, -1].abs().max()


def test_at_a_practical_size_the_default_mixes_and_the_published_form_does_not():
    tokens = torch.stack([torch.randperm(64)[:24], torch.randperm(64)[:24]])
    # Neither sequence may hold the last token of itself or of the other before the end.
    tokens[:, :-1] = tokens[:, :-1].clamp(max=62)
    tokens[:, -1] = 63
    torch.manual_seed(0)
    default = OscillatorySynchronizationNetwork(64, 512, 2, 8, dropout=0.0)
    paper = OscillatorySynchronizationNetwork(64, 512, 2, 8, dropout=0.0, variant="paper")
    assert mixing(paper, tokens) < 1e-6
    assert mixing(default, tokens) > 1e-3


def test_the_default_locks_its_target_at_first():
    model = OscillatorySynchronizationNetwork(512, 256, 3, 8, dropout=0.0)
    other = ~torch.eye(64, dtype=torch.bool)
    for block, picture in zip(
        model.layers, model.synchrony(torch.randperm(512)[:64][None]), strict=True
    ):
        target = block.attention.target_locked_fraction[0]
        assert abs(picture.locked[..., other].float().mean().item() - target) < 0.06


@pytest.mark.parametrize("variant", ["default", "paper"])
def test_causal_and_padded(variant):
    model, tokens = small(variant), torch.randint(11, (2, 10))
    changed = tokens.clone()
    changed[:, 6:] = torch.randint(11, (2, 4))
    before, after = model(tokens, is_causal=True), model(changed, is_causal=True)
    assert torch.equal(before[:, :6], after[:, :6])
    real = torch.arange(10).expand(2, -1) < 6
    torch.testing.assert_close(model(changed, key_mask=real)[:, :6], model(tokens[:, :6]))


def test_options_reach_every_layer():
    model = small(attention_options={"frequency_dim": 5, "position": "drift"})
    assert [block.attention.frequency_dim for block in model.layers] == [5, 5]
    assert model.layers[0].attention.position == "drift"
    assert small(intermediate_size=7).layers[1].feedforward[0].out_features == 7
    with pytest.raises(ValueError, match="`frequency_dim` must be left out with `variant` 'paper'"):
        small("paper", attention_options={"frequency_dim": 5})


def test_dropout_acts_in_training_alone():
    model, tokens = small(dropout=0.3), torch.randint(11, (1, 6))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


def test_a_small_network_learns_whether_a_token_occurs():
    model = OscillatorySynchronizationNetwork(12, 32, 2, 4, dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        tokens = torch.randint(1, 12, (32, 12))
        label = torch.randint(2, (32,))
        tokens[torch.arange(32), torch.randint(12, (32,))] *= 1 - label
        target = label[:, None].expand(-1, 12)
        loss = nn.functional.cross_entropy(model(tokens)[..., :2].flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8, 1, 2), "`vocab_size` must be at least 1"),
        ((5, 8, 0, 2), "`num_hidden_layers` must be at least 1"),
        ((5, 8, 1, 3), "`hidden_size` must be a multiple of `num_heads`"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        OscillatorySynchronizationNetwork(*arguments)
