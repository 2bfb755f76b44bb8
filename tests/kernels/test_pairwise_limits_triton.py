"""What the Triton kernels meet at the edges: far strides, the memory they take, other devices."""

from contextlib import nullcontext

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

pytest.importorskip("triton")

from syncattn._masks import Visibility
from syncattn.kernels import pairwise_launch_triton as launch
from syncattn.kernels import pairwise_operator_triton as operator
from syncattn.kernels.pairwise_operator_triton import Kernel, pair_sums
from tests.kernels.ahead import KERNELS

QUICK = (("token", "distance"), ("batch", "softmax"))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def far_apart(shape, axis, step):
    """Returns a tensor that reaches beyond 2^31 elements in memory of which little is touched."""
    strides = list(torch.empty(shape, device="meta").stride())
    strides[axis] = step
    reach = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    assert reach > 2**31
    try:
        memory = torch.empty(reach, dtype=torch.bfloat16, device=DEVICE)
    except RuntimeError:
        pytest.skip(f"{2 * reach / 1e9:.1f} GB cannot be reserved here")
    generator = torch.Generator().manual_seed(0)
    x = memory.as_strided(shape, strides)
    return x.copy_(0.3 * torch.randn(shape, generator=generator)).requires_grad_()


def sums_and_gradients(x, kernel, key_mask):
    batch, heads, length = x.shape[:3]
    lock = {}
    if kernel.kind == "distance":
        lock = {"threshold": torch.full((batch, heads, length), 0.2, device=DEVICE),
                "stretch": torch.ones(heads, device=DEVICE)}  # fmt: skip
    visibility = Visibility(length, length, True, key_mask)
    out, total = pair_sums(x, x, x, kernel, visibility, **lock)
    return out, total, *torch.autograd.grad(out.float().square().sum() + total.sum(), x)


FAR = {"batch": (0, 2**31 + 64), "head": (1, 2**31 + 64), "token": (2, 2**27)}
# Interpreted, a case takes seconds.
CASES = [
    pytest.param(*FAR[axis], kind, id=f"{axis}-{kind}",
                 marks=() if (axis, kind) in QUICK else pytest.mark.slow)
    for axis in FAR
    for kind in ("softmax", "distance")
]  # fmt: skip


@pytest.mark.parametrize(("axis", "step", "kind"), CASES)
def test_strides_beyond_two_to_the_31_elements(axis, step, kind):
    shape = [1, 1, 20, 16]
    shape[axis] = max(2, shape[axis])
    x = far_apart(shape, axis, step)
    key_mask = (torch.arange(20, device=DEVICE) % 5 > 0).expand(shape[0], -1)
    kernel = Kernel(kind, join_self=kind == "distance")
    near = x.detach().contiguous().requires_grad_()
    results = [sums_and_gradients(y, kernel, key_mask) for y in (x, near)]
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    assert results[0][2].abs().max() > 0.01


class Made(TorchDispatchMode):
    """Counts the bytes of all that is made, views left out."""

    def __init__(self):
        super().__init__()
        self.known, self.total = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for x in tree_leaves(found):
            if isinstance(x, torch.Tensor) and (storage := x.untyped_storage()) not in self.known:
                self.known[storage] = None
                self.total += storage.nbytes()
        return found


class Silent:
    """Stands where a kernel stood and launches nothing."""

    def __getitem__(self, grid):
        return lambda *arguments, **options: None


def bytes_made(length, kind, visibility, monkeypatch):
    """Returns what a call makes on a CUDA device that is not there, forward and backward."""
    for name in KERNELS:
        monkeypatch.setattr(launch, name, Silent())
    monkeypatch.setattr(launch, "_on", lambda x: nullcontext())
    distance = kind == "distance"
    with FakeTensorMode(), torch.device("cuda:0"), Made() as made:
        x = torch.empty(2, 4, length, 64, dtype=torch.bfloat16)
        value = torch.empty(2, 4, length, 300, dtype=torch.bfloat16)
        key_mask = torch.ones(2, length, dtype=torch.bool) if "padded" in visibility else None
        segment = torch.zeros(length, dtype=torch.int64) if "packed" in visibility else None
        operands = (
            x, x, value, torch.empty(2, 4, length) if distance else None,
            torch.empty(4) if distance else None, torch.empty(4) if kind == "softmax" else None,
            key_mask, segment, "causal" in visibility, False, distance, kind, 1.0, 2, 0.0, 1e-3,
            False,
        )  # fmt: skip
        out, total = operator._forward(*operands)
        assert out.device == total.device == x.device
        gradients = operator._backward(
            torch.empty_like(out), torch.empty_like(total), out, total, True, True, True, *operands
        )
        assert {g.device for g in gradients} == {x.device}
    return made.total


UNINDEXED = pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason="PyTorch without CUDA cannot index there"
)
VISIBILITIES = ["everyone", "padded causal", pytest.param("packed causal", marks=UNINDEXED)]


@pytest.mark.parametrize("kind", launch.KINDS)
@pytest.mark.parametrize("visibility", VISIBILITIES)
def test_memory_is_linear_in_the_length_and_on_the_device(kind, visibility, monkeypatch):
    short, long = (bytes_made(n, kind, visibility, monkeypatch) for n in (4096, 16384))
    # What is made, freed or not, in units of the operands: a matrix of all pairs would be 64.
    operands = 2 * 2 * 4 * 4096 * (64 + 64 + 300)
    assert short < 20 * operands
    assert long <= 4.01 * short


@pytest.mark.gpu
@pytest.mark.parametrize("pruned", [False, True])
def test_peak_memory_is_linear_in_the_length(pruned):
    peaks = []
    for length in (8192, 16384):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, 4, length, 64, generator=generator).to(DEVICE, torch.bfloat16)
        x = (8.0 * x).requires_grad_() if pruned else x.requires_grad_()
        kernel = Kernel("distance", join_self=True, pruned=pruned)
        threshold = torch.full(x.shape[:3], 0.2, device=DEVICE)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        out, _ = pair_sums(x, x, x, kernel, Visibility(length, length, True),
                           threshold=threshold, stretch=torch.ones(4, device=DEVICE))  # fmt: skip
        torch.autograd.grad(out.sum(), x)
        torch.cuda.synchronize()
        peaks.append(torch.cuda.max_memory_allocated() - before)
        del x, out, threshold
    assert peaks[1] < 2.5 * peaks[0]
