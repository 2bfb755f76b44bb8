"""The torus operators through Triton against their definitions."""

import pytest
import torch

pytest.importorskip("triton")

from syncattn import BackendUnavailableError, functional
from tests.functional.operators import FRUSTRATED, INCLUSIVE_KURAMOTO, KURAMOTO, _frustrated
from tests.kernels.interpreted import BY_NAME, DEVICE, DTYPES, conforms, scenes


@pytest.mark.parametrize("scene", scenes(lambda name: name != "packed"))
def test_frustrated_synchronization_is_the_definition(scene):
    conforms(FRUSTRATED, "triton", scene)


@pytest.mark.parametrize("scene", scenes())
def test_kuramoto_attention_is_the_definition(scene):
    conforms(KURAMOTO, "triton", scene)


def test_a_token_may_see_itself():
    conforms(INCLUSIVE_KURAMOTO, "triton", BY_NAME["causal"])


def test_four_harmonics_shared_by_all_coordinates():
    conforms(_frustrated(2, 4, True, width=1), "triton", BY_NAME["causal"])


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("operator", [KURAMOTO, FRUSTRATED], ids=["kuramoto", "frustrated"])
def test_half_precision_is_as_exact_as_its_features(operator, dtype):
    inputs = operator.inputs(BY_NAME["causal"], DEVICE, dtype)
    out = operator.call(inputs, "triton", is_causal=True)
    wide = {name: x.double() for name, x in inputs.items()}
    exact = operator.exact(wide, BY_NAME["causal"])
    assert out.dtype == dtype
    # Scores are sums of 8 products of gates and cosines, each rounded: their error is that of the
    # features times the size of the score, and moves the weights as much.
    size = max(1.0, exact.abs().max().item())
    assert (out.double() - exact).abs().max() <= 16 * torch.finfo(dtype).eps * size


@pytest.mark.parametrize("operator", ["kuramoto", "frustrated"])
def test_a_sink_is_that_of_the_other_backends(operator):
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(1, 2, 9, 3, generator=generator).to(DEVICE).requires_grad_()
    sink = torch.tensor([0.4, -1.0], device=DEVICE, requires_grad=True)
    kernel = torch.randn(2, 2, 2, 3, generator=generator).to(DEVICE)
    results = []
    for backend in ("triton", "reference"):
        if operator == "kuramoto":
            out = functional.kuramoto_attention(
                theta, theta, sink=sink, is_causal=True, backend=backend
            )
        else:
            out = functional.frustrated_synchronization(
                theta, theta, harmonic_amplitude=kernel, frustration=kernel, sink=sink,
                is_causal=True, backend=backend,
            )  # fmt: skip
        results.append((out, *torch.autograd.grad(out.square().sum(), (theta, sink))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_what_the_kernels_lack_is_named():
    theta = torch.zeros(1, 2, 4, 3, device=DEVICE)
    kernel = torch.ones(2, 3, 1, 1, device=DEVICE)
    with pytest.raises(BackendUnavailableError, match=r"at most one step \(NOT met\)"):
        functional.frustrated_synchronization(
            theta, theta, harmonic_amplitude=kernel, frustration=kernel, is_causal=True,
            backend="triton",
        )  # fmt: skip
    wide = torch.zeros(1, 1, 4, 130, device=DEVICE)
    with pytest.raises(BackendUnavailableError, match=r"at most 128 coordinates \(NOT met\)"):
        functional.kuramoto_attention(wide, wide, backend="triton")
