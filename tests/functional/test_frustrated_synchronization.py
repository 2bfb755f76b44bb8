import pytest
import torch

from syncattn import BackendUnavailableError, functional
from tests.conformance import SCENES, Conformance, Scene, gradients, plain_form
from tests.functional.operators import (
    FRUSTRATED,
    INCLUSIVE_FRUSTRATED,
    KURAMOTO,
    LATE_FRUSTRATED,
    UNDELAYED_FRUSTRATED,
)
from tests.tolerance import assert_as_exact, assert_same


class TestFrustratedSynchronization(Conformance):
    operator = FRUSTRATED


class TestInclusiveFrustratedSynchronization(Conformance):
    operator = INCLUSIVE_FRUSTRATED


class TestUndelayedFrustratedSynchronization(Conformance):
    operator = UNDELAYED_FRUSTRATED


BOTH = pytest.mark.parametrize("backend", ["sdpa", "dense", "reference"])


def kernel(inputs, amplitude, frustration):
    """Returns the inputs with a kernel of (delays, harmonics) numbers, alike for all heads."""
    shape = (2, *torch.tensor(amplitude).shape, 1)
    named = {"harmonic_amplitude": amplitude, "frustration": frustration}
    return inputs | {
        name: torch.tensor(x, dtype=torch.float64)[None, ..., None].expand(shape)
        for name, x in named.items()
    }


@BOTH
@pytest.mark.parametrize("is_causal", [False, True])
def test_the_simplest_kernel_is_kuramoto_attention(backend, is_causal):
    inputs = KURAMOTO.inputs(Scene("plain"))
    expected = KURAMOTO.call(inputs, "reference", is_causal=is_causal)
    simplest = kernel(inputs, [[1.0]], [[0.0]])
    assert_same(FRUSTRATED.call(simplest, backend, is_causal=is_causal), expected)
    undelayed = kernel(inputs, [[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [2.0, 3.0]])
    assert_same(FRUSTRATED.call(undelayed, backend, is_causal=is_causal), expected)


@BOTH
def test_a_negative_amplitude_is_a_frustration_of_half_a_turn(backend):
    inputs = KURAMOTO.inputs(Scene("plain"))
    repulsive = kernel(inputs, [[-0.7, 0.2], [0.3, -0.1]], [[0.1, 0.2], [0.3, 0.4]])
    turned = kernel(
        inputs, [[0.7, 0.2], [0.3, 0.1]], [[0.1 + torch.pi, 0.2], [0.3, 0.4 - torch.pi]]
    )
    assert_same(
        FRUSTRATED.call(repulsive, backend, is_causal=True),
        FRUSTRATED.call(turned, backend, is_causal=True),
    )


@BOTH
def test_whole_turns_change_nothing(backend):
    inputs = FRUSTRATED.inputs(Scene("plain"))
    expected = FRUSTRATED.call(inputs, backend, is_causal=True)
    for name in ("query_phase", "key_phase", "frustration"):
        turns = torch.randint(-3, 4, inputs[name].shape).double()
        turned = inputs | {name: inputs[name] + 2 * torch.pi * turns}
        assert_same(FRUSTRATED.call(turned, backend, is_causal=True), expected, 1e-11)


@BOTH
def test_the_second_token_sees_itself_as_the_successor_of_the_first(backend):
    theta = torch.randn(1, 2, 2, 4, dtype=torch.float64)
    inputs = {n: theta for n in ("query_phase", "key_phase")}
    inputs |= {n: torch.ones_like(theta) for n in ("query_gate", "key_gate")}
    inputs["natural_frequency"] = torch.zeros(4, dtype=torch.float64)
    inputs = kernel(inputs, [[0.0], [0.8]], [[0.0], [0.5]])
    out = FRUSTRATED.call(inputs, backend, is_causal=True)
    constant = 0.8 * torch.tensor(0.5, dtype=torch.float64).sin()
    assert_same(out[:, :, 1], constant.expand(1, 2, 4))
    assert not out[:, :, 0].any()


@BOTH
def test_delayed_coupling_does_not_cross_a_boundary(backend):
    scene = Scene("packed", 1, 6, 6, True, lengths=(3, 3))
    inputs = FRUSTRATED.inputs(scene)
    before = FRUSTRATED.call(inputs, backend, **scene.visibility())
    for touched, kept in ((slice(0, 3), slice(3, 6)), (slice(3, 6), slice(0, 3))):
        changed = {name: x.detach().clone() for name, x in inputs.items()}
        for name in FRUSTRATED.on_queries + FRUSTRATED.on_keys:
            changed[name][:, :, touched] += 1.0
        after = FRUSTRATED.call(changed, backend, **scene.visibility())
        assert torch.equal(after[:, :, kept], before[:, :, kept])
        assert not torch.equal(after[:, :, touched], before[:, :, touched])


def test_packed_without_order_stays_inside_its_sequence():
    scene = Scene("packed", 1, 6, 6, lengths=(3, 3))
    inputs = FRUSTRATED.inputs(scene)
    before = FRUSTRATED.call(inputs, "auto", **scene.visibility())
    changed = {name: x.detach().clone() for name, x in inputs.items()}
    for name in FRUSTRATED.on_keys:
        changed[name][:, :, 3:] += 1.0
    after = FRUSTRATED.call(changed, "auto", **scene.visibility())
    assert torch.equal(after[:, :, :3], before[:, :, :3])


def test_an_inclusive_mask_with_delay_does_not_leak_the_next_token():
    inputs = INCLUSIVE_FRUSTRATED.inputs(Scene("plain"))
    before = INCLUSIVE_FRUSTRATED.call(inputs, "auto", is_causal=True)
    changed = dict(inputs)
    changed["key_phase"] = inputs["key_phase"].detach().clone()
    changed["key_phase"][:, :, 3] += 1.0
    after = INCLUSIVE_FRUSTRATED.call(changed, "auto", is_causal=True)
    assert torch.equal(after[:, :, :3], before[:, :, :3])
    assert not torch.equal(after[:, :, 3], before[:, :, 3])


def test_a_hidden_successor_does_not_count():
    # Token 2 may see 0, but not its successor 1.
    allowed = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]], dtype=torch.bool)
    inputs = FRUSTRATED.inputs(Scene("small", 1, 3, 3))
    before = FRUSTRATED.call(inputs, "auto", attn_mask=allowed, is_causal=True)
    changed = inputs | {"key_phase": inputs["key_phase"].detach().clone()}
    changed["key_phase"][:, :, 1] += 1.0
    after = FRUSTRATED.call(changed, "auto", attn_mask=allowed, is_causal=True)
    assert torch.equal(after[:, :, 2], before[:, :, 2])


def test_auto_falls_back_and_the_fast_form_says_why_it_cannot():
    inputs = FRUSTRATED.inputs(Scene("plain"))
    allowed = torch.ones(6, 6, dtype=torch.bool).tril()
    assert FRUSTRATED.call(inputs, "auto", attn_mask=allowed).isfinite().all()
    with pytest.raises(BackendUnavailableError, match=r"no delay.*NOT met.*at most one step.*met"):
        FRUSTRATED.call(inputs, "sdpa", attn_mask=allowed)
    with pytest.raises(BackendUnavailableError, match=r"at most one step \(NOT met\)"):
        LATE_FRUSTRATED.call(LATE_FRUSTRATED.inputs(Scene("plain")), "sdpa", is_causal=True)


def test_a_single_token_with_a_delay_stays():
    inputs = FRUSTRATED.inputs(Scene("one", 1, 1, 1))
    for backend in ("sdpa", "dense", "reference"):
        assert not FRUSTRATED.call(inputs, backend, is_causal=True).any()


@pytest.mark.parametrize("backend", ["auto", "dense", "reference"])
@pytest.mark.parametrize("length", [1, 2])
def test_a_delay_beyond_the_end_couples_to_nothing(backend, length):
    theta = torch.randn(1, 2, length, 4, dtype=torch.float64)
    kernel = torch.randn(2, 2, 4, 2, 1, dtype=torch.float64)

    def run(delays):
        return functional.frustrated_synchronization(
            theta, theta, harmonic_amplitude=kernel[0, :, :delays],
            frustration=kernel[1, :, :delays], is_causal=True, backend=backend,
        )  # fmt: skip

    assert_same(run(4), run(length))


def test_kernels_per_head_and_per_coordinate_agree():
    theta = torch.randn(1, 2, 5, 4, dtype=torch.float64)
    narrow = torch.randn(2, 2, 2, 1, dtype=torch.float64)
    wide = narrow.expand(2, 2, 2, 4)
    options = {"is_causal": True}
    assert_same(
        functional.frustrated_synchronization(
            theta, theta, harmonic_amplitude=narrow, frustration=narrow, **options
        ),
        functional.frustrated_synchronization(
            theta, theta, harmonic_amplitude=wide, frustration=wide, **options
        ),
    )


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_longer_delay_follows_the_definition(scene):
    inputs, rows = LATE_FRUSTRATED.inputs(scene), scene.rows()
    out = LATE_FRUSTRATED.call(inputs, "auto", **scene.visibility())
    assert_same(out * rows, LATE_FRUSTRATED.exact(inputs, scene) * rows)


@pytest.mark.parametrize("name", ["everything", "cross", "padded"])
def test_the_fast_form_takes_inclusive_masks_without_order(name):
    scene = next(scene for scene in SCENES if scene.name == name)
    inputs, rows = INCLUSIVE_FRUSTRATED.inputs(scene), scene.rows()
    fast = INCLUSIVE_FRUSTRATED.call(inputs, "sdpa", **scene.visibility()) * rows
    exact = INCLUSIVE_FRUSTRATED.exact(inputs, scene) * rows
    assert_same(fast, exact)
    ours, theirs = gradients(fast, inputs), gradients(exact, inputs)
    for input_name in inputs:
        assert_same(ours[input_name], theirs[input_name], 1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_every_mask_in_every_precision(scene, dtype):
    backend = "sdpa" if FRUSTRATED.supports("sdpa", scene) else "dense"
    inputs, rows = FRUSTRATED.inputs(scene, dtype=dtype), scene.rows()
    out = FRUSTRATED.call(inputs, backend, **scene.visibility()) * rows
    wide = {name: x.detach().double().requires_grad_() for name, x in inputs.items()}
    exact, plain = (
        FRUSTRATED.exact(wide, scene) * rows,
        plain_form(FRUSTRATED, inputs, scene, dtype),
    )
    assert_as_exact(out, exact, plain * rows)
    found, expected = gradients(out, inputs), gradients(exact, wide)
    roughly = gradients(plain * rows, inputs)
    for name in inputs:
        assert_as_exact(found[name], expected[name], roughly[name], factor=3.0)


@BOTH
def test_a_delay_is_a_frustration_set_by_the_data(backend):
    scene = Scene("causal", 1, 9, 9, True)
    inputs = FRUSTRATED.inputs(scene)
    theta = 4 * inputs["query_phase"].detach()
    inputs |= {"query_phase": theta, "key_phase": theta}
    delayed = kernel(inputs, [[0.0], [1.0]], [[0.0], [0.3]])
    out = FRUSTRATED.call(delayed, backend, is_causal=True)
    weights = functional.kuramoto_attention_weights(
        theta, theta, inputs["query_gate"], inputs["key_gate"], is_causal=True,
        natural_frequency=inputs["natural_frequency"],
    )  # fmt: skip
    transition, _ = functional.phase_transition(theta)
    frustration = 0.3 + transition[:, :, None]
    phi = theta[:, :, None] - theta[:, :, :, None]
    expected = (weights[..., None] * (phi + frustration).sin()).sum(-2)
    assert_same(out, expected, 1e-12)


@BOTH
def test_a_sink_only_weakens(backend):
    inputs = FRUSTRATED.inputs(Scene("plain"))
    plain = FRUSTRATED.call(inputs, backend, is_causal=True)
    options = {"is_causal": True, "natural_frequency": inputs["natural_frequency"]}
    tensors = [inputs[n] for n in ("query_phase", "key_phase", "query_gate", "key_gate")]
    sink = torch.tensor([0.5, -1.0], dtype=torch.float64)
    kept = functional.kuramoto_attention_weights(*tensors, sink=sink, **options).sum(-1)
    found = functional.frustrated_synchronization(
        *tensors, harmonic_amplitude=inputs["harmonic_amplitude"], sink=sink,
        frustration=inputs["frustration"], backend=backend, **options,
    )  # fmt: skip
    assert ((kept < 1) & (kept >= 0)).all()
    assert_same(found, kept[..., None] * plain)


@BOTH
def test_a_sink_has_the_gradient_of_the_definition(backend):
    inputs = FRUSTRATED.inputs(Scene("plain"))
    sink = torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True)
    gradient = []
    for name in (backend, "reference"):
        out = functional.frustrated_synchronization(
            *(inputs[n] for n in ("query_phase", "key_phase", "query_gate", "key_gate")),
            harmonic_amplitude=inputs["harmonic_amplitude"], frustration=inputs["frustration"],
            natural_frequency=inputs["natural_frequency"], sink=sink, is_causal=True, backend=name,
        )  # fmt: skip
        gradient.append(torch.autograd.grad(out.square().sum(), sink)[0])
    assert gradient[1].any()
    assert_same(*gradient)


def test_few_queries_with_a_delay_see_no_future():
    inputs = FRUSTRATED.inputs(Scene("few", 1, 3, 8))
    before = FRUSTRATED.call(inputs, "sdpa", is_causal=True)
    for place in (5, 6, 7):
        changed = dict(inputs)
        for name in FRUSTRATED.on_keys:
            changed[name] = inputs[name].detach().clone()
            changed[name][:, :, place] += 1.0
        after = FRUSTRATED.call(changed, "sdpa", is_causal=True)
        assert torch.equal(after[:, :, : place - 5], before[:, :, : place - 5])
        assert not torch.equal(after[:, :, place - 5 :], before[:, :, place - 5 :])


def test_no_token_hears_its_future_by_any_gradient():
    # Jacobian by blocks: the increment of t must not depend on anything after t.
    for delays, exclude_self in ((2, True), (3, True), (2, False)):
        theta = torch.randn(1, 2, 6, 4, dtype=torch.float64)
        tensors = torch.randn(2, delays, 2, 4, dtype=torch.float64)

        def function(theta, tensors=tensors, exclude_self=exclude_self):
            return functional.frustrated_synchronization(
                theta, theta, harmonic_amplitude=tensors, frustration=tensors, is_causal=True,
                exclude_self=exclude_self,
            )  # fmt: skip

        jacobian = torch.autograd.functional.jacobian(function, theta)
        influence = jacobian.abs().amax((0, 1, 3, 4, 5, 7))
        assert not influence.triu(1).any()
        assert (influence.tril(-1).sum(-1)[1:] > 0).all()


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_turns_change_nothing_after_ten_thousand_steps_of_drift(backend, dtype):
    generator = torch.Generator().manual_seed(5)
    theta = torch.randn(1, 1, 10_001, 4, generator=generator).to(dtype)
    turns = torch.randint(-3, 4, (4,), generator=generator).double()
    omega, alpha = (torch.randn(n, generator=generator).double() for n in (4, 16))
    alpha = alpha.reshape(1, 2, 2, 4)

    def call(theta, omega, alpha):
        return functional.frustrated_synchronization(
            theta[:, :, -3:], theta, harmonic_amplitude=torch.ones_like(alpha).to(dtype),
            frustration=alpha.to(dtype),
            natural_frequency=omega, is_causal=True, scale=3.0, backend=backend,
        ).double()  # fmt: skip

    expected = call(theta, omega, alpha)
    tolerance = 1e-5 if dtype == torch.float32 else 2**-7
    bound = tolerance * expected.abs().max()
    turned = omega + 2 * torch.pi * turns
    assert (call(theta, turned, alpha) - expected).abs().max() <= bound
    # A drift of another size, to see that all this time drift tells.
    assert (call(theta, omega + 1e-3, alpha) - expected).abs().max() > bound
    if dtype == torch.float32:
        # A phase in bfloat16 would be rounded by the addition itself.
        around = theta + 2 * torch.pi * torch.randint(-3, 4, theta.shape, generator=generator)
        assert (call(around, turned, alpha + 2 * torch.pi) - expected).abs().max() <= bound
