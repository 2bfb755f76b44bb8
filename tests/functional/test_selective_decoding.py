import pytest
import torch

from syncattn import functional
from syncattn.functional.selective_decoding import ROWS, few_rows
from tests.tolerance import assert_same

LENGTH = 40


def drawn(dtype=torch.float64):
    generator = torch.Generator().manual_seed(8)
    omega, value = (
        scale * torch.randn(2, 3, LENGTH, dim, generator=generator, dtype=dtype)
        for scale, dim in ((0.3, 4), (1.0, 5))
    )
    omega[:, :, 7] = omega[:, :, -1]
    r = torch.rand(2, 3, LENGTH, generator=generator, dtype=dtype)
    couplings = {
        "coupling_strength": torch.tensor([1.3, 0.2, 30.0], dtype=dtype),
        "coupling_decay": torch.tensor([1.1, 0.01, 5.0], dtype=dtype),
    }
    return omega, value, r, couplings


def whole(omega, value, r, key_mask, couplings, new):
    return functional.selective_synchronization(
        omega[:, :, -new:], omega, value, order_parameter=r[:, :, -new:], key_mask=key_mask,
        is_causal=True, self_pairs=True, backend="reference", **couplings,
    )  # fmt: skip


@pytest.mark.parametrize("new", [1, 3, ROWS])
@pytest.mark.parametrize("padding", ["none", "left", "own"])
@torch.no_grad()
def test_it_is_the_operator(new, padding):
    omega, value, r, couplings = drawn()
    mask = None
    if padding != "none":
        mask = torch.ones(2, LENGTH, dtype=torch.bool)
        mask[1, slice(0, 9) if padding == "left" else -1] = False
        omega[1][:, ~mask[1]] = torch.nan
        value[1][:, ~mask[1]] = torch.nan
    found = few_rows(omega, value, r[:, :, -new:], mask, couplings)
    expected = whole(omega, value, r, mask, couplings, new)
    kept = torch.ones(2, new, dtype=torch.bool) if mask is None else mask[:, -new:]
    assert found.isfinite().all()
    assert_same(found.transpose(1, 2)[kept], expected.transpose(1, 2)[kept])


@torch.no_grad()
def test_without_coherence_a_token_locks_to_its_equals():
    omega, value, r, couplings = drawn()
    found = few_rows(omega, value, 0 * r[:, :, -1:], None, couplings)
    torch.testing.assert_close(found[:, :, 0], (value[:, :, -1] + value[:, :, 7]) / 2)


@torch.no_grad()
def test_half_precision_values_keep_their_dtype():
    omega, value, r, couplings = drawn(torch.float32)
    found = few_rows(omega, value.bfloat16(), r[:, :, -1:], None, couplings)
    assert found.dtype == torch.bfloat16
    expected = whole(omega, value, r, None, couplings, 1)
    assert (found.float() - expected).abs().max() < 0.02


@pytest.mark.parametrize(
    "options", [{"top_k": 3}, {"smoothing": 0.1}, {"empty_rows": "mean"}, {"backend": "blockwise"},
                {"variant": "paper"}, {"unknown": 1}],
)  # fmt: skip
def test_other_options_are_left_to_the_operator(options):
    omega, value, r, couplings = drawn()
    with torch.no_grad():
        plain = {"top_k": None, "smoothing": 0.0, "edge_floor": 0.1} | couplings
        assert few_rows(omega, value, r[:, :, -1:], None, plain) is not None
        assert few_rows(omega, value, r[:, :, -1:], None, couplings | options) is None
        assert few_rows(omega, value, r[:, :, -ROWS - 1 :], None, couplings) is None
        assert few_rows(omega, value, r[:, :, -1:], None, {"coupling_strength": 1.0}) is None
    assert few_rows(omega, value, r[:, :, -1:], None, couplings) is None


@torch.no_grad()
def test_what_is_not_finite_is_refused():
    omega, value, r, couplings = drawn()
    omega[0, 0, -1] = torch.inf
    with pytest.raises(ValueError, match="`frequency` must be finite"):
        few_rows(omega, value, r[:, :, -1:], None, couplings)
    with pytest.raises(ValueError, match="`coupling_decay` must be positive"):
        few_rows(value, value, r[:, :, -1:], None, couplings | {"coupling_decay": torch.zeros(3)})
