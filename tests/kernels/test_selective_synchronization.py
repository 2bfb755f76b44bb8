"""Every method of the kernel against a dense oracle written from the definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syncattn._masks import Visibility
from syncattn.kernels.selective_synchronization import EDGE_FLOOR, selective_synchronization
from tests.tolerance import assert_as_exact

METHODS = ("blockwise", "window", "pruned", "repeats")
MASKS = ("none", "causal", "key_mask", "segment", "attn_mask", "exclude_self", "combined")


def oracle(query, key, value, g, visibility, *, self_pairs=False, smoothing=0.0, count=None):
    """The definition with plain autograd; below EDGE_FLOOR the slope is that of the floor."""
    x = (query[..., :, None, :] - key[..., None, :, :]).square().sum(-1)
    rows, columns = x.shape[-2:]
    if self_pairs:
        own = torch.arange(rows)[:, None] + columns - rows == torch.arange(columns)
        x = torch.where(own, torch.zeros_like(x), x)
    excess = torch.exp(-x) - g[..., None] * x
    on = excess > 0
    mask = visibility.dense(query.device)
    if mask is not None:
        on = on & mask
    safe = torch.where(on, excess, torch.ones_like(excess))
    if smoothing:
        d = smoothing
        strength = ((safe + d * d).sqrt() - d) / (math.sqrt(1 + d * d) - d)
    else:
        strength = safe.sqrt()
        line = strength.detach() + (safe - safe.detach()) / (2 * EDGE_FLOOR)
        strength = torch.where(strength > EDGE_FLOOR, strength, line)
    strength = torch.where(on, strength, torch.zeros_like(strength))
    count = torch.ones_like(strength[..., 0, :]) if count is None else count
    total = (strength * count[..., None, :]).sum(-1)
    safe_total = torch.where(total == 0, torch.ones_like(total), total)
    return strength @ value / safe_total[..., None], total


def operands(queries, keys, dim=3, dtype=torch.float64, batch=2, heads=2, seed=0, spread=0.8):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [
        (spread * normal(batch, heads, queries, dim)).to(dtype).requires_grad_(),
        (spread * normal(batch, heads, keys, dim)).to(dtype).requires_grad_(),
        normal(batch, heads, keys, 5).to(dtype).requires_grad_(),
        normal(batch, heads, queries).square().to(dtype).requires_grad_(),
    ]


def visibility_of(mask, queries, keys, batch=2, heads=2):
    generator = torch.Generator().manual_seed(1)
    key_mask = torch.rand(batch, keys, generator=generator) > 0.3
    segment = torch.arange(keys) // max(1, keys // 3)
    attn_mask = torch.rand(1, heads, queries, keys, generator=generator) > 0.3
    parts = {
        "none": {},
        "causal": {"is_causal": True},
        "key_mask": {"key_mask": key_mask},
        "segment": {"segment": segment},
        "attn_mask": {"attn_mask": attn_mask},
        "exclude_self": {"exclude_self": True},
        "combined": {
            "is_causal": True,
            "key_mask": key_mask,
            "segment": segment,
            "attn_mask": attn_mask,
        },
    }
    return Visibility(queries, keys, **parts[mask])


def results(function, tensors, seed=3):
    """Returns output, total and the gradients of a random functional of both."""
    output, total = function(*tensors)
    generator = torch.Generator().manual_seed(seed)
    loss = 0.0
    for x in (output, total):
        weight = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        loss = loss + (x.double() * weight).sum()
    return (output, total, *torch.autograd.grad(loss, tensors))


def assert_near(actual, expected, relative):
    for a, b in zip(actual, expected, strict=True):
        scale = max(1.0, b.abs().max().item() if b.numel() else 0.0)
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=0, atol=relative * scale)


def check(method, mask, queries, keys, dim=3, self_pairs=False, smoothing=0.0, groups=2):
    if method == "repeats" and mask not in ("none", "key_mask"):
        pytest.skip("repeats takes no such mask, by design")
    tensors = operands(queries, keys, dim, batch=groups, heads=groups)
    visibility = visibility_of(mask, queries, keys, groups, groups)
    rules = {"self_pairs": self_pairs, "smoothing": smoothing}
    actual = results(
        lambda *x: selective_synchronization(*x, visibility=visibility, method=method, **rules),
        tensors,
    )
    expected = results(lambda *x: oracle(*x, visibility, **rules), tensors)
    assert_near(actual, expected, 1e-10)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("queries", "keys", "rules"),
    [
        (1, 1, {}),
        (15, 15, {"self_pairs": True}),
        (63, 63, {"smoothing": 0.1}),
        (40, 130, {"self_pairs": True, "smoothing": 0.02}),
        (140, 140, {}),
    ],
)
def test_float64_equals_the_oracle(method, mask, queries, keys, rules):
    check(method, mask, queries, keys, **rules)


@pytest.mark.parametrize("mask", ["none", "combined"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dim", [1, 6])
def test_long_sequences_equal_the_oracle(method, mask, dim):
    check(method, mask, 540, 540, dim, self_pairs=True, groups=1)


@pytest.mark.parametrize("method", METHODS)
def test_more_queries_than_keys(method):
    check(method, "none", 70, 9, self_pairs=True)


@pytest.mark.parametrize("method", ["blockwise", "window", "pruned"])
def test_more_causal_queries_than_keys(method):
    check(method, "causal", 70, 9, self_pairs=True)


@pytest.mark.parametrize("mask", ["none", "causal"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_errs_no_more_than_the_dense_form(method, mask, precision):
    if method == "repeats" and mask != "none":
        pytest.skip("repeats takes no such mask, by design")
    tensors = operands(100, 100, dtype=precision)
    visibility = visibility_of(mask, 100, 100)
    exact = [x.detach().double().requires_grad_() for x in tensors]
    expected = results(lambda *x: oracle(*x, visibility, smoothing=0.1), exact)
    dense = results(lambda *x: oracle(*x, visibility, smoothing=0.1), tensors)
    fast = results(
        lambda *x: selective_synchronization(
            *x, visibility=visibility, method=method, smoothing=0.1
        ),
        tensors,
    )
    assert fast[1].dtype == torch.float32
    for number, (got, plain, exact) in enumerate(zip(fast, dense, expected, strict=True)):
        # Totals stay in the accumulation dtype; the dense form rounds them once more.
        plain = plain.to(got.dtype)
        assert_as_exact(got, exact, plain, factor=2.0 if number < 2 else 3.0)


@pytest.mark.parametrize("method", METHODS)
def test_float32_scores_average_half_precision_values(method):
    query, key, value, g = operands(30, 30, dtype=torch.float32)
    visibility = Visibility(30, 30)
    output, _ = selective_synchronization(
        query, key, value.bfloat16(), g, visibility=visibility, method=method
    )
    exact, _ = oracle(
        query.double(), key.double(), value.bfloat16().double(), g.double(), visibility
    )
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.double(), exact, rtol=2**-8, atol=2e-3)


@pytest.mark.parametrize("method", ["blockwise", "window", "pruned"])
def test_fully_masked_rows_and_lonely_rows_give_zero(method):
    tensors = operands(20, 20)
    allowed = torch.ones(1, 1, 20, 20, dtype=torch.bool)
    allowed[..., 5, :] = False
    with torch.no_grad():
        tensors[0][..., 7, :] += 100.0
    visibility = Visibility(20, 20, attn_mask=allowed)
    output, total, *gradients = results(
        lambda *x: selective_synchronization(*x, visibility=visibility, method=method), tensors
    )
    for row in (5, 7):
        assert (output[..., row, :] == 0).all()
        assert (total[..., row] == 0).all()
        assert (gradients[0][..., row, :] == 0).all()
        assert (gradients[3][..., row] == 0).all()
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("method", METHODS)
def test_padding_has_no_gradient(method):
    tensors = operands(20, 20)
    key_mask = torch.arange(20).expand(2, -1) < 12
    visibility = Visibility(20, 20, key_mask=key_mask)
    _, _, _, d_key, d_value, _ = results(
        lambda *x: selective_synchronization(*x, visibility=visibility, method=method), tensors
    )
    assert (d_key[:, :, 12:] == 0).all()
    assert (d_value[:, :, 12:] == 0).all()
    assert (d_value[:, :, :12] != 0).any()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("method", METHODS)
def test_gradcheck(method, smoothing):
    tensors = operands(3, 4, batch=1, heads=1, spread=0.4)
    with torch.no_grad():
        tensors[3].mul_(0.2)
    visibility = Visibility(3, 4, key_mask=torch.arange(4)[None] != 2)
    assert torch.autograd.gradcheck(
        lambda *x: selective_synchronization(
            *x, visibility=visibility, method=method, smoothing=smoothing
        ),
        tensors,
        fast_mode=method != "blockwise",
    )


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_the_edge_of_locking_is_finite(method, precision):
    # exp(-x) = g x at x = 1 exactly, approached from both sides by the neighbouring floats.
    g = torch.full((1, 1, 3), math.exp(-1.0), dtype=precision)
    one = torch.tensor(1.0, dtype=precision)
    near = [torch.nextafter(one, 2 * one), one, torch.nextafter(one, 0 * one)]
    query = torch.stack(near).reshape(1, 1, 3, 1).requires_grad_()
    key = torch.zeros(1, 1, 2, 1, dtype=precision, requires_grad=True)
    value = torch.randn(1, 1, 2, 4, dtype=precision, requires_grad=True)
    found = results(
        lambda *x: selective_synchronization(*x, visibility=Visibility(3, 2), method=method),
        [query, key, value, g.requires_grad_()],
    )
    assert all(x.isfinite().all() for x in found)
    assert found[2].abs().max() < 10 / EDGE_FLOOR


@pytest.mark.parametrize("size", [1e-15, 1.0, 1e3])
@pytest.mark.parametrize("threshold", [0.0, 1e30, torch.inf])
@pytest.mark.parametrize("method", METHODS)
def test_extreme_thresholds_and_magnitudes_are_finite(method, threshold, size):
    query, _, value, g = operands(40, 40, dtype=torch.float32)
    with torch.no_grad():
        query.mul_(size)
        g.fill_(threshold)
    found = results(
        lambda q, v, t: selective_synchronization(
            q, q, v, t, visibility=Visibility(40, 40), method=method, self_pairs=True
        ),
        [query, value, g],
    )
    assert all(x.isfinite().all() for x in found)
    # A token always locks to itself, whatever the threshold.
    assert (found[1] >= 1).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_zero_threshold_is_a_gaussian_kernel(method):
    query, key, value, g = operands(30, 30)
    output, total = selective_synchronization(
        query, key, value, torch.zeros_like(g), visibility=Visibility(30, 30), method=method
    )
    kernel = torch.exp(-torch.cdist(query, key).square() / 2)
    torch.testing.assert_close(total, kernel.sum(-1))
    torch.testing.assert_close(output, kernel @ value / kernel.sum(-1, keepdim=True))


@pytest.mark.parametrize("method", METHODS)
def test_far_coordinates_do_not_cancel(method):
    # Positions near 1e5 in float32: their squares have lost all digits below 1e3.
    position = 1e5 + 0.5 * torch.arange(200, dtype=torch.float32)[None, None, :, None]
    value = operands(1, 200, batch=1, heads=1, dtype=torch.float32)[2]
    g = torch.full((1, 1, 200), 0.2)
    found = selective_synchronization(
        position, position, value, g, visibility=Visibility(200, 200), method=method
    )
    exact = oracle(
        position.double(), position.double(), value.double(), g.double(), Visibility(200, 200)
    )
    for a, b in zip(found, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_token_locks_to_itself_despite_rounding(method):
    query, _, value, _ = operands(70, 70, dim=64, dtype=torch.float32, spread=30.0)
    g = torch.full((2, 2, 70), 1e8)
    output, total = selective_synchronization(
        query, query, value, g, visibility=Visibility(70, 70), method=method, self_pairs=True
    )
    assert (total == 1).all()
    torch.testing.assert_close(output, value)


@pytest.mark.parametrize("mask", ["none", "key_mask"])
def test_repeats_are_exact_for_every_original_row(mask):
    generator = torch.Generator().manual_seed(4)
    table = torch.randn(2, 1, 6, 3, generator=generator, dtype=torch.float64)
    token = torch.randint(6, (90,), generator=generator)
    points = (0.6 * table)[:, :, token].requires_grad_()
    _, _, value, g = operands(90, 90, heads=1)
    g = (0.0 * g + 0.3).detach().requires_grad_()
    visibility = visibility_of(mask, 90, 90, heads=1)
    tensors = [points, value, g]
    for rules in ({"self_pairs": True}, {"smoothing": 0.1}):
        actual = results(
            lambda q, v, t, rules=rules: selective_synchronization(
                q, q, v, t, visibility=visibility, method="repeats", **rules
            ),
            tensors,
        )
        expected = results(
            lambda q, v, t, rules=rules: oracle(q, q, v, t, visibility, **rules), tensors
        )
        assert_near(actual, expected, 1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_multiplicities_stand_for_equal_keys(method):
    query, key, value, g = operands(12, 8)
    count = torch.randint(1, 4, (2, 2, 8), generator=torch.Generator().manual_seed(5)).double()
    visibility = Visibility(12, 8)
    actual = results(
        lambda *x: selective_synchronization(
            *x, visibility=visibility, method=method, multiplicity=count
        ),
        [query, key, value, g],
    )
    expected = results(lambda *x: oracle(*x, visibility, count=count), [query, key, value, g])
    assert_near(actual, expected, 1e-10)


def test_repeats_refuses_masks_it_cannot_compress():
    tensors = operands(4, 4)
    with pytest.raises(ValueError, match="`method='repeats'` must see all keys"):
        selective_synchronization(
            *tensors, visibility=Visibility(4, 4, is_causal=True), method="repeats"
        )


@pytest.mark.parametrize("method", METHODS)
def test_only_wanted_gradients_are_computed(method):
    tensors = operands(10, 10)
    full = results(
        lambda *x: selective_synchronization(*x, visibility=Visibility(10, 10), method=method),
        tensors,
    )
    for wanted in range(4):
        alone = [x.detach().requires_grad_(i == wanted) for i, x in enumerate(tensors)]
        output, total = selective_synchronization(
            *alone, visibility=Visibility(10, 10), method=method
        )
        generator = torch.Generator().manual_seed(3)
        weights = [
            torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (output, total)
        ]
        loss = (output * weights[0]).sum() + (total * weights[1]).sum()
        (gradient,) = torch.autograd.grad(loss, alone[wanted])
        torch.testing.assert_close(gradient, full[2 + wanted], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_autocast_does_not_lower_the_scores(method):
    query, key, value, g = operands(30, 30, dtype=torch.float32)
    plain = results(
        lambda *x: selective_synchronization(*x, visibility=Visibility(30, 30), method=method),
        [query, key, value, g],
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = results(
            lambda *x: selective_synchronization(*x, visibility=Visibility(30, 30), method=method),
            [query, key, value, g],
        )
    for a, b in zip(cast, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_no_keys_or_no_queries(method):
    for queries, keys in ((3, 0), (0, 3)):
        tensors = operands(queries, keys)
        output, total = selective_synchronization(
            *tensors, visibility=Visibility(queries, keys), method=method
        )
        assert output.shape == (2, 2, queries, 5)
        assert (output == 0).all() and (total == 0).all()
        (output.sum() + total.sum()).backward()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    method=st.sampled_from(METHODS),
    length=st.integers(1, 90),
    seed=st.integers(0, 1000),
)
def test_permuting_keys_changes_nothing(method, length, seed):
    query, key, value, g = operands(20, length, seed=seed)
    order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
    visibility = Visibility(20, length)
    one = selective_synchronization(query, key, value, g, visibility=visibility, method=method)
    two = selective_synchronization(
        query, key[:, :, order], value[:, :, order], g, visibility=visibility, method=method
    )
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    method=st.sampled_from(("blockwise", "window", "pruned")),
    now=st.integers(0, 89),
    seed=st.integers(0, 1000),
)
def test_the_future_changes_nothing(method, now, seed):
    query, _, value, g = operands(90, 90, dim=2, seed=seed)
    other, _, other_value, other_g = operands(90, 90, dim=2, seed=seed + 1)
    later = torch.arange(90) > now
    visibility = Visibility(90, 90, is_causal=True)

    def run(q, v, t):
        return selective_synchronization(
            q, q, v, t, visibility=visibility, method=method, self_pairs=True
        )

    one = run(query, value, g)
    two = run(
        torch.where(later[:, None], other, query),
        torch.where(later[:, None], other_value, value),
        torch.where(later, other_g, g),
    )
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a[:, :, : now + 1], b[:, :, : now + 1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_the_custom_operator_is_well_formed(method):
    query, key, value, g = operands(9, 11, batch=1)
    masked = method != "repeats"
    arguments = (
        *(query, key, value, g, torch.ones(1, 2, 11, dtype=torch.float64)),
        torch.arange(11)[None] < 9,
        torch.arange(11) // 4 if masked else None,
        torch.ones(1, 1, 9, 11, dtype=torch.bool) if masked else None,
        *(masked, False, method, 0, False, 0.1, 1e-3, 3 if masked else None),
    )
    torch.library.opcheck(torch.ops.syncattn.selective_synchronization.default, arguments)
