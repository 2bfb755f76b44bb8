"""The floor of the modules: what they are built of, what they are given, and decoding steps."""

import functools

import torch
from hypothesis import given
from torch import nn as torch_nn

from syncattn import nn
from tests.fuzz import visibility
from tests.fuzz.law import budget, obeys
from tests.fuzz.strategies import Target, cases

WIDTH = 4


@functools.cache
def built(name, **options):
    torch.manual_seed(0)
    return getattr(nn, name)(WIDTH, 2, **options).eval()


LAYERS = (
    ("SelectiveSynchronization", {}),
    ("SelectiveSynchronization", {"position": "coordinate", "empty_rows": "nearest"}),
    ("SelectiveSynchronization", {"variant": "paper"}),
    ("OscillatorAttention", {"max_positions": 8, "rotary_base": None}),
    ("OscillatorAttention", {"max_positions": 8, "rotary_base": None, "readout_power": 2,
                             "mode": "settle(1)"}),
    ("KuramotoAttention", {}),
    ("KuramotoAttention", {"gate": "signed", "sink": "fixed", "exclude_self": False}),
    ("FrustratedSynchronization", {}),
    ("FrustratedSynchronization", {"num_delays": 3, "num_harmonics": 1}),
    ("SoftmaxAttention", {"rotary_base": None}),
    ("OscillatorySynchronizationBlock", {}),
)  # fmt: skip
FEEDFORWARDS = ("SwiGLU", "PhaseSwiGLU", "MeanFieldCoupling")


def stream(dice):
    return dice.normal(dice.choice((1, 2)), dice.size(), WIDTH)


def draw_forward(dice):
    name, options = dice.choice(LAYERS)
    x = stream(dice)
    batch, length = x.shape[:2]
    return {
        "module": built(name, **options),
        "hidden_states": x,
        **visibility.drawn(dice, batch, 2, length, length),
    }


def draw_step(dice):
    name, options = dice.choice(LAYERS[:-1])
    module, x = built(name, **options), stream(dice)
    drawn = {"module": module, "hidden_states": x}
    if dice.maybe():
        drawn["key_mask"] = dice.mask(*x.shape[:2])
    if x.shape[1] > 1 and dice.maybe(0.6):
        drawn["state"] = module.step(x[:, :1])[1]
    return drawn


def check_stream(arguments, out):
    out = out[0] if isinstance(out, tuple) else out
    assert out.shape == arguments["hidden_states"].shape


def forward(*, module, hidden_states, **options):
    return module(hidden_states, **options)


def step(*, module, hidden_states, state=None, **options):
    return module.step(hidden_states, state, **options)


def picture(*, module, hidden_states, **options):
    return module.synchrony(hidden_states, **options).weights


def fed(*, module, x):
    return module(x)


CALLS = [
    Target("forward", forward, draw_forward, check_stream, kept=("module",)),
    Target("step", step, draw_step, check_stream, kept=("module",)),
    Target("synchrony", picture, draw_forward, kept=("module",)),
    Target(
        "feedforward", fed,
        lambda dice: {"module": built(dice.choice(FEEDFORWARDS)), "x": stream(dice)},
        kept=("module",),
    ),
]  # fmt: skip


def draw_loss(dice):
    b, h, n = 2, 2, dice.size()
    return {
        "frequency": dice.normal(b, h, n, 3, dtype=dice.dtype),
        "coupling_strength": dice.positive(h),
        "coupling_decay": dice.positive(h),
        "target_locked_fraction": dice.choice((0.3, [0.2, 0.4])),
        **dice.some(
            order_parameter=lambda: torch.rand(b, h, n), key_mask=lambda: dice.mask(b, n),
            num_pairs=lambda: dice.randint(1, 5), temperature=lambda: 0.2,
        ),
    }  # fmt: skip


def heads(dice):
    return {"hidden_size": 8, "num_heads": 2}


def constructor(name, draw):
    def build(**arguments):
        """Builds the module and gives nothing back: its weights are drawn."""
        getattr(nn, name)(**arguments)

    return Target(name, build, draw)


CONSTRUCTORS = [
    constructor("SelectiveSynchronization", lambda dice: heads(dice) | dice.some(
        frequency_dim=lambda: 3, frequency_gain=lambda: 0.1, target_locked_fraction=lambda: 0.2,
        position=lambda: dice.choice(("coordinate", "drift", "learned")), max_positions=lambda: 9,
        bias=lambda: True, per_head_coupling=lambda: False, dropout=lambda: 0.1,
        position_window=lambda: (4.0, 9.0), variant=lambda: "paper", top_k=lambda: 2,
        smoothing=lambda: 0.1, backend=lambda: "blockwise")),
    constructor("OscillatorAttention", lambda dice: heads(dice) | {"max_positions": 9} | dice.some(
        oscillator_dim=lambda: 3, anchors=lambda: dice.choice(("unit", "free", "content")),
        coupling=lambda: "relu", mode=lambda: "settle(1)", readout_power=lambda: 2,
        readout_gain=lambda: None, coupling_bias=lambda: -1.0, rotary_base=lambda: None,
        bias=lambda: True, variant=lambda: "paper", row_gain=lambda: True)),
    constructor("KuramotoAttention", lambda dice: heads(dice) | dice.some(
        step_size=lambda: 0.5, coupled=lambda: 1.0, gate=lambda: dice.choice(("query", "static")),
        drift_base=lambda: None, exclude_self=lambda: False, sink=lambda: "learned")),
    constructor("FrustratedSynchronization", lambda dice: heads(dice) | dice.some(
        num_harmonics=lambda: 1, num_delays=lambda: 3, delay_only=lambda: True,
        repulsion=lambda: False, per_coordinate=lambda: False, frustration=lambda: False,
        step_size=lambda: 0.5, coupled=lambda: 0.2, sink=lambda: "fixed")),
    constructor("SoftmaxAttention", lambda dice: heads(dice) | dice.some(
        rotary_base=lambda: None, bias=lambda: True)),
    constructor("CouplingKernel", lambda dice: {"num_heads": 2, "num_delays": 2,
                                                "num_harmonics": 2} | dice.some(
        width=lambda: 3, amplitude=lambda: 0.5, coupled=lambda: 0.5,
        learn_frustration=lambda: False, delay_only=lambda: True, repulsion=lambda: False)),
    constructor("SwiGLU", lambda dice: {"hidden_size": 4, "intermediate_size": 6}),
    constructor("PhaseSwiGLU", lambda dice: {"hidden_size": 4, "intermediate_size": 6}),
    constructor("MeanFieldCoupling", lambda dice: {"hidden_size": 4, "intermediate_size": 6}
                | dice.some(gated=lambda: False)),
    constructor("OscillatorySynchronizationBlock", lambda dice: heads(dice) | dice.some(
        intermediate_size=lambda: 6, dropout=lambda: 0.0, variant=lambda: "paper")),
    constructor("OscillatorySynchronizationNetwork", lambda dice: heads(dice) | {
        "vocab_size": 5, "num_hidden_layers": 1} | dice.some(dropout=lambda: 0.0)),
    constructor("EuclideanBlock", lambda dice: {
        "attention": torch_nn.Identity(), "feedforward": None, "hidden_size": 4, "eps": 1e-6}),
    constructor("PhaseFeatures", lambda dice: {"hidden_size": 4} | dice.some(
        features=lambda: "cosine-sine")),
    constructor("PhaseBlock", lambda dice: {
        "attention": torch_nn.Identity(), "feedforward": None}),
    Target("locking_loss", nn.locking_loss, draw_loss),
    Target("read_author_state_dict", nn.read_author_state_dict,
           lambda dice: {"path": "missing.pt"}),
]  # fmt: skip


@budget(0.08)
@given(case=cases(CALLS))
def test_what_modules_are_given(case):
    with torch.no_grad():
        obeys(*case)


@budget(0.05)
@given(case=cases(CONSTRUCTORS))
def test_what_modules_are_built_of(case):
    obeys(*case)


def test_no_public_name_is_left_out():
    values = {"Coefficient", "OscillatorCouplings", "Synchrony"}
    assert {target.name for target in CONSTRUCTORS} | values == set(nn.__all__)
