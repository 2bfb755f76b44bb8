import subprocess
import sys

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from syncattn.kernels.registration import Form, register


def _backward(gradient, x):
    return 2 * x * gradient


register(
    "squared_for_a_test",
    forward=Form("(Tensor x, int times) -> Tensor", lambda x, times: times * x * x,
                 lambda x, times: torch.empty_like(x)),
    backward=Form("(Tensor gradient, Tensor x) -> Tensor", _backward,
                  lambda gradient, x: torch.empty_like(x)),
    save=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
    differentiate=lambda ctx, gradient: (
        torch.ops.syncattn.squared_for_a_test_backward(gradient, *ctx.saved_tensors), None,
    ),
)  # fmt: skip


def test_an_operator_computes_differentiates_and_is_traced():
    x = torch.randn(3, requires_grad=True)
    y = torch.ops.syncattn.squared_for_a_test(x, 1)
    assert torch.equal(y, x * x)
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], 2 * x)
    with FakeTensorMode():
        nothing = torch.ops.syncattn.squared_for_a_test(torch.empty(5, device="meta"), 1)
    assert nothing.shape == (5,)
    assert torch.Tag.pt2_compliant_tag in torch.ops.syncattn.squared_for_a_test.default.tags


def test_opcheck_sees_that_the_gradient_is_one():
    x = torch.randn(3, requires_grad=True)
    torch.library.opcheck(torch.ops.syncattn.squared_for_a_test.default, (x, 1))


def test_the_compiler_is_not_imported_by_calling_an_operator():
    code = (
        "import sys, torch; from syncattn import functional; x = torch.ones(1, 1, 4, 2); "
        "functional.selective_synchronization(x, x, x, coupling_strength=1.0, coupling_decay=1.0); "
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
