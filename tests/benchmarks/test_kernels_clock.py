import math

import pytest
import torch

from syncattn.benchmarks import kernels_clock
from syncattn.benchmarks.kernels_clock import measure_machine, peak_bytes, shortest_times

CPU = torch.device("cpu")


def test_calls_run_in_turn_and_the_first_turn_does_not_count():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    times = shortest_times(calls, CPU, 2)
    assert order == ["a", "b"] * 3
    assert all(0 <= seconds < 1 for seconds in times.values())


def test_the_shortest_time_is_kept(monkeypatch):
    seconds = iter([1.0, 5.0, 3.0, 4.0])
    monkeypatch.setattr(kernels_clock, "_seconds", lambda call, device: next(seconds))
    assert shortest_times({"a": lambda: None}, CPU, 3) == {"a": 3.0}


@pytest.mark.parametrize(("seconds", "counts"), [(1e-3, [1, 10]), (1e-6, [1, 50]), (0.02, [1])])
def test_short_calls_on_a_device_are_timed_in_a_row(monkeypatch, seconds, counts):
    seen = []

    def timed(call, device, count):
        seen.append(count)
        return seconds / count

    monkeypatch.setattr(kernels_clock, "_device_seconds", timed)
    found = kernels_clock._seconds(lambda: None, torch.device("cuda"))
    assert seen == counts
    assert found == seconds / counts[-1]


def test_memory_is_what_a_call_raises():
    size = 64 * 2**20
    found = peak_bytes(lambda: torch.ones(size // 4), CPU)
    assert math.isnan(found) or found > 0.5 * size


def test_the_machine_is_measured_with_the_dtype_of_the_product(monkeypatch):
    monkeypatch.setattr(kernels_clock, "_COPY_BYTES", {"cpu": 1 << 16})
    monkeypatch.setattr(kernels_clock, "_MATRIX_SIDE", {"cpu": 16})
    monkeypatch.setattr(kernels_clock, "shortest_times", lambda *_: {"copy": 0.5, "product": 0.25})
    machine = measure_machine(CPU, torch.bfloat16)
    assert machine.copy_bandwidth == 2 * 2**16 / 0.5
    assert machine.matrix_rate == 2 * 16**3 / 0.25
    assert machine.dtype == "bfloat16"
