import math

import pytest
import torch

from syncattn.nn import SelectiveSynchronization
from syncattn.nn.calibration import squared_cutoff
from tests.nn.battery import WIDTH, ModuleLaws


class TestSelectiveSynchronization(ModuleLaws):
    def build(self):
        return SelectiveSynchronization(WIDTH, 2, frequency_dim=3)


class TestWithPositionCoordinate(ModuleLaws):
    def build(self):
        return SelectiveSynchronization(WIDTH, 2, frequency_dim=3, position="coordinate")


class TestWithDrift(ModuleLaws):
    def build(self):
        return SelectiveSynchronization(WIDTH, 2, frequency_dim=3, position="drift")


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
        ({"phase_dim": 0}, "`phase_dim` must be at least 1; got 0"),
        ({"position": "absolute"}, "`position` must be one of None, 'coordinate', 'drift'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SelectiveSynchronization(16, **({"num_heads": 2} | options))
