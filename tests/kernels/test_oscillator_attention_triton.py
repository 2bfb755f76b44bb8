"""Oscillator attention through Triton against its definition."""

import pytest
import torch

pytest.importorskip("triton")

from syncattn import BackendUnavailableError, functional
from syncattn._masks import Visibility
from syncattn.kernels.oscillator_attention_triton import oscillator_drive, oscillator_readout
from tests.functional.operators import OSCILLATOR, SHARP_OSCILLATOR, _oscillator
from tests.kernels.interpreted import BY_NAME, DEVICE, DTYPES, conforms, scenes


@pytest.mark.parametrize("scene", scenes())
def test_it_is_the_definition(scene):
    conforms(SHARP_OSCILLATOR, "triton", scene)


@pytest.mark.parametrize("power", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_other_powers(power):
    conforms(_oscillator(power, "relu"), "triton", BY_NAME["packed-causal"])


@pytest.mark.parametrize(
    "dtype", [DTYPES[1], pytest.param(DTYPES[2], marks=pytest.mark.slow)], ids=["bf16", "fp16"]
)
def test_half_precision_is_as_exact_as_the_dense_form(dtype):
    conforms(OSCILLATOR, "triton", BY_NAME["causal"], dtype)


def test_the_drive_is_float32_whatever_multiplies():
    x = torch.ones(1, 1, 4, 8, device=DEVICE, dtype=torch.float16)
    anchor = torch.ones(1, 1, 4, 2, device=DEVICE)
    scale = 2.0**13
    h, total = oscillator_drive(
        x, x, anchor, scale=scale, coupling="softplus", visibility=Visibility(4, 4)
    )
    assert h.dtype == total.dtype == torch.float32
    # Beyond the range of float16.
    torch.testing.assert_close(h, torch.full_like(h, 4 * 8 * scale))
    torch.testing.assert_close(total, torch.full_like(total, 4 * 8 * scale))


def test_anchors_shared_by_the_batch_gather_its_gradients():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 9, 3, generator=generator).to(DEVICE)
    value = torch.randn(2, 1, 9, 4, generator=generator).to(DEVICE)
    shared = torch.randn(1, 1, 9, 3, generator=generator).to(DEVICE).requires_grad_()
    each = shared.detach().expand(2, -1, -1, -1).clone().requires_grad_()
    outputs = []
    for anchor in (shared, each):
        out = oscillator_readout(
            0.3 * x, anchor, value, readout_power=2, visibility=Visibility(9, 9, is_causal=True)
        )
        out.square().sum().backward()
        outputs.append(out)
    assert torch.equal(*outputs)
    torch.testing.assert_close(shared.grad, each.grad.sum(0, keepdim=True))


def test_a_coupling_of_ones_own_is_refused():
    x = torch.zeros(1, 1, 4, 2, device=DEVICE)
    anchor = torch.ones(1, 1, 4, 2, device=DEVICE)
    with pytest.raises(BackendUnavailableError, match=r"`coupling` is given by name \(NOT met\)"):
        functional.oscillator_attention(x, x, x, anchor, coupling=torch.exp, backend="triton")
