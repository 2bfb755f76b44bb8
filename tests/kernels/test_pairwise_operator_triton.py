"""The Triton kernels of sums over pairs, interpreted on the CPU, against the dense sums."""

import math

import pytest
import torch

from syncattn._masks import Visibility
from tests.kernels.test_selective_synchronization import oracle, visibility_of
from tests.tolerance import assert_as_exact, sensitivity

pytest.importorskip("triton")

from syncattn.kernels import pairwise_launch_triton as launch
from syncattn.kernels.pairwise_operator_triton import Kernel, pair_sums

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HALF = (torch.bfloat16, torch.float16)
SLOW = pytest.mark.slow


def tensors(*shapes, dtype=torch.float32, std=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = (std * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return [x.to(DEVICE, dtype).requires_grad_() for x in drawn]


def moved(visibility):
    """Returns the visibility on the device under test."""
    parts = {name: getattr(visibility, name) for name in ("key_mask", "segment", "attn_mask")}
    return visibility._replace(**{k: None if x is None else x.to(DEVICE) for k, x in parts.items()})


def dense_mask(visibility, shape):
    mask = visibility.dense(DEVICE)
    return (
        torch.ones(shape, dtype=torch.bool, device=DEVICE) if mask is None else mask.expand(shape)
    )


def dense_sums(row, column, value, kernel, visibility, sink=None):
    """The sums from the matrix of all strengths, in the dtype of the operands, and the totals."""
    x = kernel.scale * row @ column.mT
    mask = dense_mask(visibility, x.shape)
    if kernel.kind == "softmax":
        logits = torch.where(mask, x, -torch.inf)
        if sink is not None:
            logits = torch.cat([logits, sink[:, None, None].expand_as(logits[..., :1])], -1)
        total = logits.logsumexp(-1)
        some = total > -torch.inf
        strength = (x - torch.where(some, total, 0.0)[..., None]).exp()
        total = torch.where(some, total, 0.0)
    else:
        strength = {
            "softplus": torch.nn.functional.softplus,
            "relu": lambda y: y.relu() + 1e-3,
            "elu": lambda y: torch.nn.functional.elu(y) + 1,
            "readout": lambda y: (1 + y).clamp(min=0) ** kernel.power,
        }[kernel.kind](x)
        total = None
    strength = torch.where(mask, strength, 0.0)
    if total is None:
        total = strength.sum(-1)
        if kernel.kind == "readout":
            strength = strength / torch.where(total > 0, total, 1.0)[..., None]
    return strength @ value, total


def triton_sums(row, column, value, kernel, visibility, sink=None):
    out, total = pair_sums(row, column, value, kernel, visibility, sink=sink)
    if kernel.kind == "softmax":
        total = torch.where(total > -torch.inf, total, 0.0) * math.log(2)
    return out, total


def with_gradients(function, inputs, seed=3):
    out, total = function(*inputs)
    generator = torch.Generator().manual_seed(seed)
    loss = 0.0
    for x in (out, total):
        weight = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(DEVICE)
        loss = loss + (x.double() * weight).sum()
    return (out, total, *torch.autograd.grad(loss, inputs))


def as_exact(fast, dense, inputs, outputs=2):
    """Asserts the rule of tolerance for the outputs and for every gradient."""
    exact = with_gradients(dense, [x.detach().double().requires_grad_() for x in inputs])
    plain, got = with_gradients(dense, inputs), with_gradients(fast, inputs)
    least = sensitivity(lambda moved: with_gradients(dense, moved), inputs, exact)
    for number, (a, b, c, s) in enumerate(zip(got, exact, plain, least, strict=True)):
        assert_as_exact(a, b, c.to(a.dtype), factor=2.0 if number < outputs else 3.0, least=s)


def compare_products(
    kernel, visibility, *, dim=8, width=8, dtype=torch.float32, sink=False, heads=1
):
    batch = 1 if visibility.key_mask is None else len(visibility.key_mask)
    shape = (batch, heads, visibility.num_queries)
    inputs = tensors(
        (*shape, dim), (*shape[:2], visibility.num_keys, dim),
        (*shape[:2], visibility.num_keys, width), dtype=dtype,
    )  # fmt: skip
    if sink:
        inputs += tensors((heads,), seed=9)
    as_exact(
        lambda q, k, v, *b: triton_sums(q, k, v, kernel, visibility, *b),
        lambda q, k, v, *b: dense_sums(q, k, v, kernel, visibility, *(x.to(q.dtype) for x in b)),
        inputs,
    )


MASKS = ["none", "causal", "key_mask", "segment", "exclude_self", "both", "strict"]
# Interpreted kernels take a second each: the others are slow tests.
SOME_MASKS = [
    pytest.param(m, marks=() if m in {"key_mask", "both", "strict"} else pytest.mark.slow)
    for m in MASKS
]


def view(mask, queries, keys, batch=1):
    both = visibility_of("causal", queries, keys, batch)
    both = both._replace(segment=visibility_of("segment", queries, keys).segment)
    strict = visibility_of("causal", queries, keys, batch)._replace(exclude_self=True)
    named = {"both": both, "strict": strict}
    return moved(named[mask] if mask in named else visibility_of(mask, queries, keys, batch))


PRODUCTS = [
    Kernel("softplus", scale=0.7),
    Kernel("relu", scale=0.7),
    Kernel("elu", scale=0.7),
    Kernel("readout", scale=0.3, power=1),
    Kernel("readout", scale=0.3, power=2),
    Kernel("readout", scale=0.3, power=4),
    Kernel("softmax", scale=0.7),
]


@pytest.mark.parametrize("kernel", PRODUCTS, ids=lambda k: f"{k.kind}-{k.power}")
def test_products_are_the_dense_sums(kernel):
    compare_products(kernel, view("causal", 20, 20))


@pytest.mark.parametrize("mask", SOME_MASKS)
def test_every_order_and_padding_is_that_of_the_dense_mask(mask):
    compare_products(Kernel("softmax"), view(mask, 20, 20), dim=5, width=3)


@pytest.mark.slow
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kernel", PRODUCTS, ids=lambda k: f"{k.kind}-{k.power}")
def test_every_kind_under_every_mask_in_a_batch_of_heads(kernel, mask):
    compare_products(kernel, view(mask, 39, 39, batch=2), dim=5, width=3, heads=2)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 20), (9, 20), (20, 9)])
@pytest.mark.parametrize("mask", [pytest.param("none", marks=pytest.mark.slow), "causal"])
def test_few_queries_are_the_last_rows(mask, queries, keys):
    compare_products(Kernel("softmax"), view(mask, queries, keys))


@pytest.mark.parametrize("mask", ["strict", "key_mask"])
def test_a_sink_takes_its_share_and_its_gradient(mask):
    compare_products(Kernel("softmax", scale=0.5), view(mask, 20, 20), sink=True, heads=2)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("kernel", [Kernel("elu", 0.2), Kernel("softmax", 0.2)], ids=lambda k: k[0])
def test_every_dtype_is_as_exact_as_the_dense_form(kernel, dtype):
    compare_products(kernel, view("causal", 20, 20), dim=24, width=20, dtype=dtype, heads=2)


@pytest.mark.parametrize(("dim", "width"), [(1, 1), (96, 80), (200, 24), (256, 256)])
def test_widths_up_to_256_that_are_no_powers_of_two(dim, width):
    kernel = Kernel("softmax", scale=dim**-0.5)
    compare_products(kernel, view("causal", 17, 17), dim=dim, width=width)


def test_values_wider_than_a_kernel_are_summed_in_pieces():
    compare_products(Kernel("softmax"), view("causal", 9, 9), dim=4, width=300)
    compare_products(Kernel("softplus"), view("none", 9, 9), dim=4, width=520)


def locked(row, column, value, g, stretch, kernel, visibility):
    """The oracle, with a factor of the squared distance of each head."""
    root = stretch.sqrt()[:, None, None]
    rules = {"self_pairs": kernel.join_self, "smoothing": kernel.smoothing}
    return oracle(root * row, root * column, value, g, visibility, **rules)


def compare_distances(
    kernel, visibility, *, dim=3, width=5, dtype=torch.float32, spread=0.8, heads=1
):
    batch = 1 if visibility.key_mask is None else len(visibility.key_mask)
    rows, columns = visibility.num_queries, visibility.num_keys
    points = tensors(
        (batch, heads, rows, dim), (batch, heads, columns, dim), dtype=dtype, std=spread
    )
    value = tensors((batch, heads, columns, width), dtype=dtype, seed=1)
    g = tensors((batch, heads, rows), seed=2)[0].detach().square().requires_grad_()
    stretch = torch.tensor([1.3, 0.7][:heads], device=DEVICE, requires_grad=True)
    inputs = [*points, *value, g, stretch]

    def fast(q, k, v, g, c):
        return pair_sums(q, k, v, kernel, visibility, threshold=g, stretch=c)

    def dense(q, k, v, g, c):
        # Where a dtype is mixed, the dense form computes in that of the points.
        out, total = locked(q, k, v, g.to(q.dtype), c.to(q.dtype), kernel, visibility)
        return out, total

    as_exact(fast, dense, inputs)


@pytest.mark.parametrize("mask", SOME_MASKS)
@pytest.mark.parametrize("pruned", [False, True])
def test_distances_are_the_dense_sums(mask, pruned):
    compare_distances(Kernel("distance", pruned=pruned), view(mask, 20, 20))


@pytest.mark.slow
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("dim", [1, 40])
def test_distances_under_every_mask_in_a_batch_of_heads(dim, pruned, mask):
    spread = 0.8 if dim == 1 else 0.15
    visibility = view(mask, 39, 39, batch=2)
    kernel = Kernel("distance", smoothing=0.05, pruned=pruned)
    compare_distances(kernel, visibility, dim=dim, spread=spread,
                      heads=2)  # fmt: skip


@pytest.mark.parametrize("rules", [{"join_self": True}, {"smoothing": 0.1}], ids=str)
@pytest.mark.parametrize(("pruned", "dim"), [(False, 2), (True, 40)])
def test_self_pairs_and_smoothing(dim, pruned, rules):
    spread = 0.8 if dim == 2 else 0.15
    kernel = Kernel("distance", pruned=pruned, **rules)
    compare_distances(kernel, view("causal", 11, 20), dim=dim, spread=spread)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("dim", [3, 40])
def test_distances_in_every_dtype(dim, dtype):
    spread = 0.8 if dim == 3 else 0.15
    # Smoothed, for at a sharp edge the rounding of a single pair decides whose error is larger.
    kernel = Kernel("distance", smoothing=0.05)
    compare_distances(kernel, view("causal", 20, 20), dim=dim, dtype=dtype,
                      spread=spread)  # fmt: skip


@pytest.mark.parametrize("pruned", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float32, marks=SLOW)])
@pytest.mark.parametrize(("dim", "width"), [(80, 96), pytest.param(256, 256, marks=SLOW)])
def test_distances_of_widths_up_to_256_that_are_no_powers_of_two(dim, width, dtype, pruned):
    kernel = Kernel("distance", smoothing=0.05, join_self=True, pruned=pruned)
    compare_distances(kernel, view("causal", 17, 17), dim=dim, width=width, dtype=dtype,
                      spread=0.06)  # fmt: skip


@pytest.mark.parametrize("length", [70, pytest.param(300, marks=pytest.mark.slow)])
def test_leaves_of_long_sequences_skip_what_cannot_lock(length):
    visibility = Visibility(length, length, is_causal=True)
    kernel = Kernel("distance", pruned=True, join_self=True)
    compare_distances(kernel, visibility, dim=2, spread=4.0)


def distances(x, value, visibility, **rules):
    heads = x.shape[1]
    g = torch.full(x.shape[:3], 0.3, device=DEVICE)
    out, _ = pair_sums(
        x, x, value, Kernel("distance", **rules), visibility, threshold=g,
        stretch=torch.ones(heads, device=DEVICE),
    )  # fmt: skip
    return out


@pytest.mark.parametrize("dim", [2, 40])
def test_the_future_does_not_reach_the_past_by_a_bit(dim):
    x, value = tensors((1, 1, 30, dim), (1, 1, 30, 4), std=0.1)
    causal = Visibility(30, 30, is_causal=True)
    before = distances(x, value, causal, join_self=True)
    changed = x.detach().clone()
    changed[:, :, 20:] += 3.0 * torch.rand_like(changed[:, :, 20:])
    after = distances(changed, value, causal, join_self=True)
    assert torch.equal(before[:, :, :20], after[:, :, :20])
    assert not torch.equal(before[:, :, 20:], after[:, :, 20:])


@pytest.mark.parametrize("kind", ["distance", "softmax", "softplus"])
@pytest.mark.parametrize(
    "strange", [torch.nan, pytest.param(torch.inf, marks=pytest.mark.slow)], ids=["nan", "inf"]
)
def test_what_hidden_keys_hold_is_never_read(kind, strange):
    q, k, v = tensors((1, 1, 20, 8), (1, 1, 40, 8), (1, 1, 40, 8))
    key_mask = torch.arange(40, device=DEVICE) % 3 > 0
    visibility = Visibility(20, 40, key_mask=key_mask[None])
    lock = {"threshold": torch.ones(1, 1, 20, device=DEVICE),
            "stretch": torch.ones(1, device=DEVICE)}  # fmt: skip
    results = []
    for filler in (0.0, strange):
        hidden = [torch.where(key_mask[:, None], x, filler).detach().requires_grad_()
                  for x in (k, v)]  # fmt: skip
        out, total = pair_sums(
            q, *hidden, Kernel(kind), visibility, **(lock if kind == "distance" else {})
        )
        gradients = torch.autograd.grad(out.sum() + total.sum(), (q, *hidden))
        results.append((out, total, *gradients))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    assert not results[0][3][:, :, ~key_mask].any()


def test_strided_views_expanded_operands_and_misaligned_memory():
    x, value = tensors((2, 20, 3, 9), (1, 3, 20, 6))
    kernel, causal = Kernel("softmax"), Visibility(20, 20, is_causal=True)
    flipped = x.detach().permute(0, 2, 1, 3)
    shared = value.detach().expand(2, -1, -1, -1)
    plain, _ = pair_sums(flipped.contiguous(), flipped.contiguous(), shared.contiguous(), kernel,
                         causal)  # fmt: skip
    viewed, _ = pair_sums(flipped, flipped, shared, kernel, causal)
    assert torch.equal(plain, viewed)
    shifted = torch.empty(flipped.numel() + 1, device=DEVICE)[1:].view(flipped.shape)
    shifted.copy_(flipped)
    late, _ = pair_sums(shifted, shifted, shared, kernel, causal)
    assert torch.equal(plain, late)
    across = flipped.mT.contiguous().mT
    assert across.stride(-1) != 1
    assert torch.equal(pair_sums(across, across, shared, kernel, causal)[0], plain)


@pytest.mark.parametrize("shape", [(0, 2, 5, 4), (1, 0, 5, 4), (1, 2, 0, 4)])
def test_nothing_gives_nothing(shape):
    x, value = tensors(shape, shape)
    out, total = pair_sums(x, x, value, Kernel("softplus"), Visibility(shape[2], shape[2]))
    assert out.shape == shape
    assert total.shape == shape[:3]
    gradients = torch.autograd.grad(out.sum() + total.sum(), (x, value))
    assert all(not g.any() for g in gradients)


def test_queries_without_keys_receive_nothing():
    q, k = tensors((1, 1, 5, 4), (1, 1, 0, 4))
    for kind, nothing in (("softplus", 0.0), ("softmax", -torch.inf)):
        out, total = pair_sums(q, k, k, Kernel(kind), Visibility(5, 0))
        assert not out.any()
        assert (total == nothing).all()
        assert not torch.autograd.grad(out.sum(), q)[0].any()
    sink = torch.tensor([2.0], device=DEVICE)
    _, total = pair_sums(q, k, k, Kernel("softmax"), Visibility(5, 0), sink=sink)
    torch.testing.assert_close(total, torch.full_like(total, 2 / math.log(2)))


def test_what_the_kernels_cannot_do_is_refused():
    x = torch.ones(1, 1, 4, 8, device=DEVICE)
    everyone = Visibility(4, 4)
    with pytest.raises(TypeError, match="must share one of float32, bfloat16 and float16"):
        pair_sums(x.double(), x.double(), x, Kernel("softmax"), everyone)
    with pytest.raises(TypeError, match="must share one of"):
        pair_sums(x, x.bfloat16(), x, Kernel("softmax"), everyone)
    wide = x.expand(1, 1, 4, 8).repeat(1, 1, 1, 40)
    with pytest.raises(ValueError, match="`row` must be at most 256 wide; got 320"):
        pair_sums(wide, wide, x, Kernel("softmax"), everyone)
    with pytest.raises(ValueError, match="`kind` must be one of distance, softplus"):
        pair_sums(x, x, x, Kernel("cosine"), everyone)
    with pytest.raises(ValueError, match="`attn_mask` must be None"):
        mask = torch.ones(1, 1, 4, 4, dtype=torch.bool, device=DEVICE)
        pair_sums(x, x, x, Kernel("softmax"), everyone._replace(attn_mask=mask))
    long = x[:, :, :1].expand(1, 1, 2**31, 8)
    with pytest.raises(ValueError, match="must hold at most 2147418112 tokens; got 2147483648"):
        pair_sums(long, x, x, Kernel("softmax"), Visibility(2**31, 4))
    with pytest.raises(ValueError, match="must be at least 1 wide; got 0 and 8"):
        pair_sums(x[..., :0], x[..., :0], x, Kernel("softmax"), everyone)


def operands_of(kind, mask="both", pruned=False):
    visibility = view(mask, 3, 3)
    q, k, v = tensors((1, 1, 3, 2), (1, 1, 3, 2), (1, 1, 3, 2))
    g, c, sink = tensors((1, 1, 3), (1,), (1,), seed=4)
    distance = kind == "distance"
    return (
        q, k, v, g.detach().abs().requires_grad_() if distance else None,
        c.detach().abs().requires_grad_() if distance else None,
        sink if kind == "softmax" else None, visibility.key_mask, visibility.segment,
        visibility.is_causal, False, distance, kind, 0.5, 2, 0.0, 1e-3, pruned,
    )  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        "distance",
        *(pytest.param(k, marks=pytest.mark.slow) for k in launch.KINDS if k != "distance"),
    ],
)
def test_the_custom_operator_is_well_formed(kind):
    torch.library.opcheck(torch.ops.syncattn.pair_sums.default, operands_of(kind))


@pytest.mark.slow
def test_the_custom_operator_is_well_formed_when_pruned():
    operands = operands_of("distance", pruned=True)
    torch.library.opcheck(torch.ops.syncattn.pair_sums.default, operands)


def test_gradients_nobody_wants_are_not_computed(monkeypatch):
    from syncattn.kernels import pairwise_operator_triton as operator

    launched = []
    for name in ("launch_rows", "launch_columns"):
        monkeypatch.setattr(operator, name, lambda *a, name=name: launched.append((name, a[-1])))
    q, k, v = tensors((1, 1, 5, 4), (1, 1, 5, 4), (1, 1, 5, 4))
    for wanted, expected in (
        ((q,), [("launch_rows", None)]),
        ((v,), [("launch_columns", (False, True))]),
        ((k,), [("launch_columns", (True, False))]),
    ):
        launched.clear()
        parts = [x if any(x is y for y in wanted) else x.detach() for x in (q, k, v)]
        out, _ = pair_sums(*parts, Kernel("softmax"), Visibility(5, 5))
        torch.autograd.grad(out.sum(), wanted)
        names = [name for name, _ in launched]
        assert names == [name for name, _ in expected]
        for (_, got), (name, kinds) in zip(launched, expected, strict=True):
            if name == "launch_columns":
                assert tuple(x is not None for x in got) == kinds


def test_a_second_derivative_is_refused():
    row, column, value = tensors((1, 1, 3, 2), (1, 1, 3, 2), (1, 1, 3, 2))
    sums, _ = pair_sums(row, column, value, Kernel("softplus"), Visibility(3, 3))
    # The second term keeps a path to the rows, round the sums.
    loss = sums.square().sum() + (row**3).sum()
    with pytest.raises(RuntimeError, match="must be differentiated once"):
        torch.autograd.grad(loss, row, create_graph=True)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("offset", [10.0, 100.0])
def test_a_common_offset_costs_half_precision_nothing(dtype, offset):
    (x,) = tensors((1, 1, 32, 16), std=0.15)
    x = (x.detach() + offset).to(dtype)
    ones = torch.ones(1, 1, 32, 4, dtype=dtype, device=DEVICE)
    threshold = torch.full((1, 1, 32), 0.3, device=DEVICE)
    _, total = pair_sums(
        x, x, ones, Kernel("distance", join_self=True), Visibility(32, 32),
        threshold=threshold, stretch=threshold.new_full((1,), 2.6),
    )  # fmt: skip
    u = 2.6 * (x.double()[:, :, :, None] - x.double()[:, :, None]).square().sum(-1)
    exact = (torch.exp(-u) - 0.3 * u).clamp(min=0).sqrt().sum(-1)
    torch.testing.assert_close(total.double(), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", ["softmax", "distance", "readout", "softplus"])
def test_strides_of_the_total_s_gradient_change_nothing(kind):
    row, column, value = tensors((1, 3, 20, 4), (1, 3, 20, 4), (1, 3, 20, 4))
    more = {}
    if kind == "distance":
        ones = torch.ones(1, 3, 20, device=DEVICE)
        more = {"threshold": ones, "stretch": 0.1 * ones[0, :, 0]}
    out, total = pair_sums(row, column, value, Kernel(kind, scale=0.3), Visibility(20, 20), **more)
    (w,) = tensors((1, 20, 3))
    strided = w.detach().transpose(1, 2)
    found, expected = (
        torch.autograd.grad([out, total], row, [out.detach(), g], retain_graph=True)[0]
        for g in (strided, strided.contiguous())
    )
    torch.testing.assert_close(found, expected)


def test_the_slope_at_the_edge_of_the_readout_is_that_of_the_definition():
    row = torch.tensor([[[[1.0, 0.0]]]], device=DEVICE, requires_grad=True)
    column = torch.tensor([[[[-1.0, 0.0], [0.0, 1.0]]]], device=DEVICE)
    value = torch.tensor([[[[1.0], [2.0]]]], device=DEVICE)
    out, _ = pair_sums(row, column, value, Kernel("readout"), Visibility(1, 2))
    weights = (1 + row @ column.mT).clamp(min=0)
    dense = (weights / weights.sum(-1, keepdim=True)) @ value
    found, expected = (torch.autograd.grad(x.sum(), row)[0] for x in (out, dense))
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_one_infinite_column_spoils_the_gradient_of_no_other():
    row, column, value = tensors((1, 1, 12, 8), (1, 1, 12, 8), (1, 1, 12, 4), std=0.3)
    with torch.no_grad():
        column[0, 0, 3] = 1e38
    row, column = (x.detach().half().requires_grad_() for x in (row, column))
    ones = torch.ones(1, 1, 12, device=DEVICE)
    out, _ = pair_sums(
        row, column, value, Kernel("distance"), Visibility(12, 12),
        threshold=ones, stretch=ones[0, 0, :1],
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(out.nan_to_num().sum(), column)
    others = torch.arange(12, device=DEVICE) != 3
    assert gradient[0, 0, others].isfinite().all()
