import pytest
import torch

from syncattn import functional

COUPLINGS = {"coupling_strength": 1.3, "coupling_decay": 1.1}
BACKENDS = pytest.mark.parametrize("backend", ["blockwise", "pruned", "band", "reference", "auto"])


def call(query, key, value, **options):
    return functional.selective_synchronization(
        query, key, value, position_coordinate=0, **(COUPLINGS | options)
    )


def drawn(queries=7, keys=9):
    """Half of the queries lie far from all keys."""
    generator = torch.Generator().manual_seed(4)
    query = 0.3 * torch.randn(2, 2, queries, 2, generator=generator, dtype=torch.float64)
    query[:, :, ::2] += 10 * torch.randn(2, 2, 1, 2, generator=generator, dtype=torch.float64) + 40
    key = 0.3 * torch.randn(2, 2, keys, 2, generator=generator, dtype=torch.float64)
    value = torch.randn(2, 2, keys, 3, generator=generator, dtype=torch.float64)
    return query, key, value


def masks(queries=7, keys=9):
    generator = torch.Generator().manual_seed(5)
    allowed = torch.rand(2, 2, queries, keys, generator=generator) < 0.5
    allowed[:, :, 2] = False
    real = torch.rand(2, keys, generator=generator) < 0.6
    real[:, 1] = True
    return {
        "plain": ({}, torch.ones(2, 2, queries, keys).bool()),
        "padded": ({"key_mask": real}, real[:, None, None].expand(2, 2, queries, keys)),
        "masked": ({"attn_mask": allowed}, allowed),
        "causal": (
            {"is_causal": True},
            torch.ones(queries, keys).bool().tril(keys - queries).expand(2, 2, -1, -1),
        ),
        "causal-masked-padded": (
            {"is_causal": True, "attn_mask": allowed, "key_mask": real},
            allowed & real[:, None, None] & torch.ones(queries, keys).bool().tril(keys - queries),
        ),
    }


def fill(policy, query, key, value, visible):
    """Returns what each row would receive, pair by pair."""
    out = torch.zeros(*query.shape[:3], value.shape[-1], dtype=torch.float64)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in query.shape[:3])).tolist():
        seen = visible[b, h, i].nonzero()[:, 0]
        if len(seen) and policy == "nearest":
            at = (key[b, h, seen] - query[b, h, i]).norm(dim=-1).argmin()
            out[b, h, i] = value[b, h, seen[at]]
        elif len(seen) and policy == "mean":
            out[b, h, i] = value[b, h, seen].mean(0)
    return out


@BACKENDS
@pytest.mark.parametrize("policy", ["zero", "nearest", "mean"])
@pytest.mark.parametrize("name", masks())
def test_rows_that_lock_to_nothing_follow_the_policy(backend, policy, name):
    query, key, value = drawn()
    options, visible = masks()[name]
    plain = call(query, key, value, backend=backend, **options)
    _, _, locked = functional.selective_synchronization_weights(query, key, **COUPLINGS, **options)
    empty = ~locked.any(-1)
    assert empty[:, :, ::2].all()
    assert not plain[empty].any()
    expected = torch.where(empty[..., None], fill(policy, query, key, value, visible), plain)
    if policy != "zero":
        assert not torch.equal(expected, plain)
    out = call(query, key, value, backend=backend, empty_rows=policy, **options)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    blind = ~visible.any(-1)
    assert not out[blind].any()
    weights, _, still = functional.selective_synchronization_weights(
        query, key, **COUPLINGS, empty_rows=policy, **options
    )
    torch.testing.assert_close(weights @ value, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(still, locked)


@pytest.mark.parametrize("backend", ["blockwise", "reference", "repeats"])
@pytest.mark.parametrize("policy", ["nearest", "mean"])
def test_gradients_are_finite_and_reach_the_values(backend, policy):
    query, key, value = (x.requires_grad_() for x in drawn())
    out = call(query, key, value, backend=backend, empty_rows=policy)
    gradients = torch.autograd.grad(out[:, :, 0].sum(), (query, key, value))
    assert all(g.isfinite().all() for g in gradients)
    assert not gradients[0].any()
    torch.testing.assert_close(gradients[2].sum(2), torch.ones(2, 2, 3, dtype=torch.float64))


@pytest.mark.parametrize("policy", ["nearest", "mean"])
def test_packed_sequences_stay_apart(policy):
    query, key, value = (x[:1] for x in drawn(9, 9))
    out = call(query, key, value, empty_rows=policy, cu_seqlens=torch.tensor([0, 4, 9]))
    for part in (slice(0, 4), slice(4, 9)):
        alone = call(query[:, :, part], key[:, :, part], value[:, :, part], empty_rows=policy)
        torch.testing.assert_close(out[:, :, part], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("policy", ["nearest", "mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtype_is_kept_and_hidden_garbage_does_not_matter(policy, dtype):
    query, key, value = (x.to(dtype) for x in drawn())
    real = torch.ones(2, 9, dtype=torch.bool)
    real[:, 3] = False
    expected = call(query, key[:, :, real[0]], value[:, :, real[0]], empty_rows=policy)
    key[:, :, 3], value[:, :, 3] = torch.nan, torch.inf
    out = call(query, key, value, key_mask=real, empty_rows=policy)
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected)


def test_many_empty_rows_are_looked_at_in_parts(monkeypatch):
    monkeypatch.setattr("syncattn.functional.selective_empty_rows._PAIRS_AT_ONCE", 20)
    query, key, value = drawn()
    out = call(query + 40, key, value, empty_rows="nearest")
    visible = masks()["plain"][1]
    assert torch.equal(out, fill("nearest", query + 40, key, value, visible))


def test_without_keys_or_queries_nothing_is_filled():
    query, key, value = drawn()
    assert not call(query, key[:, :, :0], value[:, :, :0], empty_rows="nearest").any()
    assert call(query[:, :, :0], key, value, empty_rows="mean").shape == (2, 2, 0, 3)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="`empty_rows` must be one of 'zero', 'nearest', 'mean'"):
        call(*drawn(), empty_rows="self")
