"""Every check through the public functions, without the typing hook that would speak first."""

import inspect
import re
import sys

import pytest
import torch

from syncattn import _validation as check
from syncattn import functional

FLOORS = ("syncattn.functional", "syncattn.kernels", "syncattn.reference", "syncattn._")


@pytest.fixture(autouse=True, scope="module")
def without_the_typing_hook():
    """Puts the plain functions in place of those that the hook wrapped."""
    with pytest.MonkeyPatch.context() as patch:
        modules = [module for name, module in sys.modules.items() if name.startswith(FLOORS)]
        for module in modules:
            for attribute, value in list(vars(module).items()):
                if inspect.isfunction(value) and "jaxtyping" in value.__code__.co_filename:
                    patch.setattr(module, attribute, inspect.unwrap(value))
        yield


def normal(*shape):
    return torch.randn(shape)


def selective(**changed):
    named = {
        "query_frequency": normal(2, 2, 5, 3), "key_frequency": normal(2, 2, 5, 3),
        "value": normal(2, 2, 5, 4), "phase": normal(2, 2, 5, 2), "coupling_strength": 1.0,
        "coupling_decay": 1.0,
    } | changed  # fmt: skip
    return functional.selective_synchronization(**named)


def oscillator(**changed):
    named = {
        "query": normal(2, 2, 5, 3), "key": normal(2, 2, 5, 3), "value": normal(2, 2, 5, 4),
        "anchor": normal(1, 2, 5, 2),
    } | changed  # fmt: skip
    return functional.oscillator_attention(**named)


def kuramoto(**changed):
    named = {"query_phase": normal(2, 2, 5, 3), "key_phase": normal(2, 2, 5, 3)} | changed
    return functional.kuramoto_attention(**named)


def frustrated(**changed):
    named = {
        "query_phase": normal(2, 2, 5, 3), "key_phase": normal(2, 2, 5, 3),
        "harmonic_amplitude": normal(2, 2, 2, 3), "frustration": normal(2, 2, 2, 3),
    } | changed  # fmt: skip
    return functional.frustrated_synchronization(**named)


OPERATORS = (selective, oscillator, kuramoto, frustrated)
MASKED = pytest.mark.parametrize("call", OPERATORS, ids=lambda call: call.__name__)


def assert_refused(call, error, name, got, **changed):
    """Asserts the type, the argument's name and the three parts of the sentence."""
    with pytest.raises(error) as caught:
        call(**changed)
    # Not a subclass: TypeCheckError and BackendUnavailableError would be other answers.
    assert type(caught.value) is error
    message = str(caught.value)
    assert f"`{name}`" in message
    # What must hold; what was received. What to do.
    assert re.fullmatch(r".*(must|needs).*; got .*\. [A-Z].*\.", message, re.DOTALL), message
    assert got in message


@MASKED
def test_good_input_passes(call):
    assert call().isfinite().all()


NAN = torch.full((2, 2, 5, 3), torch.nan)
TOKENS = [
    (selective, "query_frequency"), (selective, "key_frequency"), (selective, "value"),
    (selective, "phase"), (oscillator, "query"), (oscillator, "key"), (oscillator, "value"),
    (oscillator, "anchor"), (kuramoto, "query_phase"), (kuramoto, "key_phase"),
    (frustrated, "query_phase"), (frustrated, "key_phase"), (frustrated, "harmonic_amplitude"),
    (frustrated, "frustration"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "name"), TOKENS)
def test_tensors_are_floating_and_of_rank_four(call, name):
    assert_refused(call, TypeError, name, "list", **{name: [1.0]})
    whole = torch.ones(2, 2, 5, 3, dtype=torch.int64)
    assert_refused(call, TypeError, name, "torch.int64", **{name: whole})
    assert_refused(call, ValueError, name, "(5, 3)", **{name: normal(5, 3)})


@pytest.mark.parametrize(("call", "name"), TOKENS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_values_are_finite(call, name, bad):
    shapes = {"value": (2, 2, 5, 4), "anchor": (1, 2, 5, 2), "phase": (2, 2, 5, 2),
              "harmonic_amplitude": (2, 2, 2, 3), "frustration": (2, 2, 2, 3)}  # fmt: skip
    tensor = normal(*shapes.get(name, (2, 2, 5, 3)))
    tensor[0, 1, 1, 0] = bad
    assert_refused(call, ValueError, name, "1 NaN or infinite", **{name: tensor})


@pytest.mark.parametrize("call", [kuramoto, frustrated])
@pytest.mark.parametrize("name", ["query_gate", "key_gate"])
def test_gates_fit_and_are_finite(call, name):
    gate = normal(2, 2, 5, 3)
    gate[0, 0, 0, 0] = torch.nan
    assert_refused(call, ValueError, name, "1 NaN or infinite", **{name: gate})
    assert_refused(call, ValueError, name, "(2, 2, 4, 3)", **{name: normal(2, 2, 4, 3)})


@pytest.mark.parametrize(
    ("call", "name", "shape", "got"),
    [
        (selective, "key_frequency", (2, 2, 5, 4), "got 4 and 3"),
        (selective, "key_frequency", (2, 3, 5, 3), "got 3 and 2"),
        (selective, "key_frequency", (1, 2, 5, 3), "got 1 and 2"),
        (selective, "value", (2, 2, 6, 4), "got 6 and 5"),
        (selective, "value", (2, 1, 5, 4), "got 1 and 2"),
        (selective, "value", (1, 2, 5, 4), "got 1 and 2"),
        (selective, "phase", (2, 2, 6, 2), "(2, 2, 6, 2)"),
        (selective, "order_parameter", (2, 2, 4), "(2, 2, 4)"),
        (oscillator, "key", (2, 2, 5, 4), "got 4 and 3"),
        (oscillator, "key", (2, 1, 5, 3), "got 1 and 2"),
        (oscillator, "key", (1, 2, 5, 3), "got 1 and 2"),
        (oscillator, "value", (2, 2, 6, 4), "got 6 and 5"),
        (oscillator, "value", (1, 2, 5, 4), "got 1 and 2"),
        (oscillator, "anchor", (1, 2, 6, 2), "got 6 and 5"),
        (oscillator, "anchor", (1, 3, 5, 2), "(1, 3, 5, 2)"),
        (oscillator, "anchor", (3, 2, 5, 2), "(3, 2, 5, 2)"),
        (kuramoto, "key_phase", (2, 2, 5, 4), "got 4 and 3"),
        (kuramoto, "key_phase", (2, 1, 5, 3), "got 1 and 2"),
        (kuramoto, "key_phase", (1, 2, 5, 3), "got 1 and 2"),
        (kuramoto, "natural_frequency", (4,), "got 4 and 3"),
        (kuramoto, "natural_frequency", (2, 3), "(2, 3)"),
        (frustrated, "key_phase", (2, 2, 5, 4), "got 4 and 3"),
        (frustrated, "key_phase", (1, 2, 5, 3), "got 1 and 2"),
        (frustrated, "harmonic_amplitude", (3, 2, 2, 3), "(3, 2, 2, 3)"),
        (frustrated, "harmonic_amplitude", (2, 2, 2, 2), "(2, 2, 2, 2)"),
        (frustrated, "harmonic_amplitude", (2, 0, 2, 3), "(2, 0, 2, 3)"),
        (frustrated, "frustration", (2, 1, 2, 3), "(2, 1, 2, 3)"),
    ],
)
def test_shapes_fit(call, name, shape, got):
    extra = {"phase": None} if name == "order_parameter" else {}
    assert_refused(call, ValueError, name, got, **{name: torch.ones(shape)}, **extra)


@pytest.mark.parametrize(
    ("call", "name"),
    [(selective, "value"), (oscillator, "value"), (oscillator, "anchor"),
     (kuramoto, "key_phase"), (frustrated, "key_phase")],
)  # fmt: skip
def test_all_tensors_lie_on_one_device(call, name):
    shape = {"value": (2, 2, 5, 4), "anchor": (1, 2, 5, 2)}.get(name, (2, 2, 5, 3))
    elsewhere = torch.empty(shape, device="meta")
    assert_refused(call, ValueError, name, f"`{name}` on meta", **{name: elsewhere})


@MASKED
def test_masks_are_boolean(call):
    for name, shape in (("attn_mask", (5, 5)), ("key_mask", (2, 5))):
        assert_refused(call, TypeError, name, "torch.float32", **{name: torch.zeros(shape)})
        assert_refused(call, TypeError, name, "list", **{name: [True]})


@MASKED
def test_masks_fit(call):
    for shape in ((2, 4), (5,), (1, 5)):
        assert_refused(call, ValueError, "key_mask", "got (", key_mask=torch.ones(shape).bool())
    for shape in ((5, 4), (3, 5, 5), (2, 3, 5, 5), (1, 2, 2, 5, 5)):
        assert_refused(call, ValueError, "attn_mask", "got (", attn_mask=torch.ones(shape).bool())


SHORT = {selective: "query_frequency", oscillator: "query", kuramoto: "query_phase",
         frustrated: "query_phase"}  # fmt: skip


@MASKED
def test_causality_needs_the_keys_of_all_queries(call):
    many = {SHORT[call]: normal(2, 2, 7, 3), "is_causal": True}
    assert_refused(call, ValueError, "is_causal", "got 7 and 5", **many)


def packed(call):
    """Returns the arguments of one packed row."""
    rows = {"selective": ("query_frequency", "key_frequency"), "oscillator": ("query", "key"),
            "kuramoto": ("query_phase", "key_phase"),
            "frustrated": ("query_phase", "key_phase")}[call.__name__]  # fmt: skip
    named = {name: normal(1, 2, 5, 3) for name in rows}
    if call in {selective, oscillator}:
        named["value"] = normal(1, 2, 5, 4)
    if call is selective:
        named["phase"] = normal(1, 2, 5, 2)
    return named


@MASKED
def test_packed_lengths(call):
    row, ends = packed(call), torch.tensor([0, 2, 5])
    assert call(**row, cu_seqlens=ends, is_causal=True).isfinite().all()
    assert call(**row, cu_seqlens=ends.int(), is_causal=True).isfinite().all()
    refused = [
        ({"cu_seqlens": torch.tensor([0, 2, 4])}, "[0, 2, 4]"),
        ({"cu_seqlens": torch.tensor([1, 5])}, "[1, 5]"),
        ({"cu_seqlens": torch.tensor([0, 4, 2, 5])}, "[0, 4, 2, 5]"),
        ({"cu_seqlens": torch.tensor([5])}, "[5]"),
        ({"cu_seqlens": ends.float()}, "torch.float32"),
        ({"cu_seqlens": ends[None]}, "(1, 3)"),
        ({"cu_seqlens": ends, "attn_mask": torch.ones(5, 5).bool()}, "got both"),
        ({"cu_seqlens": ends, "key_mask": torch.ones(1, 5).bool()}, "got both"),
    ]
    for changed, got in refused:
        assert_refused(call, ValueError, "cu_seqlens", got, **(row | changed))
    assert_refused(call, ValueError, "cu_seqlens", "got batch 2", cu_seqlens=ends)
    if call is not oscillator:  # Whose anchors are made on the CPU here.
        bare = {name: x.to("meta") for name, x in (row | {"cu_seqlens": ends}).items()}
        assert_refused(call, ValueError, "cu_seqlens", "meta device", **bare)


@pytest.mark.parametrize(
    ("call", "name", "value", "error", "got"),
    [
        (selective, "coupling_strength", 0.0, ValueError, "got 0"),
        (selective, "coupling_strength", -1.0, ValueError, "got -1"),
        (selective, "coupling_decay", torch.tensor([1.0, torch.nan]), ValueError, "got nan"),
        (selective, "coupling_decay", torch.ones(3), ValueError, "(3,)"),
        (selective, "coupling_strength", torch.ones(1, 2), ValueError, "(1, 2)"),
        (selective, "top_k", 0, ValueError, "got 0"),
        (selective, "top_k", 1.5, TypeError, "1.5 of type float"),
        (selective, "top_k", True, TypeError, "True of type bool"),
        (selective, "smoothing", -0.1, ValueError, "got -0.1"),
        (selective, "smoothing", "much", TypeError, "'much' of type str"),
        (selective, "edge_floor", torch.inf, ValueError, "got inf"),
        (selective, "variant", "new", ValueError, "got 'new'"),
        (oscillator, "readout_power", 3, ValueError, "got 3"),
        (oscillator, "coupling", "exp", ValueError, "got 'exp'"),
        (oscillator, "scale", torch.nan, ValueError, "got nan"),
        (oscillator, "scale", "1", TypeError, "'1' of type str"),
        (kuramoto, "scale", torch.inf, ValueError, "got inf"),
        (frustrated, "scale", True, TypeError, "True of type bool"),
    ],
)
def test_numbers_and_choices(call, name, value, error, got):
    assert_refused(call, error, name, got, **{name: value})


def test_one_description_of_the_coherence():
    given = torch.ones(2, 2, 5)
    assert_refused(selective, ValueError, "order_parameter", "got both", order_parameter=given)


@MASKED
def test_what_a_mask_hides_need_not_be_finite(call):
    real = torch.ones(2, 5, dtype=torch.bool)
    real[:, -1] = False
    names = [n for c, n in TOKENS if c is call and n not in {"harmonic_amplitude", "frustration"}]
    shapes = {"value": (2, 2, 5, 4), "anchor": (2, 2, 5, 2), "phase": (2, 2, 5, 2)}
    for name in names:
        tensor = normal(*shapes.get(name, (2, 2, 5, 3)))
        tensor[:, :, -1] = torch.nan
        out = call(**{name: tensor}, key_mask=real)
        assert out[:, :, :-1].isfinite().all()


@MASKED
def test_a_key_that_no_row_sees_need_not_be_finite(call):
    seen = torch.tensor([True] * 4 + [False])
    on_keys = {selective: "value", oscillator: "value", kuramoto: "key_phase",
               frustrated: "key_phase"}[call]  # fmt: skip
    tensor = normal(2, 2, 5, 4 if on_keys == "value" else 3)
    tensor[:, :, -1] = torch.nan
    # With a delay the last token would read its own state as a successor: here without.
    kernel = {name: normal(2, 1, 2, 3) for name in ("harmonic_amplitude", "frustration")}
    undelayed = kernel if call is frustrated else {}
    out = call(**{on_keys: tensor}, **undelayed, attn_mask=seen.expand(5, 5))
    assert out.isfinite().all()


def test_the_elementary_quantities():
    order, drift = functional.order_parameter, functional.rotary_drift
    assert_refused(order, TypeError, "phase", "torch.int64", phase=torch.tensor([1, 2]))
    with pytest.raises(TypeError, match=r"`harmonic` must be an integer; got 1.5 of type float"):
        order(normal(3), harmonic=1.5)
    assert_refused(drift, TypeError, "dim", "2.0 of type float", dim=2.0)
    assert_refused(drift, ValueError, "base", "got 1", dim=2, base=1.0)


def test_shares_lie_between_0_and_1_but_for_rounding():
    check.require_share(torch.tensor([0.0, 1.0000001, -1e-7]), "x")
    check.require_share(torch.tensor([1.0078], dtype=torch.bfloat16), "x")
    check.require_share(torch.empty(0), "x")
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="`x` must be between 0 and 1; got"):
            check.require_share(torch.tensor([0.5, wrong]), "x")
