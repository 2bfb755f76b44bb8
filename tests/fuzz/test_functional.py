"""The floor of the operators: every name of `syncattn.functional`."""

import math

import torch
from hypothesis import given

from syncattn import functional
from tests.fuzz.law import budget, obeys
from tests.fuzz.operators import (
    OPERATORS,
    draw_frustrated,
    draw_kuramoto,
    draw_oscillator,
    draw_selective,
    selective_inputs,
)
from tests.fuzz.strategies import Target, cases


def has_zero_size(arguments):
    """Tells whether a tensor is empty: the mean of no values is NaN where it says so."""
    return any(isinstance(x, torch.Tensor) and x.numel() == 0 for x in arguments.values())


def draw_selective_weights(dice):
    return selective_inputs(dice) | dice.some(
        empty_rows=lambda: dice.choice(("nearest", "mean")),
        edge_floor=lambda: dice.choice((0.0, 0.1)),
    )


def draw_oscillator_weights(dice):
    drawn = draw_oscillator(dice)
    for name in ("value", "backend"):
        drawn.pop(name, None)
    return drawn


def draw_kuramoto_weights(dice):
    drawn = draw_kuramoto(dice)
    drawn.pop("backend", None)
    return drawn


def draw_explain_backend(dice):
    drawn = draw_selective(dice)
    drawn.pop("value")
    return drawn


def draw_explain_pair(dice):
    drawn = selective_inputs(dice)
    drawn.pop("variant", None)
    q, k = drawn["query_frequency"].shape[2], drawn["key_frequency"].shape[2]
    return drawn | {"query": dice.randint(0, q), "key": dice.randint(0, k)}


def draw_diagnostics(dice):
    drawn = draw_oscillator_weights(dice)
    drawn.pop("mode", None)
    return drawn | dice.some(angle=lambda: 0.1, degenerate_below=lambda: 0.01)


def chunk(arguments, names, part):
    """Returns arguments of the tokens of a part; masks of all pairs fall away."""
    kept = {k: v for k, v in arguments.items() if k not in
            {"is_causal", "attn_mask", "cu_seqlens", "legacy_padding", "variant"}}  # fmt: skip
    for name in names:
        if kept.get(name) is not None and kept[name].shape[2] > 1:
            kept[name] = kept[name][:, :, part]
    if kept.get("key_mask") is not None:
        kept["key_mask"] = kept["key_mask"][:, part]
    return kept


def stepping(step, draw, names, rename):
    """Returns a draw of arguments of a step, of which half continue a state."""

    def drawn(dice):
        arguments = draw(dice)
        for old, new in rename.items():
            x = arguments.pop(old, None)
            if new is not None and x is not None:
                arguments[new] = x
        keys = arguments[names[0]]
        for name in names:
            x = arguments.get(name)
            if x is not None and x.shape[2] not in {1, keys.shape[2]}:
                arguments[name] = keys.new_zeros(*keys.shape[:3], x.shape[3])
        if arguments.get("backend") in {"window", "pruned", "repeats", "dense"}:
            arguments.pop("backend")
        arguments.pop("initial_oscillator", None)
        length = keys.shape[2]
        if length < 2 or dice.maybe(0.4):
            return chunk(arguments, names, slice(0, length))
        cut = dice.randint(1, length - 1)
        try:
            _, state = step(**chunk(arguments, names, slice(0, cut)))
        except (ValueError, RuntimeError):
            state = None
        return chunk(arguments, names, slice(cut, length)) | {"state": state}

    return drawn


STEPS = [
    Target(
        "selective_synchronization_step",
        functional.selective_synchronization_step,
        stepping(
            functional.selective_synchronization_step, draw_selective,
            ("frequency", "value", "phase"),
            {"key_frequency": "frequency", "query_frequency": None, "order_parameter": None},
        ),
    ),
    Target(
        "oscillator_attention_step",
        functional.oscillator_attention_step,
        stepping(functional.oscillator_attention_step, draw_oscillator,
                 ("key", "query", "value", "anchor"), {}),
    ),
    Target(
        "kuramoto_attention_step",
        functional.kuramoto_attention_step,
        stepping(functional.kuramoto_attention_step, draw_kuramoto,
                 ("phase", "query_gate", "key_gate"), {"key_phase": "phase", "query_phase": None}),
    ),
    Target(
        "frustrated_synchronization_step",
        functional.frustrated_synchronization_step,
        stepping(functional.frustrated_synchronization_step, draw_frustrated,
                 ("phase", "query_gate", "key_gate"), {"key_phase": "phase", "query_phase": None}),
    ),
]  # fmt: skip


def check_wrapped(arguments, wrapped):
    phase = arguments["phase"]
    assert wrapped.shape == phase.shape and wrapped.dtype == phase.dtype
    if phase.device.type == "cpu" and phase.isfinite().all():
        assert bool((wrapped.abs() <= math.pi + 0.01).all())


def check_order(arguments, z):
    phase = arguments["phase"]
    assert z.shape == phase.shape[:-1]
    if phase.device.type == "cpu" and phase.isfinite().all():
        assert bool((z.abs() <= 1 + 1e-5).all())


def draw_energy(dice):
    b, h, q, k, d, dtype = 1, 2, dice.size(), dice.size(), dice.size(3), dice.dtype
    return {
        "weights": dice.positive(b, h, q, k, dtype=dtype),
        "query_phase": dice.normal(b, h, q, d, dtype=dtype),
        "key_phase": dice.normal(b, h, k, d, dtype=dtype),
    }


def draw_transition(dice):
    b, k = dice.choice((1, 2)), dice.size()
    drawn = {"phase": dice.normal(b, 2, k, dice.size(3), dtype=dice.dtype)}
    drawn |= dice.some(delay=lambda: dice.randint(1, 4), key_mask=lambda: dice.mask(b, k))
    if b == 1 and dice.maybe():
        drawn["cu_seqlens"] = torch.tensor([0, min(1, k), k])
    return drawn


def draw_settle(dice):
    shape = (dice.size(3), dice.size(), dice.randint(1, 4))
    dtype = dice.choice((torch.float32, torch.float64))
    modes = ("equilibrium", "settle(2)", "settle(0)", "euler(2, 0.1)")
    return {"drive": dice.normal(*shape, dtype=dtype), "mode": dice.choice(modes),
            "initial": dice.unit(*shape, dtype=dtype)}  # fmt: skip


def check_unit(arguments, x):
    assert x.shape == arguments["drive"].shape


OTHERS = [
    Target("selective_synchronization_weights", functional.selective_synchronization_weights,
           draw_selective_weights),
    Target("oscillator_attention_weights", functional.oscillator_attention_weights,
           draw_oscillator_weights, may_be_nan=lambda arguments: True),
    Target("kuramoto_attention_weights", functional.kuramoto_attention_weights,
           draw_kuramoto_weights),
    Target("explain_backend", functional.explain_backend, draw_explain_backend),
    Target("explain_pair", functional.explain_pair, draw_explain_pair),
    Target("settling_diagnostics", functional.settling_diagnostics, draw_diagnostics,
           may_be_nan=lambda arguments: True),
    Target("wrap_phase", functional.wrap_phase,
           lambda dice: {"phase": dice.normal(dice.size(), dice.size(), std=9, dtype=dice.dtype)},
           check_wrapped),
    Target("order_parameter", functional.order_parameter,
           lambda dice: {"phase": dice.normal(2, dice.size(), std=9, dtype=dice.dtype),
                         "harmonic": dice.randint(1, 3)} | (
                             {"mask": dice.mask(2, 1)} if dice.maybe() else {}),
           check_order),
    Target("rotary_drift", functional.rotary_drift,
           lambda dice: {"dim": dice.randint(1, 5), "base": dice.choice((2.0, 1e4))}),
    Target("phase_drift", functional.phase_drift,
           lambda dice: {"natural_frequency": dice.normal(dice.size(), dtype=dice.dtype),
                         "num_positions": dice.randint(0, 5), "start": dice.randint(0, 100)}),
    Target("phase_energy", functional.phase_energy, draw_energy),
    Target("phase_transition", functional.phase_transition, draw_transition),
    Target("settle", functional.settle, draw_settle, check_unit),
    Target("settling_mode", functional.settling_mode,
           lambda dice: {"mode": dice.choice(("equilibrium", "settle(1)", "euler(1,1)", "ode(1)",
                                              "euler(", "settle()", "x(1)", "euler(1.5, 2)"))}),
    Target("initial_oscillators", functional.initial_oscillators,
           lambda dice: {"place": dice.integers(9, 2, dice.size()),
                         "num_heads": dice.randint(1, 3), "oscillator_dim": dice.randint(1, 4),
                         "seed": dice.randint(0, 5)}),
]  # fmt: skip


@budget(0.31)
@given(case=cases(OPERATORS))
def test_operators(case):
    obeys(*case)


@budget(0.12)
@given(case=cases(STEPS))
def test_steps(case):
    obeys(*case)


@budget(0.13)
@given(case=cases(OTHERS))
def test_everything_else(case):
    obeys(*case)


def test_no_public_function_is_left_out():
    fuzzed = {target.name for target in OPERATORS + STEPS + OTHERS}
    states = {"BackendChoice", "PairExplanation", "SettlingDiagnostics", "OscillatorState",
              "PhaseState", "SynchronizationState"}  # fmt: skip
    assert fuzzed | states == set(functional.__all__)
