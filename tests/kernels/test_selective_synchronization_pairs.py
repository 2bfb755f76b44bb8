"""The cutoff, the orders and the plans: nothing that can lock is ever left out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syncattn._masks import Visibility
from syncattn.kernels.selective_synchronization_pairs import (
    LEAF,
    cutoff,
    dense_blocks,
    equality_classes,
    lambert_w0,
    live_leaves,
    planned_pairs,
)


def points(tokens, dim, groups=2, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(groups, tokens, dim, generator=generator)


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_lambert_solves_its_equation(precision):
    z = torch.logspace(-30, 30, 400, dtype=precision)
    w = lambert_w0(z)
    # In logarithms, so that the exponential does not amplify the rounding of w.
    log_error = torch.log(w.double()) + w.double() - torch.log(z.double())
    rounding = torch.finfo(precision).eps * (1 + torch.log(z.double()).abs())
    assert (log_error.abs() < 4 * rounding).all()


def test_lambert_at_known_points():
    z = torch.tensor([0.0, math.e, 2 * math.log(2), torch.inf], dtype=torch.float64)
    expected = torch.tensor([0.0, 1.0, math.log(2), torch.inf], dtype=torch.float64)
    torch.testing.assert_close(lambert_w0(z), expected, rtol=1e-15, atol=0)


def test_lambert_is_differentiable():
    z = torch.tensor([1e-3, 0.5, 3.0, 1e6], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambert_w0, z)
    infinite = torch.tensor([torch.inf, 2.0], requires_grad=True)
    lambert_w0(infinite).sum().backward()
    assert infinite.grad is not None
    assert infinite.grad[0] == 0
    assert infinite.grad[1] > 0


def test_the_cutoff_is_just_beyond_the_edge():
    g = torch.logspace(-20, 12, 50, dtype=torch.float64)
    x = cutoff(g)
    assert (torch.exp(-x) < g * x).all()
    inside = x * (1 - 2e-3)
    assert (torch.exp(-inside) > g * inside).all()
    assert cutoff(torch.zeros(1)).isinf().all()


def is_live(entries, query, key):
    """True where the plan computes the pair of tokens, ``(groups, queries, keys)``."""
    queries, keys = entries.queries, entries.keys
    live = torch.zeros(len(query) * queries.leaves, len(query) * keys.leaves, dtype=torch.bool)
    live[entries.row, entries.column] = True
    group = torch.arange(len(query))[:, None]
    rows = queries.place // queries.size + group * queries.leaves
    columns = keys.place // keys.size + group * keys.leaves
    assert live.sum() == entries.row.numel()
    return live[rows[:, :, None], columns[:, None, :]]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    method=st.sampled_from(("window", "pruned")),
    queries=st.integers(1, 300),
    keys=st.integers(1, 300),
    dim=st.integers(1, 4),
    spread=st.sampled_from((0.1, 1.0, 10.0)),
    offset=st.sampled_from((0.0, 1e4)),
    seed=st.integers(0, 99),
)
def test_no_pair_within_reach_is_left_out(method, queries, keys, dim, spread, offset, seed):
    query = points(queries, dim, seed=seed, spread=spread) + offset
    key = points(keys, dim, seed=seed + 1, spread=spread) + offset
    radius = torch.rand(2, queries, generator=torch.Generator().manual_seed(seed))
    entries = live_leaves(
        query, key, radius, Visibility(queries, keys), method=method, coordinate=dim - 1
    )
    near = torch.cdist(query.double(), key.double()) <= radius[..., None]
    assert (is_live(entries, query, key) | ~near).all()


@pytest.mark.parametrize("method", ["window", "pruned"])
def test_tokens_far_away_hide_no_pair_of_those_that_are_near(method):
    # What moves all points to a common middle rounds by the far ones.
    for seed in range(16):
        generator = torch.Generator().manual_seed(seed)
        a, b, far = (torch.rand(size, generator=generator) for size in (64, 64, 128))
        # Off the grid that the far tokens leave of the near ones.
        radius = 0.5 + 0.0571 * seed
        x = torch.cat([1e-4 * a, radius - 1.5e-4 - 1e-3 * b, 3e5 + far])[None, :, None]
        entries = live_leaves(
            x, x, torch.full((1, 256), radius), Visibility(256, 256), method=method, coordinate=0
        )
        near = torch.cdist(x.double(), x.double()) <= radius
        assert near[0, :64, 64:128].any()
        assert (is_live(entries, x, x) | ~near).all()


@pytest.mark.parametrize("method", ["window", "pruned"])
def test_arrangements_take_and_put_back(method):
    query = points(150, 2)
    entries = live_leaves(
        query, query, torch.ones(2, 150), Visibility(150, 150), method=method, coordinate=0
    )
    for arrangement in (entries.queries, entries.keys):
        assert arrangement.size <= 2 * LEAF
        assert torch.equal(arrangement.put(arrangement.take(query)), query)
        assert (arrangement.real.sum(1) == 150).all()


@pytest.mark.parametrize("method", ["window", "pruned"])
def test_every_token_meets_itself_at_radius_zero(method):
    query = points(200, 3, spread=30.0)
    entries = live_leaves(
        query, query + 1e-3, torch.zeros(2, 200), Visibility(200, 200), method=method, coordinate=0
    )
    assert is_live(entries, query, query).diagonal(0, 1, 2).all()


@pytest.mark.parametrize("method", ["window", "pruned"])
def test_leaves_in_the_future_or_in_other_segments_go(method):
    position = torch.arange(1024.0)[None, :, None]
    everything = torch.full((1, 1024), 1e4)

    def share(**parts):
        visibility = Visibility(1024, 1024, **parts)
        entries = live_leaves(
            position, position, everything, visibility, method=method, coordinate=0
        )
        mask = visibility.dense(position.device)
        assert mask is None or (is_live(entries, position, position) | ~mask[0]).all()
        return entries.pairs / 1024**2

    assert share() == 1.0
    leaf = 2 * LEAF if method == "window" else LEAF
    assert share(is_causal=True) == pytest.approx((1 + leaf / 1024) / 2)
    assert share(segment=torch.arange(1024) // 256) == 0.25


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    queries=st.integers(1, 90),
    more=st.integers(0, 60),
    block=st.sampled_from((7, 16, 64)),
    causal=st.booleans(),
    packed=st.booleans(),
)
def test_dense_blocks_cover_what_is_visible_once(queries, more, block, causal, packed):
    keys = queries + more
    segment = torch.arange(keys) // 11 if packed else None
    visibility = Visibility(queries, keys, causal, segment=segment)
    count = torch.zeros(queries, keys)
    mask = visibility.dense(torch.device("cpu"))
    mask = torch.ones(queries, keys, dtype=torch.bool) if mask is None else mask[0, 0]
    for part in dense_blocks(visibility, block):
        count[part.rows, part.columns] += 1
        inside = mask[part.rows, part.columns]
        assert part.crossed or part.mixed or inside.all()
    assert count.max() == 1
    assert (count[mask] == 1).all()


def test_equal_rows_share_a_number_and_others_do_not():
    table = points(5, 3, groups=3)
    token = torch.randint(5, (3, 40), generator=torch.Generator().manual_seed(0))
    token[0] = token[0].clamp(max=1)
    rows = table.gather(1, token[..., None].expand(-1, -1, 3))
    classes, count = equality_classes(rows)
    assert count == 5
    same = (rows[:, :, None] == rows[:, None]).all(-1)
    assert torch.equal(classes[:, :, None] == classes[:, None], same)


def test_colliding_digests_fall_back_to_no_classes(monkeypatch):
    zeros = torch.zeros(3, dtype=torch.int64)
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: zeros - 1)
    rows = torch.tensor([[[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [1.0, 2.0, 3.0]]])
    classes, count = equality_classes(rows)
    assert count == 3
    assert classes.tolist() == [[0, 1, 2]]


def test_planned_pairs_counts_without_computing():
    query = points(1024, 1, groups=1, spread=30.0)[None]
    g = torch.full((1, 1, 1024), 0.2)
    everything = Visibility(1024, 1024)
    assert planned_pairs(query, query, g, everything, "blockwise") == 1024**2
    causal = planned_pairs(query, query, g, everything._replace(is_causal=True), "blockwise")
    assert causal == 1024**2 * 3 // 4
    locked = (torch.cdist(query[0].double(), query[0].double()).square() < 1.3267).sum().item()
    for method in ("window", "pruned"):
        pairs = planned_pairs(query, query, g, everything, method)
        assert locked <= pairs < 1024**2 / 4
    repeated = query[:, :, :8].repeat(1, 1, 128, 1)
    assert planned_pairs(repeated, repeated, g, everything, "repeats") == 64
