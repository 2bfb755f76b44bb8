import pytest
import torch

from syncattn import functional, reference
from tests.conformance import SCENES, Conformance, PermutationLaws, Scene, WeightLaws, gradients
from tests.functional.operators import (
    BAND_SELECTIVE,
    PRUNED_SELECTIVE,
    REPEATS_SELECTIVE,
    SELECTIVE,
    WINDOW_SELECTIVE,
)
from tests.tolerance import assert_same


class TestSelectiveSynchronization(Conformance, PermutationLaws, WeightLaws):
    operator = SELECTIVE


class _Ordered(Conformance, PermutationLaws):
    """Backends that order the tokens: the future may change the order of a sum, no more."""

    def test_the_future_does_not_reach_the_past(self, backend, device):
        inputs = self.operator.inputs(Scene("causal", queries=9, keys=9), device)
        before = self.operator.call(inputs, backend, is_causal=True)
        for now in (0, 3, 7):
            changed = {name: x.detach().clone() for name, x in inputs.items()}
            for name in self.operator.on_queries + self.operator.on_keys:
                changed[name][:, :, now + 1 :] += 3.0
            after = self.operator.call(changed, backend, is_causal=True)
            assert_same(after[:, :, : now + 1], before[:, :, : now + 1], 1e-14)
            assert not torch.equal(after[:, :, now + 1 :], before[:, :, now + 1 :])


class TestPruned(_Ordered):
    operator = PRUNED_SELECTIVE


class TestWindow(_Ordered):
    operator = WINDOW_SELECTIVE


class TestBand(_Ordered):
    operator = BAND_SELECTIVE


class TestRepeats(PermutationLaws):
    operator = REPEATS_SELECTIVE

    test_value = Conformance.test_value_is_that_of_the_definition
    test_gradient = Conformance.test_gradient_of_every_input_is_that_of_the_definition
    test_many_queries_of_one_key = Conformance.test_many_queries_of_one_key


BOTH = pytest.mark.parametrize("backend", ["blockwise", "reference"])
ALL = pytest.mark.parametrize("backend", ["blockwise", "reference", "pruned", "band", "repeats"])
CAUSAL = pytest.mark.parametrize("backend", ["blockwise", "reference", "pruned", "band"])


def run(omega, value, **options):
    options = {"coupling_strength": 1.3, "coupling_decay": 1.1, "position_coordinate": 0} | options
    return functional.selective_synchronization(omega, omega, value, **options)


@ALL
@pytest.mark.parametrize(("spread", "offset"), [(100.0, 0.0), (0.3, 1e3), (1e-15, 0.0), (0.0, 5.0)])
def test_a_token_is_locked_to_itself_at_any_scale_and_offset(backend, spread, offset):
    omega = spread * torch.randn(1, 2, 20, 8) + offset
    value = torch.eye(20).expand(1, 2, -1, -1)
    weights = run(omega, value, backend=backend)
    assert (weights.diagonal(dim1=-2, dim2=-1) > 0).all()
    assert (weights.diagonal(dim1=-2, dim2=-1) >= weights.amax(-1) - 1e-6).all()
    if spread == 100.0:
        assert torch.equal(weights, value)


@CAUSAL
def test_last_rows_of_one_tensor_know_themselves(backend):
    omega = 100 * torch.randn(1, 2, 20, 8)
    value = torch.eye(20).expand(1, 2, -1, -1)
    out = functional.selective_synchronization(
        omega[:, :, -4:], omega, value, coupling_strength=1.3, coupling_decay=1.1, is_causal=True,
        backend=backend, position_coordinate=0,
    )  # fmt: skip
    assert torch.equal(out, value[:, :, -4:])


@ALL
def test_equal_tokens_share_equally_with_finite_gradients(backend):
    omega = torch.randn(1, 1, 1, 3).expand(1, 1, 7, 3).clone().requires_grad_()
    value = torch.randn(1, 1, 7, 2, requires_grad=True)
    out = run(omega, value, backend=backend)
    torch.testing.assert_close(out, value.mean(2, keepdim=True).expand_as(out))
    for gradient in torch.autograd.grad(out.square().sum(), (omega, value)):
        assert gradient.isfinite().all()


@ALL
@pytest.mark.parametrize("edge_floor", [0.0, 1e-3])
def test_a_pair_exactly_on_the_locking_boundary_has_finite_gradients(backend, edge_floor):
    # x = 2 a u with x exp(x) = Gamma: u = 1/2, a = 1, Gamma = e, hence K = sqrt(e / 2).
    strength = torch.tensor([(torch.e / 2) ** 0.5], dtype=torch.float64, requires_grad=True)
    for nudge in (-1e-9, -1e-16, 0.0, 1e-16, 1e-9):
        omega = torch.tensor([0.0, 0.5**0.5 + nudge], dtype=torch.float64)
        omega = omega.reshape(1, 1, 2, 1).requires_grad_()
        value = torch.tensor([1.0, -1.0], dtype=torch.float64).reshape(1, 1, 2, 1)
        out = run(omega, value, coupling_strength=strength, coupling_decay=1.0, backend=backend,
                  edge_floor=edge_floor)  # fmt: skip
        assert (out >= -1).all()
        assert (out <= 1).all()
        for gradient in torch.autograd.grad(out[0, 0, 0, 0], (omega, strength)):
            assert not gradient.isnan().any()
            if edge_floor > 0:
                assert gradient.isfinite().all()


@BOTH
def test_incoherent_phases_lock_equals_alone(backend):
    phase = torch.tensor([0.0, torch.pi], dtype=torch.float64).reshape(1, 1, 2, 1)
    omega = torch.tensor([0.0, 0.1], dtype=torch.float64).reshape(1, 1, 2, 1).requires_grad_()
    value = torch.eye(2, dtype=torch.float64)[None, None]
    phase.requires_grad_()
    out = functional.selective_synchronization(
        omega, omega, value, phase, coupling_strength=1.3, coupling_decay=1.1, backend=backend
    )
    assert_same(out, value)
    for gradient in torch.autograd.grad(out.sum(), (omega, phase), allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


@BOTH
def test_the_order_parameter_may_be_given(backend):
    inputs = SELECTIVE.inputs(_scene(), seed=3)
    mask = _scene().mask()
    r = reference.row_order_parameter(inputs["phase"], mask)
    given = functional.selective_synchronization(
        inputs["query_frequency"], inputs["key_frequency"], inputs["value"],
        coupling_strength=inputs["coupling_strength"], coupling_decay=inputs["coupling_decay"],
        order_parameter=r, backend=backend,
    )  # fmt: skip
    assert_same(given, SELECTIVE.call(inputs, backend))


def _scene():
    return Scene("plain")


@BOTH
@pytest.mark.parametrize("smoothing", [0.01, 0.1])
def test_smoothing_follows_the_definition_and_keeps_the_support(backend, smoothing):
    inputs = SELECTIVE.inputs(_scene())
    sharp, _, locked = functional.selective_synchronization_weights(
        inputs["query_frequency"], inputs["key_frequency"], inputs["phase"],
        coupling_strength=inputs["coupling_strength"], coupling_decay=inputs["coupling_decay"],
    )  # fmt: skip
    weights, _, still = functional.selective_synchronization_weights(
        inputs["query_frequency"], inputs["key_frequency"], inputs["phase"],
        coupling_strength=inputs["coupling_strength"], coupling_decay=inputs["coupling_decay"],
        smoothing=smoothing,
    )  # fmt: skip
    assert torch.equal(locked, still)
    assert not torch.equal(sharp, weights)
    out = SELECTIVE.call(inputs, backend, smoothing=smoothing)
    assert_same(out, weights @ inputs["value"])


@BOTH
def test_gradcheck_of_the_smoothed_strength(backend):
    inputs = SELECTIVE.inputs(Scene("small", 1, 3, 3))

    def function(*tensors):
        named = dict(zip(inputs, tensors, strict=True))
        return SELECTIVE.call(named, backend, smoothing=0.1)

    assert torch.autograd.gradcheck(function, tuple(inputs.values()), fast_mode=True)


def test_unbiased_order_parameter_reaches_the_weights():
    inputs = SELECTIVE.inputs(_scene())
    arguments = (inputs["query_frequency"], inputs["key_frequency"], inputs["phase"])
    couplings = {n: inputs[n] for n in ("coupling_strength", "coupling_decay")}
    _, r, _ = functional.selective_synchronization_weights(
        *arguments, **couplings, is_causal=True, unbiased_order_parameter=True
    )
    mask = torch.ones(2, 2, 6, 6, dtype=torch.bool).tril()
    assert_same(r, reference.row_order_parameter(inputs["phase"], mask, unbiased=True))


def test_top_k_keeps_the_strongest_after_the_masks():
    inputs = SELECTIVE.inputs(_scene())
    out = SELECTIVE.call(inputs, "auto", top_k=2, is_causal=True)
    mask = torch.ones(2, 2, 6, 6, dtype=torch.bool).tril()
    s = reference.synchronization(
        inputs["query_frequency"], inputs["key_frequency"],
        reference.row_order_parameter(inputs["phase"], mask),
        coupling_strength=inputs["coupling_strength"], coupling_decay=inputs["coupling_decay"],
        mask=mask,
    )  # fmt: skip
    kept = torch.where(s >= s.topk(2).values[..., -1:], s, 0.0)
    total = kept.sum(-1, keepdim=True)
    expected = torch.where(total > 0, kept / total.clamp(min=1e-300), 0.0) @ inputs["value"]
    assert ((kept > 0).sum(-1) <= 2).all()
    assert_same(out, expected)


def test_the_paper_variant_is_the_published_form():
    inputs = SELECTIVE.inputs(_scene())
    mask = torch.ones(2, 2, 6, 6, dtype=torch.bool)
    s = reference.paper_synchronization(
        inputs["query_frequency"], inputs["key_frequency"],
        reference.row_order_parameter(inputs["phase"], mask),
        coupling_strength=inputs["coupling_strength"], coupling_decay=inputs["coupling_decay"],
    )  # fmt: skip
    expected = s / (s.sum(-1, keepdim=True) + 1e-8) @ inputs["value"]
    assert_same(SELECTIVE.call(inputs, "auto", variant="paper"), expected)
    assert_same(expected, SELECTIVE.call(inputs, "auto"), 1e-6)


@ALL
def test_mixed_precision_follows_the_values(backend):
    omega, value = 0.3 * torch.randn(1, 2, 6, 3), torch.randn(1, 2, 6, 4)
    expected = run(omega, value, backend=backend)
    for frequency, other in (
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float64),
        (torch.float64, torch.float32),
    ):
        out = run(omega.to(frequency), value.to(other), backend=backend)
        assert out.dtype == other
        torch.testing.assert_close(out.float(), expected, atol=2e-2, rtol=0)


@BOTH
def test_couplings_may_be_numbers_or_tensors_of_any_broadcastable_shape(backend):
    omega, value = 0.3 * torch.randn(1, 2, 6, 3), torch.randn(1, 2, 6, 4)
    expected = run(omega, value, coupling_strength=2.0, coupling_decay=1.0, backend=backend)
    for strength in (2, torch.tensor(2.0), torch.tensor([2.0]), torch.tensor([2.0, 2.0])):
        out = run(omega, value, coupling_strength=strength, coupling_decay=1.0, backend=backend)
        assert torch.equal(out, expected)


def test_a_mask_that_hides_the_future_hides_it_from_rounding_too():
    omega, value = 0.3 * torch.randn(1, 1, 8, 2), torch.randn(1, 1, 8, 3)
    allowed = torch.ones(8, 8, dtype=torch.bool).tril()
    before = run(omega, value, attn_mask=allowed)
    later = omega.clone()
    later[:, :, 5:] += 1e6
    after = run(later, value, attn_mask=allowed)
    torch.testing.assert_close(after[:, :, :5], before[:, :, :5], rtol=0, atol=1e-5)


@CAUSAL
def test_a_row_that_nobody_sees_is_a_query_like_others(backend):
    omega, value = 0.3 * torch.randn(1, 1, 6, 2).double(), torch.randn(1, 1, 6, 3).double()
    strict = torch.ones(6, 6, dtype=torch.bool).tril(-1)
    out = run(omega, value, attn_mask=strict, backend=backend)
    expected = reference.selective_synchronization(
        omega, omega, value, torch.ones(1, 1, 6).double(), mask=strict,
        coupling_strength=torch.tensor([1.3], dtype=torch.float64),
        coupling_decay=torch.tensor([1.1], dtype=torch.float64),
    )  # fmt: skip
    assert_same(out, expected)


@CAUSAL
def test_unseen_garbage_does_not_matter_under_a_mask_of_keys_alone(backend):
    omega, value = 0.3 * torch.randn(1, 1, 6, 2), torch.randn(1, 1, 6, 3)
    allowed = torch.arange(6) < 4
    expected = run(omega[:, :, :4], value[:, :, :4], backend=backend)
    omega[:, :, 4:], value[:, :, 4:] = torch.nan, torch.inf
    omega.requires_grad_()
    out = run(omega, value, attn_mask=allowed.expand(6, -1), backend=backend)[:, :, :4]
    torch.testing.assert_close(out, expected)
    assert torch.autograd.grad(out.sum(), omega)[0].isfinite().all()


def test_the_padding_of_keys_says_nothing_of_other_queries():
    query, key = 0.2 * torch.randn(1, 1, 5, 2), 0.2 * torch.randn(1, 1, 5, 2)
    value, real = torch.randn(1, 1, 5, 3), torch.tensor([[True, True, False, True, False]])
    options = {"coupling_strength": 1.3, "coupling_decay": 1.1}
    expected = functional.selective_synchronization(
        query, key[:, :, real[0]], value[:, :, real[0]], **options
    )
    for told in (None, False):
        out = functional.selective_synchronization(
            query, key, value, key_mask=real, self_pairs=told, **options
        )
        torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("backend", ["blockwise", "pruned"])
def test_self_pairs_may_be_told(backend):
    key = 100 * torch.randn(1, 2, 20, 8)
    query = key.clone()[:, :, -4:]
    value = torch.eye(20).expand(1, 2, -1, -1)
    query += 0.5
    options = {"coupling_strength": 1.0, "coupling_decay": 1.0, "backend": backend}
    told = functional.selective_synchronization(query, key, value, self_pairs=True, **options)
    assert torch.equal(told, value[:, :, -4:])
    assert not functional.selective_synchronization(query, key, value, **options).any()
    with pytest.raises(ValueError, match="`self_pairs` must come with at most as many queries"):
        functional.selective_synchronization(
            key, query, value[:, :, -4:], self_pairs=True, **options
        )


@ALL
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_where_most_pairs_are_near_the_edge(backend, dtype):
    torch.manual_seed(1)
    omega = (2.0 * torch.randn(1, 2, 40, 4)).to(dtype).requires_grad_()
    value = torch.randn(1, 2, 40, 3, dtype=dtype, requires_grad=True)
    out = run(omega, value, backend=backend)
    assert out.dtype == dtype
    assert out.isfinite().all()
    for gradient in torch.autograd.grad(out.float().square().sum(), (omega, value)):
        assert gradient.dtype == dtype
        assert gradient.isfinite().all()


@CAUSAL
def test_longer_than_a_block_and_with_everything_on(backend):
    torch.manual_seed(2)
    inputs = BAND_SELECTIVE.inputs(Scene("long", 1, 150, 200))
    real = torch.rand(1, 200) < 0.9
    allowed = torch.rand(1, 2, 150, 200) < 0.8
    scene = Scene("long", 1, 150, 200, True, real=real, allowed=allowed)
    out = BAND_SELECTIVE.call(inputs, backend, **scene.visibility())
    assert_same(out * scene.rows(), BAND_SELECTIVE.exact(inputs, scene) * scene.rows(), 1e-11)


@CAUSAL
@pytest.mark.parametrize("top_k", [1, 3, 50])
@pytest.mark.parametrize("name", ["everything", "masked-padded-causal"])
def test_top_k_is_that_of_the_definition_in_every_backend(backend, top_k, name):
    scene = next(scene for scene in SCENES if scene.name == name)
    inputs = BAND_SELECTIVE.inputs(scene)
    rows = scene.rows()
    out = BAND_SELECTIVE.call(inputs, backend, top_k=top_k, **scene.visibility())
    expected = reference.selective_synchronization(
        inputs["query_frequency"], inputs["key_frequency"], inputs["value"],
        reference.row_order_parameter(inputs["phase"], scene.mask()),
        coupling_strength=inputs["coupling_strength"], coupling_decay=inputs["coupling_decay"],
        mask=scene.mask(), edge_floor=1e-3, top_k=top_k,
    )  # fmt: skip
    assert_same(out * rows, expected * rows)
    found, exact = gradients(out, inputs, rows), gradients(expected, inputs, rows)
    for tensor in inputs:
        assert_same(found[tensor], exact[tensor], 1e-10)


@CAUSAL
def test_ties_of_top_k_go_to_the_earlier_key(backend):
    omega = torch.zeros(1, 1, 80, 1)
    value = torch.eye(80).expand(1, 1, -1, -1)
    out = run(omega, value, backend=backend, top_k=2)
    expected = torch.zeros(80, 80)
    expected[:, :2] = 0.5
    torch.testing.assert_close(out[0, 0], expected)


@pytest.mark.parametrize("wrong", [-0.9, 3.0])
def test_an_order_parameter_that_is_none_is_refused(wrong):
    omega, value = torch.randn(1, 2, 3, 2), torch.randn(1, 2, 3, 4)
    with pytest.raises(ValueError, match="`order_parameter` must be between 0 and 1"):
        run(omega, value, order_parameter=torch.full((1, 2, 3), wrong))
