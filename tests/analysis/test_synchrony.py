import math
import warnings

import pytest
import torch

from syncattn.analysis.synchrony import (
    SynchronyWarning,
    component_labels,
    connected_components,
    diagnose,
    predicted_locked_fraction,
    warn_if_dead,
)
from syncattn.nn import SelectiveSynchronization
from syncattn.nn.calibration import locked_fraction


def normalised(*shape):
    x = torch.randn(*shape)
    return x / x.square().mean(-1, keepdim=True).sqrt()


def per_head(values, mask):
    """The mean over the tokens of a mask, with one loop and no broadcasting."""
    return [values[:, h][mask].double().mean().item() for h in range(values.shape[1])]


@pytest.mark.parametrize("options", [{}, {"position": "coordinate"}, {"smoothing": 0.2}])
@pytest.mark.parametrize("is_causal", [False, True])
def test_every_number_is_that_of_the_dense_picture(options, is_causal):
    layer, x = (
        SelectiveSynchronization(32, 3 - 1, frequency_dim=4, **options),
        normalised(3, 20, 32),
    )
    real = torch.ones(3, 20, dtype=torch.bool)
    real[1, 15:] = False
    found = diagnose(layer, x, key_mask=real, is_causal=is_causal)
    picture = layer.synchrony(x, key_mask=real, is_causal=is_causal)
    weights, locked = picture.weights.double(), picture.locked & real[:, None, :, None]
    visible = real[:, None, :] & real[..., None]
    visible = visible.tril() if is_causal else visible
    other = visible & ~torch.eye(20, dtype=torch.bool)
    for h in range(2):
        share = locked[:, h][other].double().mean()
        assert found.locked_fraction[h].item() == pytest.approx(share.item(), abs=1e-6)
        alone = (locked[:, h] & other).sum(-1)[real] == 0
        assert found.empty_rows[h].item() == pytest.approx(alone.double().mean().item())
    torch.testing.assert_close(
        found.order_parameter.tolist(), per_head(picture.order_parameter, real), atol=1e-6, rtol=0
    )
    assert found.largest_weight.tolist() == pytest.approx(per_head(weights.amax(-1), real))
    count = visible.sum(-1)
    wide = real & (count > 1)
    spread = torch.special.entr(weights).sum(-1) / count.clamp(min=2).log()[:, None]
    assert found.entropy.tolist() == pytest.approx(per_head(spread, wide), abs=1e-6)
    assert 0 < found.head_divergence < math.log(2)
    assert not found.sampled


@pytest.mark.parametrize("target", [0.1, 0.5])
@pytest.mark.parametrize("position", [None, "coordinate"])
def test_gaussian_streams_lock_as_predicted(target, position):
    layer = SelectiveSynchronization(
        256, 4, target_locked_fraction=target, position=position, position_window=(16.0, 100.0)
    )
    found = diagnose(layer, normalised(4, 128, 256))
    torch.testing.assert_close(
        found.locked_fraction, found.predicted_locked_fraction.double(), atol=0.03, rtol=0,
        check_dtype=False,
    )  # fmt: skip
    if position is None:
        assert abs(found.locked_fraction.mean() - target) < 0.05


def test_repeated_tokens_lock_more_than_predicted():
    layer = SelectiveSynchronization(64, 2, target_locked_fraction=0.01)
    found = diagnose(layer, normalised(1, 8, 64).repeat(1, 8, 1))
    assert (found.locked_fraction > 0.1).all()
    assert (found.predicted_locked_fraction < 0.06).all()


def test_sampled_rows_tell_nearly_the_same():
    layer, x = SelectiveSynchronization(64, 2, position="coordinate"), normalised(2, 300, 64)
    dense, sampled = diagnose(layer, x, max_rows=300), diagnose(layer, x, max_rows=60)
    assert sampled.sampled and not dense.sampled
    for name in ("order_parameter", "locked_fraction", "predicted_locked_fraction", "entropy",
                 "largest_weight", "cutoff_radius"):  # fmt: skip
        torch.testing.assert_close(
            getattr(sampled, name), getattr(dense, name), atol=0.05, rtol=0.05
        )
    assert sampled.connected_components.isnan().all()
    assert (dense.connected_components >= 1).all()


def test_only_the_first_sequences_count():
    layer, x = SelectiveSynchronization(32, 2), normalised(5, 12, 32)
    mask = torch.rand(5, 1, 12, 12) < 0.7
    real = torch.rand(5, 12) < 0.8
    found = diagnose(layer, x, max_sequences=2, attn_mask=mask, key_mask=real)
    alone = diagnose(layer, x[:2], attn_mask=mask[:2], key_mask=real[:2])
    assert found.summary() == alone.summary()
    shared = diagnose(layer, x, max_sequences=2, attn_mask=mask[0, 0])
    assert shared.summary() == diagnose(layer, x[:2], attn_mask=mask[0, 0]).summary()


def test_padding_may_hold_anything():
    layer, x = SelectiveSynchronization(32, 2, position="coordinate"), normalised(2, 12, 32)
    real = (torch.arange(12) < 8).expand(2, -1)
    found = diagnose(layer, torch.where(real[..., None], x, 1e6), key_mask=real).summary()
    assert found == pytest.approx(diagnose(layer, x[:, :8]).summary(), abs=1e-5)


def test_clusters_of_known_graphs():
    chain = torch.zeros(50, 50, dtype=torch.bool)
    chain[torch.arange(49), torch.arange(1, 50)] = True
    cut = chain.clone()
    cut[20, 21] = False
    shuffled = torch.randperm(50)
    graphs = torch.stack([
        torch.zeros_like(chain), chain, cut, cut[shuffled][:, shuffled], ~torch.zeros_like(chain)
    ])  # fmt: skip
    assert connected_components(graphs).tolist() == [50, 1, 2, 2, 1]
    real = torch.arange(50) < 10
    assert connected_components(graphs[0], real).item() == 10


def test_clusters_are_the_eigenvalues_one_of_the_weights():
    layer = SelectiveSynchronization(64, 3 + 1, frequency_dim=2, target_locked_fraction=0.02)
    layer = layer.double()
    x = normalised(1, 40, 64).double()
    weights = layer.synchrony(x).weights[0]
    ones = (torch.linalg.eigvals(weights).real > 1 - 1e-9).sum(-1)
    assert diagnose(layer, x).connected_components.tolist() == ones.tolist()
    assert ones.max() > 1


def test_the_prediction_is_the_closed_form():
    cutoff, variance = torch.tensor([0.2, 0.5]), torch.tensor([0.1, 0.3])
    expected = [locked_fraction(c, v**0.5, 5) for c, v in ((0.2, 0.1), (0.5, 0.3))]
    assert predicted_locked_fraction(variance, cutoff, 5).tolist() == pytest.approx(expected)
    assert predicted_locked_fraction(torch.tensor(0.0), torch.tensor(0.5), 5) == 1


def test_a_summary_is_plain_numbers_for_a_log():
    found = diagnose(SelectiveSynchronization(32, 2), normalised(2, 300, 32))
    summary = found.summary()
    assert all(isinstance(value, float) and math.isfinite(value) for value in summary.values())
    assert "connected_components" not in summary
    assert summary["dead_heads"] == 0
    assert summary["locked_fraction"] == pytest.approx(found.locked_fraction.mean().item())


def test_dead_and_full_layers_raise_an_alarm_that_says_what_to_do():
    layer, x = SelectiveSynchronization(64, 4), normalised(2, 32, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not warn_if_dead(diagnose(layer, x))
        assert not warn_if_dead(diagnose(layer, x[:, :1]))
        with torch.no_grad():
            layer.frequency_proj.weight[: 3 * 8].mul_(50)
        partly = diagnose(layer, x)
        assert partly.dead_heads == 3
        assert not warn_if_dead(partly)
    with torch.no_grad():
        layer.frequency_proj.weight.mul_(50)
    dead = diagnose(layer, x)
    assert dead.empty_rows.tolist() == [1.0] * 4
    assert dead.connected_components.tolist() == [32.0] * 4
    with pytest.warns(SynchronyWarning, match=r"All 4 heads of layer 3 are dead: .*locking_loss"):
        assert warn_if_dead(dead, "layer 3")
    with torch.no_grad():
        layer.frequency_proj.weight.mul_(1e-6)
    with pytest.warns(SynchronyWarning, match=r"lock at least 100.0% .*`top_k`"):
        assert warn_if_dead(diagnose(layer, x))


def test_the_published_form_is_seen_to_be_dead():
    layer = SelectiveSynchronization(256, 8, variant="paper")
    found = diagnose(layer, torch.randn(1, 64, 256))
    assert found.dead_heads == 8
    assert found.cutoff_radius.mean().item() == pytest.approx(0.6444, rel=0.03)
    assert found.entropy.abs().max() < 1e-6


def test_top_k_thins_the_weights_but_not_the_locking():
    layer, x = SelectiveSynchronization(32, 2, target_locked_fraction=0.7), normalised(2, 16, 32)
    thin = SelectiveSynchronization(32, 2, target_locked_fraction=0.7, top_k=1)
    thin.load_state_dict(layer.state_dict())
    everything, one = diagnose(layer, x), diagnose(thin, x)
    assert torch.equal(one.locked_fraction, everything.locked_fraction)
    assert one.largest_weight.tolist() == [1.0, 1.0]
    assert (everything.largest_weight < 1).all()


def test_bad_counts_are_refused():
    layer, x = SelectiveSynchronization(8, 2), normalised(1, 4, 8)
    with pytest.raises(ValueError, match="`max_rows` must be at least 1"):
        diagnose(layer, x, max_rows=0)
    with pytest.raises(TypeError, match="`max_sequences` must be an integer"):
        diagnose(layer, x, max_sequences=True)


def test_a_label_is_the_first_token_of_the_cluster():
    locked = torch.zeros(6, 6, dtype=torch.bool)
    for a, b in ((4, 1), (2, 5), (5, 3)):
        locked[a, b] = True
    assert component_labels(locked).tolist() == [0, 1, 2, 2, 1, 2]
