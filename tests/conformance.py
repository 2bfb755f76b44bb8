"""What every (operator, backend) must satisfy, written once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tolerance import assert_as_exact, assert_same

HEADS = 2
Inputs = dict[str, torch.Tensor]


class Scene(NamedTuple):
    """Sizes and masks of one call.

    `lengths` are those of packed sequences; `real` says which keys are no padding; `allowed` is
    the attention mask.
    """

    name: str
    batch: int = 2
    queries: int = 6
    keys: int = 6
    is_causal: bool = False
    real: torch.Tensor | None = None
    lengths: tuple[int, ...] | None = None
    allowed: torch.Tensor | None = None

    def visibility(self, device="cpu") -> dict[str, Any]:
        """Returns the keyword arguments of the call."""
        named: dict[str, Any] = {"is_causal": self.is_causal}
        if self.real is not None:
            named["key_mask"] = self.real.to(device)
        if self.lengths is not None:
            ends = torch.tensor([0, *self.lengths]).cumsum(0)
            named["cu_seqlens"] = ends.to(device)
        if self.allowed is not None:
            named["attn_mask"] = self.allowed.to(device)
        return named

    def mask(self, *, exclude_self: bool = False, include_self: bool = False, device="cpu"):
        """Returns the same as one dense mask, built pair by pair from the words of the docs."""
        shape = (self.batch, HEADS, self.queries, self.keys)
        allowed = torch.ones(shape, dtype=torch.bool)
        if self.allowed is not None:
            allowed = self.allowed.expand(shape).clone()
        owner = None
        if self.lengths is not None:
            owner = [n for n, length in enumerate(self.lengths) for _ in range(length)]
        offset = self.keys - self.queries
        for i in range(self.queries):
            for j in range(self.keys):
                if include_self and j == i + offset:
                    allowed[:, :, i, j] = True
                hidden = self.is_causal and j > i + offset
                hidden |= exclude_self and j == i + offset
                hidden |= owner is not None and owner[i + offset] != owner[j]
                if hidden:
                    allowed[:, :, i, j] = False
        if self.real is not None:
            allowed &= self.real[:, None, None, :]
        return allowed.to(device)

    def rows(self, device="cpu"):
        """Returns which rows are no padding, ``(batch, 1, queries, 1)``."""
        rows = torch.ones(self.batch, 1, self.queries, 1, dtype=torch.bool)
        if self.real is not None:
            rows = self.real[:, None, self.keys - self.queries :, None]
        return rows.to(device)


_RAGGED = torch.tensor([[True] * 6, [False, True, True, True, False, True]])
_RANDOM = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(7)) < 0.6

SCENES = (
    Scene("everything"),
    Scene("cross", queries=3, keys=5),
    Scene("causal", is_causal=True),
    Scene("last-rows", queries=2, is_causal=True),
    Scene("last-row", queries=1, is_causal=True),
    Scene("padded", real=_RAGGED),
    Scene("padded-causal", real=_RAGGED, is_causal=True),
    Scene("packed", batch=1, lengths=(3, 1, 2)),
    Scene("packed-causal", batch=1, lengths=(1, 3, 2), is_causal=True),
    Scene("masked", allowed=_RANDOM),
    Scene("masked-padded-causal", real=_RAGGED, allowed=_RANDOM, is_causal=True),
)


@dataclass(frozen=True)
class Operator:
    """An operator under test.

    Attributes:
        backends: Every backend it names.
        draw: From (batch, queries, keys, generator) to float64 inputs by name.
        call: From (inputs, backend, visibility by keyword) to the output.
        define: From (inputs, mask, reach) to the output of the dense definition.
        on_queries: Names of inputs whose third axis is the queries.
        on_keys: Names of inputs whose third axis is the keys.
        weights: From (inputs, visibility by keyword) to the dense weights.
        exclude_self: Whether a token is hidden from itself.
        supports: Whether a backend can run a scene.
        smooth: Keyword arguments under which the gradient is that of the exact function.
    """

    backends: tuple[str, ...]
    draw: Callable[..., Inputs]
    call: Callable[..., torch.Tensor]
    define: Callable[..., torch.Tensor]
    on_queries: tuple[str, ...]
    on_keys: tuple[str, ...]
    weights: Callable[..., torch.Tensor] | None = None
    exclude_self: bool = False
    supports: Callable[[str, Scene], bool] = lambda backend, scene: True
    smooth: tuple[tuple[str, Any], ...] = ()

    def runs(self):
        """Returns every backend with every scene that it promises to run."""
        return [(b, scene) for b in self.backends for scene in SCENES if self.supports(b, scene)]

    def inputs(self, scene: Scene, device="cpu", dtype=torch.float64, seed: int = 0) -> Inputs:
        """Returns leaves that ask for gradients."""
        generator = torch.Generator().manual_seed(seed)
        drawn = self.draw(scene.batch, scene.queries, scene.keys, generator)
        return {
            name: x.to(device=device, dtype=dtype).requires_grad_() for name, x in drawn.items()
        }

    def exact(self, inputs: Inputs, scene: Scene):
        """Returns the definition with masks built independently of the package."""
        device = next(iter(inputs.values())).device
        mask = scene.mask(exclude_self=self.exclude_self, device=device)
        return self.define(inputs, mask, scene.mask(include_self=True, device=device))


def gradients(output, inputs: Inputs, rows=None, seed: int = 1) -> Inputs:
    """Returns the gradient of a random projection of the output in every input."""
    generator = torch.Generator().manual_seed(seed)
    probe = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    probe = probe.to(output.device)
    loss = output.double() * probe
    if rows is not None:
        loss = torch.where(rows, loss, 0.0)
    found = torch.autograd.grad(
        loss.sum(), list(inputs.values()), allow_unused=True, retain_graph=True
    )
    return {
        name: torch.zeros_like(x) if g is None else g
        for (name, x), g in zip(inputs.items(), found, strict=True)
    }


def leaves(inputs: Inputs) -> Inputs:
    return {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}


def plain_form(operator: Operator, inputs: Inputs, scene: Scene, dtype):
    """Returns the definition in the dtype that an operator may compute in, rounded once."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return operator.exact({name: x.to(wide) for name, x in inputs.items()}, scene).to(dtype)


class Conformance:
    """The laws; a subclass sets `operator` and inherits them."""

    operator: Operator

    def test_value_is_that_of_the_definition(self, backend, scene, device):
        inputs, rows = self.operator.inputs(scene, device), scene.rows(device)
        out = self.operator.call(inputs, backend, **scene.visibility(device))
        assert out.isfinite().all()
        assert_same(out * rows, self.operator.exact(inputs, scene) * rows)

    def test_gradient_of_every_input_is_that_of_the_definition(self, backend, scene, device):
        inputs, rows = self.operator.inputs(scene, device), scene.rows(device)
        out = self.operator.call(inputs, backend, **scene.visibility(device))
        found = gradients(out, inputs, rows)
        expected = gradients(self.operator.exact(inputs, scene), inputs, rows)
        for name in inputs:
            assert expected[name].any(), f"the probe does not reach {name}"
            assert_same(found[name], expected[name], 1e-10)

    @pytest.mark.parametrize("is_causal", [False, True])
    def test_gradcheck(self, backend, is_causal, device):
        scene = Scene("small", batch=1, queries=3, keys=3, is_causal=is_causal)
        if not self.operator.supports(backend, scene):
            pytest.skip("the backend does not promise this scene")
        inputs = self.operator.inputs(scene, device)

        def function(*tensors):
            named = dict(zip(inputs, tensors, strict=True))
            smooth = dict(self.operator.smooth)
            return self.operator.call(named, backend, is_causal=is_causal, **smooth)

        assert torch.autograd.gradcheck(function, tuple(inputs.values()), fast_mode=True)

    def test_dtype_and_device_are_kept_and_precise(self, backend, dtype, device):
        scene = Scene("precision", is_causal=True)
        inputs = self.operator.inputs(scene, device, dtype)
        out = self.operator.call(inputs, backend, is_causal=True)
        assert out.dtype == dtype
        assert out.device.type == device.type
        wide = {name: x.detach().double().requires_grad_() for name, x in inputs.items()}
        exact = self.operator.exact(wide, scene)
        plain = plain_form(self.operator, inputs, scene, dtype)
        assert_as_exact(out, exact, plain)
        found, expected = gradients(out, inputs), gradients(exact, wide)
        roughly = gradients(plain, inputs)
        for name in inputs:
            assert_as_exact(found[name], expected[name], roughly[name], factor=3.0)

    def test_the_future_does_not_reach_the_past(self, backend, device):
        scene = Scene("causal", is_causal=True, queries=9, keys=9)
        inputs = self.operator.inputs(scene, device)
        before = self.operator.call(inputs, backend, is_causal=True)
        for now in (0, 3, 7):
            changed = leaves(inputs)
            for name in self.operator.on_queries + self.operator.on_keys:
                changed[name].data[:, :, now + 1 :] += 3.0
            after = self.operator.call(changed, backend, is_causal=True)
            assert torch.equal(after[:, :, : now + 1], before[:, :, : now + 1])
            assert not torch.equal(after[:, :, now + 1 :], before[:, :, now + 1 :])

    @pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 1e30])
    @pytest.mark.parametrize("side", ["append", "prepend"])
    def test_padding_changes_nothing(self, backend, side, garbage, device):
        for is_causal in (False, True):
            scene = Scene("real", is_causal=is_causal, queries=5, keys=5)
            if not self.operator.supports(backend, scene._replace(real=torch.ones(2, 5).bool())):
                continue
            inputs = self.operator.inputs(scene, device)
            expected = self.operator.call(inputs, backend, is_causal=is_causal)
            real = torch.zeros(2, 8, dtype=torch.bool, device=device)
            kept = slice(0, 5) if side == "append" else slice(3, 8)
            real[:, kept] = True
            padded = leaves(inputs)
            for name in self.operator.on_queries + self.operator.on_keys:
                x = inputs[name].detach()
                longer = x.new_full((*x.shape[:2], 8, x.shape[3]), garbage)
                longer[:, :, kept] = x
                padded[name] = longer.requires_grad_()
            out = self.operator.call(padded, backend, is_causal=is_causal, key_mask=real)
            assert_same(out[:, :, kept], expected)
            found = gradients(out[:, :, kept], padded)
            for name, expected_gradient in gradients(expected, inputs).items():
                gradient = found[name]
                if name in self.operator.on_queries + self.operator.on_keys:
                    assert not gradient[:, :, ~real[0]].any()
                    gradient = gradient[:, :, kept]
                assert_same(gradient, expected_gradient, 1e-10)

    @pytest.mark.parametrize("is_causal", [False, True])
    def test_packed_sequences_are_separate_sequences(self, backend, is_causal, device):
        lengths = (4, 1, 3, 2)
        packed = Scene("packed", 1, sum(lengths), sum(lengths), is_causal, lengths=lengths)
        if not self.operator.supports(backend, packed):
            pytest.skip("the backend does not promise this scene")
        inputs = self.operator.inputs(packed, device)
        out = self.operator.call(inputs, backend, **packed.visibility(device))
        start = 0
        for length in lengths:
            part = dict(inputs)
            for name in self.operator.on_queries + self.operator.on_keys:
                part[name] = inputs[name][:, :, start : start + length]
            alone = self.operator.call(part, backend, is_causal=is_causal)
            assert_same(out[:, :, start : start + length], alone)
            start += length

    def test_a_row_that_sees_nothing_is_zero_without_gradient(self, backend, device):
        allowed = torch.ones(2, 1, 6, 6, dtype=torch.bool)
        allowed[:, :, 2] = False
        scene = Scene("blind", allowed=allowed)
        if not self.operator.supports(backend, scene):
            pytest.skip("the backend does not promise this scene")
        inputs = self.operator.inputs(scene, device)
        out = self.operator.call(inputs, backend, **scene.visibility(device))
        assert not out[:, :, 2].any()
        for gradient in gradients(out[:, :, 2], inputs).values():
            assert not gradient.any()
        for gradient in gradients(out, inputs).values():
            assert gradient.isfinite().all()

    def test_few_queries_are_the_last_rows(self, backend, device):
        inputs = self.operator.inputs(Scene("full", queries=7, keys=7), device)
        full = self.operator.call(inputs, backend, is_causal=True)
        for count in (1, 3):
            few = dict(inputs)
            for name in self.operator.on_queries:
                few[name] = inputs[name][:, :, -count:]
            assert_same(self.operator.call(few, backend, is_causal=True), full[:, :, -count:])

    @pytest.mark.parametrize("length", [1, 15, 63])
    def test_lengths(self, backend, length, device):
        scene = Scene("length", 1, length, length, is_causal=True)
        inputs = self.operator.inputs(scene, device)
        out = self.operator.call(inputs, backend, is_causal=True)
        assert_same(out, self.operator.exact(inputs, scene))
        for gradient in gradients(out, inputs).values():
            assert gradient.isfinite().all()

    def test_many_queries_of_one_key(self, backend, device):
        scene = Scene("one key", queries=5, keys=1)
        if not self.operator.supports(backend, scene):
            pytest.skip("the backend does not promise this scene")
        inputs = self.operator.inputs(scene, device)
        out = self.operator.call(inputs, backend, is_causal=False)
        assert_same(out, self.operator.exact(inputs, scene))

    def test_strides_do_not_matter(self, backend, device):
        inputs = self.operator.inputs(Scene("strided"), device)
        strided = {
            name: x.detach().transpose(1, 2).contiguous().transpose(1, 2) if x.dim() == 4 else x
            for name, x in inputs.items()
        }
        assert_same(
            self.operator.call(strided, backend, is_causal=True),
            self.operator.call(inputs, backend, is_causal=True),
        )

    @pytest.mark.parametrize("shape", [(6, 6), (1, 6), (6, 1), (1, 1, 1, 6), (2, 1, 6, 6)])
    def test_masks_broadcast(self, backend, shape, device):
        allowed = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.7
        scene = Scene("broadcast", allowed=allowed)
        if not self.operator.supports(backend, scene):
            pytest.skip("the backend does not promise this scene")
        inputs = self.operator.inputs(scene, device)
        out = self.operator.call(inputs, backend, **scene.visibility(device))
        whole = scene._replace(allowed=allowed.expand(2, HEADS, 6, 6))
        assert_same(out, self.operator.exact(inputs, whole))

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_any_size_and_any_mask(self, backend, data, device):
        keys = data.draw(st.integers(1, 9))
        queries, batch = data.draw(st.integers(1, keys)), data.draw(st.integers(1, 3))
        seed = data.draw(st.integers(0, 2**16))
        generator = torch.Generator().manual_seed(seed)
        allowed = torch.rand(batch, HEADS, queries, keys, generator=generator) < 0.7
        scene = Scene("drawn", batch, queries, keys, data.draw(st.booleans()))
        if data.draw(st.booleans()):
            scene = scene._replace(allowed=allowed)
        if not self.operator.supports(backend, scene):
            return
        inputs = self.operator.inputs(scene, device, seed=seed)
        out = self.operator.call(inputs, backend, **scene.visibility(device))
        # Near the locking edge a square root turns rounding of 1e-16 into 1e-8.
        assert_same(out, self.operator.exact(inputs, scene), 1e-7)


class PermutationLaws:
    """What holds besides where neither position nor succession is part of the operator."""

    operator: Operator

    def test_keys_have_no_order_of_their_own(self, backend, device):
        inputs = self.operator.inputs(Scene("cross", queries=4, keys=7), device)
        order = torch.randperm(7, device=device)
        shuffled = dict(inputs)
        for name in self.operator.on_keys:
            shuffled[name] = inputs[name][:, :, order]
        assert_same(
            self.operator.call(shuffled, backend, is_causal=False),
            self.operator.call(inputs, backend, is_causal=False),
        )


class WeightLaws:
    """What holds besides for the dense weights."""

    operator: Operator

    def test_rows_of_the_weights_sum_to_one_or_to_zero(self, device):
        for scene in SCENES:
            inputs = self.operator.inputs(scene, device)
            weights = self.operator.weights(inputs, **scene.visibility(device))
            mask = scene.mask(exclude_self=self.operator.exclude_self, device=device)
            assert weights.shape == mask.shape
            assert (weights >= 0).all()
            assert not weights[~mask & scene.rows(device)].any()
            total = weights.sum(-1)
            assert torch.minimum(total, (total - 1).abs()).max() <= 1e-12
