import math

import pytest
import torch

from syncattn.nn import KuramotoAttention
from tests.nn.battery import WIDTH, ModuleLaws


class TestKuramotoAttention(ModuleLaws):
    torus = True

    def build(self):
        return KuramotoAttention(WIDTH, 2)


class TestWithStaticGates(ModuleLaws):
    torus = True

    def build(self):
        return KuramotoAttention(WIDTH, 2, gate="static", drift_base=None, exclude_self=False)


def test_whole_turns_change_nothing():
    module = KuramotoAttention(8, 2).double()
    phase = torch.randn(2, 5, 8, dtype=torch.float64)
    turned = phase + 2 * math.pi * torch.randint(-3, 4, phase.shape).double()
    torch.testing.assert_close(module(turned), module(phase), rtol=0, atol=1e-11)


def test_the_step_scales_the_increment():
    module, phase = KuramotoAttention(8, 2, coupled=1.0), torch.randn(2, 5, 8)
    whole = module(phase)
    with torch.no_grad():
        module.step_size[1] = 0.5
    half = module(phase)
    assert torch.equal(half[..., :4], whole[..., :4])
    torch.testing.assert_close(half[..., 4:], 0.5 * whole[..., 4:])


def test_the_initial_step_is_kept_by_a_reset():
    module = KuramotoAttention(8, 2, step_size=0.25)
    expected = torch.tensor([0.25, 0.0, 0.25, 0.0]).expand(2, 1, 4)
    assert torch.equal(module.step_size, expected)
    torch.nn.init.zeros_(module.step_size)
    module.reset_parameters()
    assert torch.equal(module.step_size, expected)
    assert (KuramotoAttention(8, 2, coupled=1.0).step_size == 1.0).all()


@pytest.mark.parametrize("options", [{}, {"gate": "static", "sink": "learned"}])
def test_token_by_token_is_the_full_pass(options):
    module = KuramotoAttention(8, 2, **options).double()
    phase = torch.randn(2, 7, 8, dtype=torch.float64)
    first, state = module.step(phase[:, :4])
    second, state = module.step(phase[:, 4:5], state)
    third, state = module.step(phase[:, 5:], state)
    expected = module(phase, is_causal=True)
    torch.testing.assert_close(torch.cat([first, second, third], 1), expected)
    assert state.length == 7


def test_no_position_leaves_tokens_without_order():
    module = KuramotoAttention(8, 2, drift_base=None)
    phase, order = torch.randn(1, 6, 8), torch.randperm(6)
    torch.testing.assert_close(module(phase[:, order]), module(phase)[:, order])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "`hidden_size` must be a multiple of `num_heads`"),
        ({"gate": "open"}, "`gate` must be one of 'query-key', 'query', 'static', 'signed'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        KuramotoAttention(8, **({"num_heads": 2} | options))
