"""The four operators: right calls, and the float64 definition that judges their answers."""

import torch

from syncattn import functional, reference
from syncattn.functional.oscillator_attention import COUPLINGS
from tests.fuzz import visibility
from tests.fuzz.strategies import Target
from tests.tolerance import FLOOR

_MODERATE = 1e4


def moderate(*things):
    """Tells whether every number lies where float32 can hold squares and products."""
    return not any(isinstance(x, torch.Tensor) and x.is_meta for x in things) and all(
        bool((x.isfinite() & ((x == 0) | ((x.abs() >= 1e-15) & (x.abs() <= _MODERATE)))).all())
        for x in things
        if isinstance(x, torch.Tensor) and x.is_floating_point()
    )


def near(out, exact, plain, rows=None):
    """Asserts the rule of `tests.tolerance`; where the dense form fails itself, nothing."""
    assert out.shape == exact.shape, f"shape {tuple(out.shape)} for {tuple(exact.shape)}"
    if rows is not None:
        out, exact, plain = (x * rows for x in (out, exact, plain))
    if not plain.isfinite().all() or exact.numel() == 0:
        return
    scale = exact.abs().max().clamp(min=1.0)
    wrong = ((out.double() - exact).abs().max() / scale).item()
    allowed = 4 * ((plain.double() - exact).abs().max() / scale).item() + 16 * FLOOR[out.dtype]
    assert wrong <= allowed, f"off by {wrong:.3g}, allowed {allowed:.3g}, {out.dtype}"


def wide_and_plain(arguments, names, dtype):
    """Returns the tensors in float64, and in the dtype in which an operator may compute."""
    plain = torch.float64 if dtype == torch.float64 else torch.float32
    for kind in (torch.float64, plain):
        yield {name: arguments[name].to(kind) for name in names if arguments.get(name) is not None}


def selective_inputs(dice, dim=None):
    b, h = dice.choice((1, 2)), dice.choice((1, 2))
    k, d, dtype = dice.size(), dice.size(3), dice.dtype
    q = k if dice.maybe(0.5) else dice.size()
    omega = dice.normal(b, h, k, d, std=0.5, dtype=dtype)
    drawn = {
        "query_frequency": omega
        if q == k and dice.maybe(0.7)
        else dice.normal(b, h, q, d, dtype=dtype),
        "key_frequency": omega,
        "coupling_strength": dice.choice((1.3, dice.positive(h), dice.positive(1))),
        "coupling_decay": dice.choice((1.1, dice.positive(h))),
        **visibility.drawn(dice, b, h, q, k),
        **dice.some(
            unbiased_order_parameter=lambda: True,
            smoothing=lambda: 0.1,
            top_k=lambda: dice.randint(1, 6),
        ),
    }
    if dice.maybe(0.6):
        drawn["phase"] = dice.normal(b, h, k, dice.size(2), dtype=dtype)
    elif dice.maybe():
        drawn["order_parameter"] = torch.rand(b, h, q, generator=dice.generator)
    if dice.maybe(0.1):
        drawn["variant"] = "paper"
        drawn.pop("smoothing", None)
    return drawn


def draw_selective(dice):
    drawn = selective_inputs(dice)
    b, h, k, _ = drawn["key_frequency"].shape
    drawn["value"] = dice.normal(b, h, k, dice.size(3), dtype=drawn["key_frequency"].dtype)
    drawn |= dice.some(empty_rows=lambda: dice.choice(("nearest", "mean")))
    if dice.maybe(0.6):
        drawn["backend"] = dice.choice((
            "auto",
            "blockwise",
            "window",
            "pruned",
            "repeats",
            "reference",
        ))
    return drawn


def _selective_by_definition(x, arguments, mask):
    r = x.get("order_parameter")
    if r is None and "phase" in x:
        r = reference.row_order_parameter(
            x["phase"], mask, unbiased=bool(arguments.get("unbiased_order_parameter"))
        )
    if r is None:
        r = x["key_frequency"].new_ones(x["query_frequency"].shape[:3])
    heads = (r.shape[1],)
    strength = reference.synchronization(
        x["query_frequency"], x["key_frequency"], r,
        coupling_strength=torch.as_tensor(arguments["coupling_strength"]).to(r.dtype).expand(heads),
        coupling_decay=torch.as_tensor(arguments["coupling_decay"]).to(r.dtype).expand(heads),
        mask=mask, smoothing=float(arguments.get("smoothing", 0.0)),
    )  # fmt: skip
    return reference.synchronization_weights(strength) @ x["value"], strength.sum(-1, keepdim=True)


def check_selective(arguments, out):
    assert out.dtype == arguments["value"].dtype
    names = ("query_frequency", "key_frequency", "value", "phase", "order_parameter")
    given = [arguments.get(name) for name in (*names, "coupling_strength", "coupling_decay")]
    told = arguments.get("self_pairs")
    unusual = arguments.get("top_k") or arguments.get("empty_rows", "zero") != "zero"
    if unusual or told or arguments.get("variant", "default") == "paper" or not moderate(*given):
        return
    mask = visibility.dense(arguments, arguments["query_frequency"], arguments["key_frequency"])
    wide, plain = wide_and_plain(arguments, names, out.dtype)
    exact, total = _selective_by_definition(wide, arguments, mask)
    _, rough_total = _selective_by_definition(plain, arguments, mask)
    # On the locking edge a square root turns rounding of 1e-8 into 1e-4, so weak rows are skipped.
    sure = (total > 0.2) | ((total == 0) & (rough_total == 0))
    rows = no_padding(arguments, "query_frequency")
    sure = sure if rows is None else sure & rows
    scale = exact.abs().max().clamp(min=1.0) if exact.numel() else 1.0
    wrong = ((out.double() - exact).abs() / scale * sure).max().item() if exact.numel() else 0.0
    passed = (arguments.get(name) for name in (*names[:3], "phase"))
    kinds = {x.dtype for x in passed if x is not None}
    floor = 1e-6 if kinds == {torch.float64} else 2e-2
    assert out.shape == exact.shape and wrong <= floor, f"off by {wrong:.3g}"


def draw_oscillator(dice):
    b, h = dice.choice((1, 2)), dice.choice((1, 2))
    k, d, n, dtype = dice.size(), dice.size(3), dice.randint(1, 4), dice.dtype
    q = k if dice.maybe(0.6) else dice.size()
    modes = ("settle(1.5)", "euler(3, 0.01)", "settle(0)", "equilibrium")
    drawn = {
        "query": dice.normal(b, h, q, d, dtype=dtype),
        "key": dice.normal(b, h, k, d, dtype=dtype),
        "value": dice.normal(b, h, k, dice.size(3), dtype=dtype),
        "anchor": dice.unit(dice.choice((1, b)), h, k, n, dtype=dtype),
        **visibility.drawn(dice, b, h, q, k),
        **dice.some(
            scale=lambda: 0.7, coupling=lambda: dice.choice(("relu", "elu")), row_gain=lambda: True,
            readout_power=lambda: dice.choice((2, 4)), mode=lambda: dice.choice(modes),
            readout_gain=lambda: dice.choice((0.5, 2.0, dice.positive(h))),
            initial_oscillator=lambda: dice.unit(b, h, q, n), legacy_padding=lambda: True,
            anchor_bounded=lambda: True,
        ),
    }  # fmt: skip
    if dice.maybe(0.5):
        drawn["backend"] = dice.choice(("auto", "blockwise", "reference"))
    return drawn


def check_oscillator(arguments, out):
    assert out.dtype == arguments["value"].dtype
    names = ("query", "key", "value", "anchor")
    gain, scale = arguments.get("readout_gain", 1.0), arguments.get("scale")
    settled = str(arguments.get("mode", "equilibrium")) == "equilibrium"
    bounded = not arguments.get("anchor_bounded") or bool(
        (arguments["anchor"].double().norm(dim=-1) <= 1 + 1e-3).all()
    )
    unusual = arguments.get("legacy_padding") or not settled or not bounded
    if unusual or not moderate(*(arguments[name] for name in names), gain):
        return
    coupling = arguments.get("coupling", "softplus")
    mask = visibility.dense(arguments, arguments["query"], arguments["key"])
    scale = arguments["query"].shape[-1] ** -0.5 if scale is None else scale

    def define(x):
        g = gain.to(x["key"].dtype) if isinstance(gain, torch.Tensor) else gain
        return reference.oscillator_attention(
            *x.values(), scale=scale, coupling=COUPLINGS[coupling], mask=mask, readout_gain=g,
            readout_power=arguments.get("readout_power", 1),
        )  # fmt: skip

    kinds = {arguments[name].dtype for name in names}
    computed = torch.float64 if kinds == {torch.float64} else torch.float32
    wide, plain = wide_and_plain(arguments, names, computed)
    h, total = reference.drive(
        wide["query"], wide["key"], wide["anchor"], scale=scale, coupling=COUPLINGS[coupling],
        mask=mask,
    )  # fmt: skip
    # Where the pulls cancel the direction is rounding; where the read-out cancels, the quotient.
    sure = h.norm(dim=-1, keepdim=True) > 1e-2 * total[..., None].clamp(min=1e-9)
    g = gain if isinstance(gain, float | int) else float(gain.abs().max()) if gain.numel() else 0.0
    if abs(g) > 1 and arguments.get("readout_power", 1) < 2:
        return
    out = out if out.dtype != torch.float64 else out.to(computed)
    near(out, define(wide), define(plain), sure | (total[..., None] == 0))


def draw_phases(dice):
    b, h = dice.choice((1, 2)), dice.choice((1, 2))
    k, d, dtype = dice.size(), dice.size(3), dice.dtype
    q = k if dice.maybe(0.6) else dice.size()
    theta = dice.normal(b, h, k, d, std=2, dtype=dtype)
    same = q == k and dice.maybe(0.5)
    drawn = {
        "query_phase": theta if same else dice.normal(b, h, q, d, dtype=dtype),
        "key_phase": theta,
        **visibility.drawn(dice, b, h, q, k),
        **dice.some(
            query_gate=lambda: dice.normal(b, h, q, d, dtype=dtype),
            key_gate=lambda: dice.normal(1, h, 1, d, dtype=dtype),
            natural_frequency=lambda: dice.normal(d), exclude_self=lambda: False,
            scale=lambda: 0.3, sink=lambda: dice.choice((0.0, -2.0, dice.normal(h))),
        ),
    }  # fmt: skip
    return drawn


def draw_kuramoto(dice):
    drawn = draw_phases(dice)
    if dice.maybe(0.5):
        drawn["backend"] = dice.choice(("auto", "sdpa", "reference"))
    return drawn


def draw_frustrated(dice):
    drawn = draw_phases(dice)
    h, d = drawn["key_phase"].shape[1], drawn["key_phase"].shape[3]
    shape = (h, dice.randint(1, 3), dice.randint(1, 2), dice.choice((1, d)))
    drawn |= {"harmonic_amplitude": dice.normal(*shape), "frustration": dice.normal(*shape)}
    if dice.maybe(0.5):
        drawn["backend"] = dice.choice(("auto", "sdpa", "dense", "reference"))
    return drawn


def weights_by_definition(x, arguments, mask):
    """Returns the weights of the definition, with the drift added by hand."""
    theta_t, theta_u = x["query_phase"], x["key_phase"]
    gates = [
        x.get(name, like.new_ones(())).expand_as(like)
        for name, like in (("query_gate", theta_t), ("key_gate", theta_u))
    ]
    if "natural_frequency" in x:
        place = torch.arange(theta_u.shape[2])[:, None].to(theta_u.dtype)
        drift = place * x["natural_frequency"]
        theta_t, theta_u = theta_t + drift[len(place) - theta_t.shape[2] :], theta_u + drift
    sink, scale = arguments.get("sink"), arguments.get("scale")
    if sink is not None:
        sink = torch.as_tensor(sink).to(theta_u.dtype).expand(theta_u.shape[1])
    return reference.kuramoto_attention_weights(
        theta_t, theta_u, *gates, scale=theta_u.shape[-1] ** -0.5 if scale is None else scale,
        mask=mask, sink=sink,
    )  # fmt: skip


def no_padding(arguments, query="query_phase"):
    """Returns which rows are judged: the queries are tokens, and what padding gives is nobody's."""
    real, queries = arguments.get("key_mask"), arguments[query].shape[2]
    if real is None or not (arguments.get("is_causal") or queries == real.shape[1]):
        return None
    return real[:, None, real.shape[1] - queries :, None]


PHASE_INPUTS = ("query_phase", "key_phase", "query_gate", "key_gate", "natural_frequency")


def judged(arguments):
    """Tells whether the definition can judge a call on the torus."""
    given = [arguments.get(name) for name in (*PHASE_INPUTS, "harmonic_amplitude", "frustration")]
    beyond = arguments["query_phase"].shape[2] > arguments["key_phase"].shape[2]
    drift = arguments.get("natural_frequency") is not None
    empty = 0 in arguments["query_phase"].shape or 0 in arguments["key_phase"].shape
    return moderate(*given, arguments.get("sink")) and not (beyond and drift) and not empty


def check_kuramoto(arguments, out):
    assert out.dtype == arguments["query_phase"].dtype
    assert out.shape == arguments["query_phase"].shape
    if not judged(arguments):
        return
    mask = visibility.dense(
        arguments, arguments["query_phase"], arguments["key_phase"],
        exclude_self=arguments.get("exclude_self", True),
    )  # fmt: skip
    exact, roughly = (
        reference.kuramoto_attention(
            weights_by_definition(x, arguments, mask), x["query_phase"], x["key_phase"]
        )
        for x in wide_and_plain(arguments, PHASE_INPUTS, out.dtype)
    )
    near(out, exact, roughly, no_padding(arguments))


def check_frustrated(arguments, out):
    assert out.dtype == arguments["query_phase"].dtype
    assert out.shape == arguments["query_phase"].shape
    if not judged(arguments):
        return
    theta = (arguments["query_phase"], arguments["key_phase"])
    hidden = arguments.get("exclude_self", True)
    mask = visibility.dense(arguments, *theta, exclude_self=hidden)
    reach = visibility.dense(arguments, *theta, itself=True)
    names = (*PHASE_INPUTS, "harmonic_amplitude", "frustration")
    exact, roughly = (
        reference.frustrated_synchronization(
            weights_by_definition(x, arguments, mask),
            x["query_phase"],
            x["key_phase"],
            x["harmonic_amplitude"],
            x["frustration"],
            reach=reach,
        )
        for x in wide_and_plain(arguments, names, out.dtype)
    )
    near(out, exact, roughly, no_padding(arguments))


OPERATORS = [
    Target("selective_synchronization", functional.selective_synchronization, draw_selective,
           check_selective),
    Target("oscillator_attention", functional.oscillator_attention, draw_oscillator,
           check_oscillator),
    Target("kuramoto_attention", functional.kuramoto_attention, draw_kuramoto, check_kuramoto),
    Target("frustrated_synchronization", functional.frustrated_synchronization, draw_frustrated,
           check_frustrated),
]  # fmt: skip
