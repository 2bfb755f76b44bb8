import pytest
import torch

from syncattn import _validation as check
from syncattn import reference
from syncattn.functional.oscillator_prefix import anchor_sums, prefix_readout
from tests.tolerance import assert_same

LENGTH = 23


def drawn(queries=LENGTH, keys=LENGTH, batch=2, anchor_batch=1):
    generator = torch.Generator().manual_seed(4)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, r = normal(batch, 2, queries, 3), normal(anchor_batch, 2, keys, 3)
    x, r = (t / t.norm(dim=-1, keepdim=True) for t in (x, r))
    return x, r, normal(batch, 2, keys, 4)


def seen(x, value, **options):
    return check.require_visibility(x, value, **options)


def dense(x, r, v, gain, visibility):
    weights = reference.oscillator_attention_weights(
        x, r, readout_gain=gain, mask=visibility.dense(x.device)
    )
    return weights @ v


# theory: OA-12
@pytest.mark.parametrize("chunk", [1, 4, 5, 23, 64])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("kind", ["plain", "padded", "packed"])
def test_running_sums_are_the_dense_readout(chunk, is_causal, kind):
    x, r, v = drawn(batch=1 if kind == "packed" else 2)
    options = {"is_causal": is_causal}
    if kind == "padded":
        real = torch.ones(2, LENGTH, dtype=torch.bool)
        real[0, 15:], real[1, :7], real[1, 12] = False, False, False
        options["key_mask"] = real
    elif kind == "packed":
        options["cu_seqlens"] = torch.tensor([0, 3, 3, 4, 17, 18, LENGTH])
    visibility = seen(x, v, **options)
    for gain in (0.0, 0.7, 1.0, torch.tensor([0.2, 1.0], dtype=torch.float64)):
        tensors = [t.clone().requires_grad_() for t in (x, r, v)]
        out = prefix_readout(*tensors, gain=gain, visibility=visibility, chunk=chunk)
        expected = dense(*tensors, gain, visibility)
        assert_same(out, expected)
        probe = torch.randn(out.shape, dtype=torch.float64)
        found = torch.autograd.grad((out * probe).sum(), tensors)
        for got, wanted in zip(
            found, torch.autograd.grad((expected * probe).sum(), tensors), strict=True
        ):
            assert_same(got, wanted, 1e-11)


@pytest.mark.parametrize(("queries", "keys"), [(1, 9), (6, 9), (9, 9)])
def test_few_queries_are_the_last_rows(queries, keys):
    x, r, v = drawn(queries, keys)
    for is_causal in (False, True):
        visibility = seen(x, v, is_causal=is_causal)
        out = prefix_readout(x, r, v, visibility=visibility, chunk=4)
        assert_same(out, dense(x, r, v, 1.0, visibility))


def test_a_sequence_does_not_touch_its_packed_neighbours():
    x, r, v = drawn(batch=1)
    visibility = seen(x, v, is_causal=True, cu_seqlens=torch.tensor([0, 9, LENGTH]))
    before = prefix_readout(x, r, v, visibility=visibility, chunk=4)
    v[:, :, :9] = 1e30
    after = prefix_readout(x, r, v, visibility=visibility, chunk=4)
    assert torch.equal(after[:, :, 9:], before[:, :, 9:])


def test_sums_of_the_past_continue_it():
    x, r, v = drawn()
    whole = prefix_readout(x, r, v, visibility=seen(x, v, is_causal=True))
    past = anchor_sums(r[:, :, :10], v[:, :, :10])
    assert past.shape == (2, 2, 4, 5)
    new = seen(x[:, :, 10:], v[:, :, 10:], is_causal=True)
    out = prefix_readout(x[:, :, 10:], r[:, :, 10:], v[:, :, 10:], visibility=new, before=past)
    assert_same(out, whole[:, :, 10:])


def test_a_row_that_reads_nothing_is_zero_without_gradient():
    x, r, v = (t.requires_grad_() for t in drawn())
    real = torch.ones(2, LENGTH, dtype=torch.bool)
    real[:, :3] = False
    out = prefix_readout(x, r, v, visibility=seen(x, v, is_causal=True, key_mask=real), chunk=4)
    assert not out[:, :, :3].any()
    for gradient in torch.autograd.grad(out[:, :, :3].sum(), (x, r, v), retain_graph=True):
        assert not gradient.any()
    for gradient in torch.autograd.grad(out.sum(), (x, r, v)):
        assert gradient.isfinite().all()


def test_no_matrix_of_weights_is_kept():
    generator = torch.Generator().manual_seed(0)
    length = 1024
    x, r, v = (torch.randn(1, 1, length, n, generator=generator) for n in (2, 2, 4))
    x.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        prefix_readout(x, r, v, visibility=seen(x, v, is_causal=True))
    assert max(kept) <= 64 * length


def test_without_keys_nothing_is_read():
    x, r, v = drawn(queries=3, keys=0)
    assert not prefix_readout(x, r, v, visibility=seen(x, v)).any()
    none = prefix_readout(x[:, :, :0], r, v, visibility=seen(x[:, :, :0], v, is_causal=True))
    assert none.shape == (2, 2, 0, 4)
