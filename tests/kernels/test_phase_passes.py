"""The compiled passes of the torus operators: as exact as the operations they replace."""

import pytest
import torch

from syncattn import functional
from syncattn.kernels import phase_passes
from syncattn.kernels.compiled import fuse
from tests.tolerance import assert_as_exact


def draws(batch, heads, length, dim, delays, harmonics, width, mask):
    torch.manual_seed(length + dim)
    phase, query_gate, key_gate = torch.randn(3, batch, length, heads * dim).unbind()
    kernel = torch.randn(2, heads, delays, harmonics, width)
    key_mask = None
    if mask is not None:
        key_mask = torch.ones(batch, length, dtype=torch.bool)
        part = length // 3
        key_mask[0, slice(part) if mask == "left" else slice(length - part, None)] = False
    return [phase, query_gate, key_gate, *kernel], key_mask


def results(tensors, heads, dtype, **rules):
    """The increments and all gradients, of heads that are views of a stream as in a layer."""
    leaves = [x.to(dtype).requires_grad_() for x in tensors]
    phase, query_gate, key_gate = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in leaves[:3])
    drift = functional.rotary_drift(phase.shape[-1])
    out = functional.frustrated_synchronization(
        phase, phase, query_gate, key_gate, harmonic_amplitude=leaves[3], frustration=leaves[4],
        natural_frequency=drift, **rules,
    )  # fmt: skip
    out.sin().sum().backward()
    return [out.detach(), *(x.grad for x in leaves)]


@pytest.mark.parametrize("rule", ["strict", "everybody", "others"])
@pytest.mark.parametrize("mask", [None, "left", "right"])
@pytest.mark.parametrize(("delays", "harmonics", "width"), [(1, 1, 5), (2, 1, 1), (2, 3, 5)])
@pytest.mark.parametrize("length", [2, 40])
def test_errs_no_more_than_the_operations(compiled, length, delays, harmonics, width, mask, rule):
    tensors, key_mask = draws(2, 3, length, 5, delays, harmonics, width, mask)
    rules = {
        "is_causal": rule == "strict", "exclude_self": rule != "everybody", "key_mask": key_mask
    }  # fmt: skip
    exact = results(tensors, 3, torch.float64, **rules)
    fast = results(tensors, 3, torch.float32, **rules)
    fuse(False)
    plain = results(tensors, 3, torch.float32, **rules)
    for got, true, other in zip(fast, exact, plain, strict=True):
        # Sums over tokens run in another order than a library's, hence one digit of leeway.
        assert_as_exact(got, true, other, factor=4.0)


def test_kuramoto_attention_is_the_kernel_of_one(compiled, monkeypatch):
    used = []
    whole = phase_passes.run
    monkeypatch.setattr(
        phase_passes, "run", lambda name, call: (used.append(name), whole(name, call))
    )
    phase = torch.randn(1, 2, 33, 8)
    fast = functional.kuramoto_attention(phase, phase, is_causal=True)
    assert used == ["phases_encode", "phases_unfold"]
    fuse(False)
    plain = functional.kuramoto_attention(phase, phase, is_causal=True)
    torch.testing.assert_close(fast, plain)


def test_what_the_passes_do_not_know_goes_the_other_way(compiled, monkeypatch):
    def refuse(name, call):
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(phase_passes, "run", refuse)
    phase = torch.randn(1, 2, 9, 8)
    functional.kuramoto_attention(phase, phase, is_causal=True, sink=0.0)
    functional.kuramoto_attention(phase[:, :, 4:], phase, is_causal=True)
    double = phase.double()
    functional.kuramoto_attention(double, double, is_causal=True)
    functional.kuramoto_attention(phase[:, :, :1], phase[:, :, :1], is_causal=True)


def test_packed_sequences_do_not_meet(compiled):
    phase = torch.randn(1, 2, 12, 8)
    kernel = torch.randn(2, 2, 1, 2, 8)
    ends = torch.tensor([0, 5, 12])

    def run(x, **rules):
        return functional.frustrated_synchronization(
            x, x, harmonic_amplitude=kernel[0], frustration=kernel[1], is_causal=True, **rules
        )

    packed = run(phase, cu_seqlens=ends)
    torch.testing.assert_close(packed[:, :, :5], run(phase[:, :, :5].clone()))
    torch.testing.assert_close(packed[:, :, 5:], run(phase[:, :, 5:].clone()))


@pytest.mark.parametrize("length", [33, 300])
@pytest.mark.parametrize("gate", [0.3, 40.0])
def test_autocast_changes_nothing(compiled, length, gate):
    # Half precision in between was read as float32, beyond its end.
    phase, gates = (torch.randn(1, 2, length, 16) for _ in range(2))
    tensors = [phase.requires_grad_(), (gate * gates).detach().requires_grad_()]

    def run(enabled):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = functional.kuramoto_attention(phase, phase, tensors[1], is_causal=True)
        return [out, *torch.autograd.grad(out.square().sum(), tensors)]

    for found, expected in zip(run(True), run(False), strict=True):
        assert torch.equal(found, expected)


def test_another_dtype_is_refused_before_it_is_read(compiled):
    angle = torch.zeros(1, 1, 3, 2)
    hidden = torch.zeros(1, 3, dtype=torch.bool)
    plan = phase_passes._Plan(angle, angle, 0, 4, 4, 1, None, hidden)
    assert plan.call(mean=torch.zeros(1, 1, 3, 4)).mean
    with pytest.raises(TypeError, match=r"`mean` must be of torch\.float32 on the CPU"):
        plan.call(mean=torch.zeros(1, 1, 3, 4, dtype=torch.bfloat16))
    with pytest.raises(TypeError, match=r"`hidden` must be of torch\.bool on the CPU"):
        plan._replace(hidden=hidden.float()).call()
