"""The physics: oscillators in time, devices made of them, and what they cost."""

from syncattn.simulation.costs import SPLITS, CostReport, Workload, operation_counts
from syncattn.simulation.device_layers import (
    DeviceRun,
    LayerStatistics,
    on_device,
    oscillator_layers,
)
from syncattn.simulation.device_noise import von_mises_fisher
from syncattn.simulation.device_prices import EnergyReport, Price, break_even, cost_table, energy
from syncattn.simulation.device_settling import (
    SettlingPoint,
    bits_per_token,
    model_diagnostics,
    settling_curve,
    settling_summary,
)
from syncattn.simulation.devices import Device
from syncattn.simulation.export import (
    Network,
    export_network,
    read_network,
    write_network_csv,
    write_network_json,
)
from syncattn.simulation.integrate import integrate
from syncattn.simulation.populations import (
    DENSITIES,
    FrequencyDensity,
    Gaussian,
    Lorentzian,
    Uniform,
    random_rotation,
)
from syncattn.simulation.solution import Solution, Statistics, locked_fraction
from syncattn.simulation.solvers import (
    RK4,
    Euler,
    EulerMaruyama,
    Heun,
    Solver,
    StochasticHeun,
)
from syncattn.simulation.systems import PhaseSystem, SphereSystem, System
from syncattn.simulation.systems_kuramoto import (
    Daido,
    Kuramoto,
    SakaguchiKuramoto,
    SecondHarmonicInjection,
)
from syncattn.simulation.systems_sphere import DrivenLohe, Lohe, plane_rotation
from syncattn.simulation.systems_star import DrivenPhases
from syncattn.simulation.theory import (
    astroid_is_bistable,
    critical_coupling,
    frustrated_rotation,
    locked_phase_difference,
    lorentzian_order_parameter,
    self_consistent_order_parameter,
)
from syncattn.simulation.theory_sphere import (
    driven_flow,
    half_angle,
    lohe_equilibrium,
    odd_dimension_order_parameter,
    von_mises_fisher_mean,
)
from syncattn.simulation.transition import Transition, synchronization_transition

__all__ = [
    "DENSITIES",
    "RK4",
    "SPLITS",
    "CostReport",
    "Daido",
    "Device",
    "DeviceRun",
    "DrivenLohe",
    "DrivenPhases",
    "EnergyReport",
    "Euler",
    "EulerMaruyama",
    "FrequencyDensity",
    "Gaussian",
    "Heun",
    "Kuramoto",
    "LayerStatistics",
    "Lohe",
    "Lorentzian",
    "Network",
    "PhaseSystem",
    "Price",
    "SakaguchiKuramoto",
    "SecondHarmonicInjection",
    "SettlingPoint",
    "Solution",
    "Solver",
    "SphereSystem",
    "Statistics",
    "StochasticHeun",
    "System",
    "Transition",
    "Uniform",
    "Workload",
    "astroid_is_bistable",
    "bits_per_token",
    "break_even",
    "cost_table",
    "critical_coupling",
    "driven_flow",
    "energy",
    "export_network",
    "frustrated_rotation",
    "half_angle",
    "integrate",
    "locked_fraction",
    "locked_phase_difference",
    "lohe_equilibrium",
    "lorentzian_order_parameter",
    "model_diagnostics",
    "odd_dimension_order_parameter",
    "on_device",
    "operation_counts",
    "oscillator_layers",
    "plane_rotation",
    "random_rotation",
    "read_network",
    "self_consistent_order_parameter",
    "settling_curve",
    "settling_summary",
    "synchronization_transition",
    "von_mises_fisher",
    "von_mises_fisher_mean",
    "write_network_csv",
    "write_network_json",
]
