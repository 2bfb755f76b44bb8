"""The floor of the physics: systems, solvers, theory, devices, costs."""

import functools
from pathlib import Path

import torch
from hypothesis import given

from syncattn import nn
from syncattn import simulation as sim
from syncattn.simulation import sensitivity
from tests.fuzz.law import budget, obeys
from tests.fuzz.strategies import Target, cases

SOLVERS = (sim.Euler, sim.Heun, sim.RK4, sim.EulerMaruyama, sim.StochasticHeun)


@functools.cache
def layer():
    torch.manual_seed(0)
    return nn.OscillatorAttention(8, 2, max_positions=8, oscillator_dim=3).eval()


def made(dice, name):
    """Returns right arguments of a system of a few oscillators."""
    n, dtype = dice.size(4), dice.choice((torch.float32, torch.float64))
    omega = dice.normal(n, dtype=dtype)
    drawn = {
        "Kuramoto": {"natural_frequency": omega, "coupling_strength": 1.5},
        "SakaguchiKuramoto": {"natural_frequency": omega, "coupling_strength": 1.5,
                              "frustration": 0.3},
        "Daido": {"natural_frequency": omega, "coupling_strength": 1.0,
                  "harmonic_amplitude": (1.0, 0.5), "frustration": (0.1, 0.2)},
        "SecondHarmonicInjection": {"natural_frequency": omega, "coupling_strength": 1.0,
                                    "injection_strength": 0.5},
        "Lohe": {"natural_frequency": sim.random_rotation(max(n, 1), 3, width=1.0), "dim": 3,
                 "coupling_strength": 1.0},
        "DrivenLohe": {"drive": dice.normal(n, 3, dtype=dtype)},
        "DrivenPhases": {"drive_strength": dice.positive(n, dtype=dtype),
                         "drive_phase": dice.normal(n, dtype=dtype)},
    }[name]  # fmt: skip
    if dice.maybe(0.2):
        drawn["noise_intensity"] = 0.1
    return drawn


SYSTEMS = ("Kuramoto", "SakaguchiKuramoto", "Daido", "SecondHarmonicInjection", "Lohe",
           "DrivenLohe", "DrivenPhases")  # fmt: skip


def built(name):
    def build(**arguments):
        """Builds a system and asks it everything, at a random state."""
        system = getattr(sim, name)(**arguments)
        state = system.random_state(generator=torch.Generator().manual_seed(0))
        system.check_state(state)
        return (system.drift(state, 0.0), system.residual(state), system.order_parameter(state),
                system.energy(state), system.project(state), system.fastest_rate())  # fmt: skip

    return Target(name, build, lambda dice: made(dice, name),
                  may_be_nan=lambda arguments: has_no_oscillator(arguments))  # fmt: skip


def has_no_oscillator(arguments):
    """The mean over no oscillators is NaN."""
    return any(isinstance(x, torch.Tensor) and not x.numel() for x in arguments.values())


def draw_integrate(dice):
    system = sim.Kuramoto(dice.normal(3, dtype=torch.float64), coupling_strength=1.0,
                          noise_intensity=dice.choice((0.0, 0.0, 0.1)))  # fmt: skip
    solver = dice.choice(SOLVERS)()
    drawn = {"system": system, "solver": solver, "step": 0.1,
             "state": system.random_state(generator=dice.generator)}  # fmt: skip
    if dice.maybe():
        drawn["times"] = [0.0, 0.2, 0.3]
    else:
        drawn["duration"] = 0.5
    return drawn | dice.some(
        save_every=lambda: 2, keep_trajectory=lambda: False, stationary=lambda: 0.2,
        generator=lambda: dice.generator, throw=lambda: True,
    )  # fmt: skip


def draw_transition(dice):
    omega = dice.normal(3, dtype=torch.float64)
    return {
        "system": lambda K: sim.Kuramoto(omega, coupling_strength=K),
        "coupling_strength": dice.positive(2, dtype=torch.float64),
        "duration": 1.0, "step": 0.1, **dice.some(start=lambda: "synchronized"),
    }  # fmt: skip


def density(dice):
    return dice.choice((sim.Lorentzian, sim.Gaussian, sim.Uniform))(0.5)


def draw_workload(dice):
    return {"length": 8, "num_heads": 2, "oscillator_dim": 3} | dice.some(
        is_causal=lambda: True, coupling=lambda: "relu", head_dim=lambda: 4,
        hidden_size=lambda: 8, num_readout_samples=lambda: 2, settling_time=lambda: 1.0,
        num_layers=lambda: 3,
    )  # fmt: skip


def draw_device(dice):
    return dice.some(
        coupling_mismatch=lambda: 0.1, coupling_bits=lambda: 4, coupling_range=lambda: "layer",
        anchor_phase_error=lambda: 0.1, natural_frequency_spread=lambda: 0.1,
        phase_lag=lambda: 0.1, second_harmonic=lambda: 0.1, thermal_noise=lambda: 0.1,
        num_readout_samples=lambda: 2, read_noise=lambda: 0.1, readout=lambda: "cosine",
        converter_bits=lambda: 4, settling_time=lambda: 2.0, gain_control=lambda: True,
    )  # fmt: skip


def rotation(dice, *batch):
    x = dice.normal(*batch, 3, 3)
    return x - x.mT


def on_device(*, hidden_states, **device):
    """Runs a layer once on a device of these imperfections."""
    with sim.on_device(layer(), sim.Device(**device), seed=0):
        return layer()(hidden_states)


WORKLOAD = sim.Workload(8, 2, 3)
PRICES = {"adc": sim.Price(1e-12, "J", "a data sheet")}
TARGETS = [
    *map(built, SYSTEMS),
    Target("integrate", lambda **a: sim.integrate(**a).final_state, draw_integrate,
           kept=("system", "solver")),
    Target("synchronization_transition",
           lambda **a: sim.synchronization_transition(**a).order_parameter, draw_transition,
           kept=("system",)),
    *(Target(kind.__name__, lambda kind=kind, **a: kind(**a).quantiles(3),
             lambda dice: {"width": 0.5, "center": 1.0})
      for kind in (sim.Lorentzian, sim.Gaussian, sim.Uniform)),
    *(Target(kind.__name__, kind, lambda dice: {"projected": False}) for kind in SOLVERS),
    Target("astroid_is_bistable", sim.astroid_is_bistable, lambda dice: {
        "drive_strength": dice.positive(4), "phase_difference": dice.normal(4),
        "injection_strength": dice.positive(1)}),
    Target("critical_coupling", sim.critical_coupling, lambda dice: {
        "density": density(dice), **dice.some(noise_intensity=lambda: 0.1,
                                              frustration=lambda: 0.2)}),
    Target("driven_flow", sim.driven_flow, lambda dice: {
        "state": dice.unit(dice.size(), 3), "drive": dice.normal(1, 3), "time": 0.7}),
    Target("frustrated_rotation", sim.frustrated_rotation, lambda dice: {
        "natural_frequency": 1.0, "coupling_strength": 2.0, "frustration": 0.1}),
    Target("half_angle", sim.half_angle, lambda dice: {
        "angle": dice.positive(3), "strength": dice.positive(3), "time": 1.0}),
    Target("locked_fraction", sim.locked_fraction, lambda dice: {
        "rotation_number": dice.normal(dice.size()), "resolution": 0.1},
        may_be_nan=has_no_oscillator),
    Target("locked_phase_difference", sim.locked_phase_difference, lambda dice: {
        "detuning": dice.normal(3), "coupling_strength": 1.0},
        may_be_nan=lambda arguments: True),
    Target("lohe_equilibrium", sim.lohe_equilibrium, lambda dice: {
        "drive": dice.normal(2, 3), "natural_frequency": rotation(dice)},
        may_be_nan=lambda arguments: True),
    Target("lorentzian_order_parameter", sim.lorentzian_order_parameter, lambda dice: {
        "coupling_strength": dice.positive(3), "width": 0.5,
        **dice.some(frustration=lambda: 0.2)}),
    Target("odd_dimension_order_parameter", sim.odd_dimension_order_parameter, lambda dice: {
        "coupling_strength": dice.positive(2), "natural_frequency": rotation(dice, 3)},
        may_be_nan=lambda arguments: True),
    Target("plane_rotation", sim.plane_rotation, lambda dice: {
        "frequency": dice.normal(dice.size(3), 1), "dim": 3}),
    Target("random_rotation", sim.random_rotation, lambda dice: {
        "number": 2, "dim": 3, "width": 1.0}),
    Target("self_consistent_order_parameter", sim.self_consistent_order_parameter, lambda dice: {
        "coupling_strength": dice.positive(2), "density": density(dice)}),
    Target("von_mises_fisher", sim.von_mises_fisher, lambda dice: {
        "direction": dice.unit(dice.size(), 3), "concentration": dice.positive(1),
        "generator": dice.generator}, kept=("generator",)),
    Target("von_mises_fisher_mean", sim.von_mises_fisher_mean, lambda dice: {
        "dim": 3, "concentration": dice.positive(dice.size())}),
    Target("Device", on_device, lambda dice: draw_device(dice) | {
        "hidden_states": dice.normal(1, dice.randint(1, 4), 8)}),
    Target("Workload", lambda **a: sim.operation_counts(sim.Workload(**a), sim.SPLITS[0]),
           draw_workload),
    Target("operation_counts", sim.operation_counts, lambda dice: {
        "workload": WORKLOAD, "split": dice.choice(sim.SPLITS)}),
    Target("cost_table", sim.cost_table, lambda dice: {"workload": WORKLOAD}),
    Target("Price", sim.Price, lambda dice: {"value": 1.0, "unit": "J", "source": "a paper"}),
    Target("energy", sim.energy, lambda dice: {
        "report": sim.operation_counts(WORKLOAD, sim.SPLITS[2]), "prices": PRICES}),
    Target("break_even", sim.break_even, lambda dice: {
        "workload": WORKLOAD, "split": sim.SPLITS[2], "prices": PRICES}),
    Target("export_network", sim.export_network, lambda dice: {
        "layer": layer(), "hidden_states": dice.normal(1, dice.randint(1, 3), 8),
        **dice.some(bits=lambda: 4, is_causal=lambda: True)}),
    Target("oscillator_layers", sim.oscillator_layers, lambda dice: {"model": layer()}),
    Target("read_network", sim.read_network, lambda dice: {"path": Path("missing.json")}),
]  # fmt: skip


def coupled(dice, **more):
    batch, heads, queries, keys, dim = (dice.size(3) for _ in range(5))
    dtype = dice.dtype
    return {"coupling": dice.positive(batch, heads, queries, keys, dtype=dtype),
            "anchor": dice.normal(1, keys, max(dim, 1), dtype=dtype)} | more  # fmt: skip


def rate(dice):
    return dice.positive(dice.size(), dtype=dice.dtype)


SENSITIVITY = [
    Target("coupling_mismatch_angle", sensitivity.coupling_mismatch_angle,
           lambda dice: coupled(dice, mismatch=0.1)),
    Target("coupling_quantisation_angle", sensitivity.coupling_quantisation_angle,
           lambda dice: coupled(dice, bits=4, full_scale=dice.choice(("row", "layer", 2.0)))),
    Target("anchor_error_angle", sensitivity.anchor_error_angle,
           lambda dice: coupled(dice, error=0.1)),
    Target("detuning_angle", sensitivity.detuning_angle, lambda dice: {
        "frequency": dice.normal(3), "rate": dice.positive(3)},
        may_be_nan=lambda arguments: True),
    Target("detuning_spread_angle", sensitivity.detuning_spread_angle, lambda dice: {
        "rate": rate(dice), "spread": 0.1, "dim": 3}),
    Target("thermal_angle", sensitivity.thermal_angle, lambda dice: {
        "rate": rate(dice), "noise": 0.1, "dim": 3}),
    Target("read_noise_angle", sensitivity.read_noise_angle, lambda dice: {
        "noise": 0.1, "dim": 3}),
    Target("converter_angle", sensitivity.converter_angle, lambda dice: {"bits": 4, "dim": 3}),
    Target("settling_angle", sensitivity.settling_angle, lambda dice: {
        "rate": rate(dice), "time": 1.0, "dim": 3, "points": 20}),
    Target("weights_bound", sensitivity.weights_bound, lambda dice: {
        "angle": dice.positive(1, 2, 3), "state": dice.unit(1, 2, 3, 4),
        "mean_anchor": dice.normal(4, std=0.1)}),
]  # fmt: skip
TARGETS += SENSITIVITY

# These take models, folders or the values of others, and have tests of their own.
ELSEWHERE = {
    "DENSITIES", "SPLITS", "CostReport", "DeviceRun", "EnergyReport", "FrequencyDensity",
    "LayerStatistics", "Network", "PhaseSystem", "SettlingPoint", "Solution", "Solver",
    "SphereSystem", "Statistics", "System", "Transition", "bits_per_token", "model_diagnostics",
    "on_device", "settling_curve", "settling_summary", "write_network_csv", "write_network_json",
}  # fmt: skip


@budget(0.12)
@given(case=cases(TARGETS))
def test_everything(case):
    obeys(*case)


def test_no_public_name_is_left_out():
    named = {target.name for target in TARGETS if target not in SENSITIVITY}
    assert named | ELSEWHERE == set(sim.__all__)
    assert {target.name for target in SENSITIVITY} == set(sensitivity.__all__)
