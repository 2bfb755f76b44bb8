"""The drive and the read-out in blocks, operation by operation and compiled, against the sums."""

import pytest
import torch

from syncattn import reference
from syncattn.functional.oscillator_attention import COUPLINGS
from syncattn.kernels.oscillator_attention import (
    COUPLING_KINDS,
    oscillator_drive,
    oscillator_readout,
)
from tests.kernels.test_selective_synchronization import visibility_of
from tests.tolerance import assert_as_exact

MASKS = ["none", "causal", "key_mask", "segment", "attn_mask", "combined"]


@pytest.fixture(params=["operations", "compiled"])
def form(request):
    if request.param == "compiled":
        request.getfixturevalue("compiled")
    return request.param


def tensors(*shapes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(11)
    return [
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]


def dense_mask(visibility):
    mask = visibility.dense(torch.device("cpu"))
    shape = (2, 2, visibility.num_queries, visibility.num_keys)
    return torch.ones(shape).bool() if mask is None else mask.expand(shape)


def with_gradients(function, inputs):
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(5)
    loss = 0.0
    for x in outputs:
        loss = loss + (x.double() * torch.randn(x.shape, generator=generator)).sum()
    return (*outputs, *torch.autograd.grad(loss, inputs))


def compare(fast, dense, inputs, outputs):
    exact = with_gradients(dense, [x.detach().double().requires_grad_() for x in inputs])
    plain, got = with_gradients(dense, inputs), with_gradients(fast, inputs)
    for number, (a, b, c) in enumerate(zip(got, exact, plain, strict=True)):
        assert_as_exact(a, b, c.to(a.dtype), factor=2.0 if number < outputs else 3.0)


@pytest.mark.parametrize("coupling", COUPLING_KINDS)
@pytest.mark.parametrize("mask", MASKS)
def test_the_drive(form, mask, coupling):
    visibility = visibility_of(mask, 70, 70)
    inputs = tensors((2, 2, 70, 12), (2, 2, 70, 12), (2, 2, 70, 3))
    compare(
        lambda q, k, r: oscillator_drive(
            q, k, r, scale=0.3, coupling=coupling, visibility=visibility
        ),
        lambda q, k, r: reference.drive(
            q, k, r, scale=0.3, coupling=COUPLINGS[coupling], mask=dense_mask(visibility)
        ),
        inputs,
        2,
    )


@pytest.mark.parametrize("power", [1, 2, 4])
@pytest.mark.parametrize("mask", MASKS)
def test_the_readout(form, mask, power):
    visibility = visibility_of(mask, 70, 70)
    inputs = tensors((2, 2, 70, 4), (2, 2, 70, 4), (2, 2, 70, 7))
    compare(
        lambda x, r, v: oscillator_readout(x, r, v, readout_power=power, visibility=visibility),
        lambda x, r, v: (
            reference.oscillator_attention_weights(
                x, r, readout_power=power, mask=dense_mask(visibility)
            )
            @ v
        ),
        inputs,
        1,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (15, 63), (500, 500)])
def test_sizes_and_dtypes(form, dtype, queries, keys):
    visibility = visibility_of("causal", queries, keys)
    inputs = tensors((2, 2, queries, 8), (2, 2, keys, 8), (2, 2, keys, 2), dtype=dtype)
    compare(
        lambda q, k, r: oscillator_drive(
            q, k, r, scale=0.3, coupling="softplus", visibility=visibility
        ),
        lambda q, k, r: reference.drive(q, k, r, scale=0.3, mask=dense_mask(visibility)),
        inputs,
        2,
    )


def test_anchors_shared_by_the_batch_gather_its_gradients(form):
    visibility = visibility_of("causal", 20, 20)
    q, k, r = tensors((2, 2, 20, 4), (2, 2, 20, 4), (1, 2, 20, 3))
    h, _ = oscillator_drive(q, k, r, scale=0.5, coupling="elu", visibility=visibility)
    d_shared = torch.autograd.grad(h.square().sum(), r)[0]
    each = r.detach().expand(2, -1, -1, -1).clone().requires_grad_()
    h, _ = oscillator_drive(q, k, each, scale=0.5, coupling="elu", visibility=visibility)
    d_each = torch.autograd.grad(h.square().sum(), each)[0]
    assert torch.allclose(d_shared, d_each.sum(0, keepdim=True), rtol=1e-5, atol=1e-5)


def test_what_padding_holds_does_not_matter(form):
    visibility = visibility_of("key_mask", 30, 30)
    q, k, r = tensors((2, 2, 30, 4), (2, 2, 30, 4), (2, 2, 30, 3))
    padded = ~visibility.key_mask[:, None, :, None]
    args = {"scale": 0.5, "coupling": "softplus", "visibility": visibility}
    h, total = oscillator_drive(q, k, r, **args)
    other = oscillator_drive(q, torch.where(padded, 1e3, k), torch.where(padded, 1e3, r), **args)
    assert torch.equal(h, other[0])
    assert torch.equal(total, other[1])


@pytest.mark.parametrize("mask", ["none", "combined"])
def test_the_custom_operator_is_well_formed(mask):
    v = visibility_of(mask, 6, 6)
    q, k, r = tensors((2, 2, 6, 4), (2, 2, 6, 4), (2, 2, 6, 3))
    arguments = (q, k, r, v.key_mask, v.segment, v.attn_mask, v.is_causal, "softplus", 0.5, 1)
    torch.library.opcheck(torch.ops.syncattn.product_sums.default, arguments)


@pytest.mark.parametrize("kind", ["softplus", "elu"])
def test_gradcheck(kind):
    visibility = visibility_of("combined", 5, 5)
    inputs = tensors((2, 2, 5, 3), (2, 2, 5, 3), (2, 2, 5, 2), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda q, k, r: oscillator_drive(q, k, r, scale=0.7, coupling=kind, visibility=visibility),
        inputs,
    )
