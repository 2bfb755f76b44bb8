"""Time of a step over the number of oscillators: the mean field costs O(N), a matrix O(N²).

    python benchmarks/simulation_speed.py [--largest 1000000] [--seconds 1.0]

Prints nanoseconds per oscillator and step of RK4 in float64; a flat column is linear cost.
"""

from __future__ import annotations

import argparse
import time

import torch

from syncattn.benchmarks import environment
from syncattn.simulation import RK4, Kuramoto, Lohe, Lorentzian, System


def nanoseconds(system: System, number: int, seconds: float) -> float:
    """Returns the time of a step per oscillator, the best of the repetitions that fit."""
    solver, state = RK4(), system.random_state()
    state = solver.advance(system, state, 0.0, 0.01)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        state = solver.advance(system, state, 0.0, 0.01)
        best = min(best, time.perf_counter() - start)
    return best / number * 1e9


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=1_000_000)
    parser.add_argument("--largest-matrix", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    print(environment("cpu"))
    print(f"{'oscillators':>12} {'mean field':>12} {'matrix':>12} {'Lohe, m = 3':>12}")
    number = 1000
    while number <= arguments.largest:
        omega = Lorentzian(0.5).quantiles(number)
        row = [Kuramoto(omega, coupling_strength=2.0), None, None]
        if number <= arguments.largest_matrix:
            coupling = torch.full((number, number), 1 / number, dtype=torch.float64)
            row[1] = Kuramoto(omega, coupling_strength=2.0, coupling=coupling)
        row[2] = Lohe(omega[:, None], 3, coupling_strength=2.0)
        cells = [
            f"{nanoseconds(system, number, arguments.seconds):>12.1f}" if system else f"{'':>12}"
            for system in row
        ]
        print(f"{number:>12}", *cells)
        number *= 2 if number < 4000 else 4


if __name__ == "__main__":
    main()
