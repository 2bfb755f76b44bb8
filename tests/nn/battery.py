"""What every attention module must satisfy, written once."""

import pytest
import torch

WIDTH, LENGTH = 16, 7


class ModuleLaws:
    """The laws; a subclass says how to `build` a module and inherits them."""

    torus = False

    def build(self):
        raise NotImplementedError

    def stream(self, batch=2, length=LENGTH, seed=1):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(batch, length, WIDTH, generator=generator)
        return x * 2 if self.torus else x / x.square().mean(-1, keepdim=True).sqrt()

    def test_shape_and_finiteness_at_any_length(self):
        module = self.build()
        for length in (1, 2, LENGTH):
            for is_causal in (False, True):
                x = self.stream(length=length)
                out = module(x, is_causal=is_causal)
                assert out.shape == x.shape
                assert out.isfinite().all()

    def test_the_future_does_not_reach_the_past(self):
        module, x = self.build(), self.stream()
        before = module(x, is_causal=True)
        changed = x.clone()
        changed[:, 4:] = self.stream(seed=2)[:, 4:]
        after = module(changed, is_causal=True)
        assert torch.equal(after[:, :4], before[:, :4])
        assert not torch.equal(after[:, 4:], before[:, 4:])

    def test_context_matters(self):
        module, x = self.build(), self.stream()
        changed = torch.cat([self.stream(seed=2)[:, :3], x[:, 3:]], 1)
        moved = (module(changed, is_causal=True) - module(x, is_causal=True))[:, 3:]
        assert moved.abs().max() > 1e-3

    @pytest.mark.parametrize("side", ["right", "left"])
    def test_padding_changes_nothing(self, side):
        module, x = self.build(), self.stream()
        kept = slice(0, LENGTH) if side == "right" else slice(3, LENGTH + 3)
        padded = torch.full((2, LENGTH + 3, WIDTH), 1e3)
        padded[:, kept] = x
        real = torch.zeros(2, LENGTH + 3, dtype=torch.bool)
        real[:, kept] = True
        for is_causal in (False, True):
            out = module(padded, is_causal=is_causal, key_mask=real)
            assert out.isfinite().all()
            torch.testing.assert_close(out[:, kept], module(x, is_causal=is_causal))

    @pytest.mark.parametrize("name", ["attention_mask", "key_padding_mask"])
    def test_masks_under_other_names_are_refused(self, name):
        with pytest.raises(TypeError, match=f"got .*{name}"):
            self.build()(self.stream(), **{name: torch.ones(2, LENGTH, dtype=torch.bool)})

    def test_packed_sequences_are_separate_sequences(self):
        module, x = self.build(), self.stream(batch=1, length=8)
        out = module(x, is_causal=True, cu_seqlens=torch.tensor([0, 3, 8]))
        for part in (slice(0, 3), slice(3, 8)):
            torch.testing.assert_close(out[:, part], module(x[:, part], is_causal=True))

    def test_every_parameter_learns(self):
        module, x = self.build(), self.stream().requires_grad_()
        module(x, is_causal=True).square().sum().backward()
        assert x.grad.any()
        for name, parameter in module.named_parameters():
            assert parameter.isfinite().all(), name
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name

    def test_state_survives_a_round_trip(self):
        module, other, x = self.build(), self.build(), self.stream()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        other.load_state_dict(module.state_dict())
        assert torch.equal(other(x), module(x))

    def test_reset_draws_every_parameter_of_its_own_again(self):
        module = self.build()
        if not hasattr(module, "reset_parameters"):
            return
        with torch.no_grad():
            for parameter in module.parameters(recurse=False):
                parameter.fill_(torch.nan)
        module.reset_parameters()
        for name, parameter in module.named_parameters():
            assert parameter.isfinite().all(), name

    def test_the_picture_is_that_of_the_forward_pass(self):
        module, x = self.build().double(), self.stream().double()
        real = torch.ones(2, LENGTH, dtype=torch.bool)
        real[1, -2:] = False
        picture = module.synchrony(x, is_causal=True, key_mask=real)
        weights = picture.weights
        assert weights.dtype == torch.float64
        assert not weights.triu(1).any()
        assert not weights[1, :, :, -2:].any()
        total = weights.sum(-1)
        assert torch.minimum(total.abs(), (total - 1).abs()).max() < 1e-12
        if picture.order_parameter is not None:
            assert picture.order_parameter.shape == total.shape
            some = picture.weights.sum(-1) > 0
            assert (picture.order_parameter.isfinite() == some).all()
            order = picture.order_parameter[some]
            assert ((order >= 0) & (order <= 1)).all()
            assert picture.locked.dtype == torch.bool
        if not self.torus:
            value = module.v_proj(x).unflatten(-1, (module.num_heads, -1)).transpose(1, 2)
            out = module.o_proj((weights @ value).transpose(1, 2).flatten(-2))
            expected = module(x, is_causal=True, key_mask=real)
            torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)

    def test_double_precision_is_double(self):
        module, x = self.build().double(), self.stream().double()
        # A step of 1e-9 is lost in float32.
        step = 1e-9 * self.stream(seed=2).double()
        assert module(x).dtype == torch.float64
        probe = self.stream(seed=3).double()

        def projected(y):
            return (module(y, is_causal=True) * probe).sum()

        (gradient,) = torch.autograd.grad(projected(x.requires_grad_()), x)
        slope = (projected(x + step) - projected(x - step)) / 2e-9
        torch.testing.assert_close(slope, (gradient * step).sum() / 1e-9, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_stays_near(self, dtype):
        module, x = self.build(), self.stream()
        expected = module(x, is_causal=True)
        half = self.build().to(dtype)
        half.load_state_dict(module.state_dict())
        out = half(x.to(dtype), is_causal=True)
        assert out.dtype == dtype
        assert (out.float() - expected).abs().max() < 0.1 * expected.abs().max() + 0.02

    def test_autocast_runs_forward_and_backward(self):
        module, x = self.build(), self.stream().requires_grad_()
        expected = module(x, is_causal=True)
        with torch.autocast("cpu", torch.bfloat16):
            out = module(x, is_causal=True)
        assert (out.float() - expected).abs().max() < 0.1 * expected.abs().max() + 0.02
        out.float().sum().backward()
        for parameter in module.parameters():
            assert parameter.grad.isfinite().all()
