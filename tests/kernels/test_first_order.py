"""The fast forms refuse a second derivative, which they would leave parts of out."""

import pytest
import torch

from syncattn import functional
from syncattn.kernels import phase_passes
from syncattn.kernels.bounded_softmax import attend_bounded
from syncattn.kernels.first_order import first_order

VALUE = torch.randn(1, 1, 16, 2, generator=torch.Generator().manual_seed(1))
OPERATORS = {
    "selective": (
        "blockwise",
        lambda x, backend: functional.selective_synchronization(
            x, x, VALUE.to(x.dtype), coupling_strength=1.0, coupling_decay=1.0, backend=backend
        ),
    ),
    "oscillator": (
        "blockwise",
        lambda x, backend: functional.oscillator_attention(
            x, x, VALUE.to(x.dtype), 0.3 * VALUE.to(x.dtype), backend=backend
        ),
    ),
    "kuramoto": (
        "sdpa",
        lambda x, backend: functional.kuramoto_attention(x, x, is_causal=True, backend=backend),
    ),
}


def twice(operator, x, backend):
    """The gradient of a gradient's square: what a gradient penalty adds to the gradient."""
    # The second term keeps a path to the operand, round the operator.
    loss = operator(x, backend).square().sum() + (x**3).sum()
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


def refused(name):
    fast, operator = OPERATORS[name]
    x = (0.3 * torch.randn(1, 1, 16, 2)).requires_grad_()
    with pytest.raises(RuntimeError, match=r"must be differentiated once.*`backend=\"reference\"`"):
        twice(operator, x, fast)
    assert twice(operator, x, "reference").isfinite().all()
    assert torch.autograd.grad(operator(x, fast).square().sum(), x)[0].any()


@pytest.mark.parametrize("name", OPERATORS)
def test_compiled_passes_refuse(compiled, name):
    refused(name)


@pytest.mark.parametrize("name", ["selective", "oscillator"])
def test_tiles_refuse(name):
    refused(name)


def test_sums_of_exponentials_refuse(compiled, monkeypatch):
    used = []
    monkeypatch.setattr(
        phase_passes,
        "attend_bounded",
        lambda *x, **y: (used.append(1), attend_bounded(*x, **y))[1],
    )
    phase = torch.randn(1, 1, 300, 2, requires_grad=True)
    real = torch.ones(1, 300, dtype=torch.bool)
    out = functional.kuramoto_attention(phase, phase, is_causal=True, key_mask=real)
    with pytest.raises(RuntimeError, match="must be differentiated once"):
        torch.autograd.grad(out.square().sum(), phase, create_graph=True)
    assert used


def test_a_backward_pass_runs_where_nothing_is_recorded():
    run = first_order(lambda ctx, gradient: (ctx, gradient))
    with torch.no_grad():
        assert run(1, 2) == (1, 2)
    with pytest.raises(RuntimeError, match="must be differentiated once"):
        run(1, 2)
