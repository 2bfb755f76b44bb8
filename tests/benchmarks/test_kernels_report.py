import pytest

from syncattn.benchmarks.kernels_clock import Machine
from syncattn.benchmarks.kernels_report import Row, exponents, table

MACHINE = Machine(2e11, 3e13, "bfloat16")


def row(length, seconds, backend="triton", **more):
    return Row(
        "selective", backend, length, 64, forward_seconds=seconds, both_seconds=3 * seconds,
        peak_bytes=5e6, equal_forward_seconds=2e-3, equal_both_seconds=8e-3,
        compute_floor_seconds=1e-3, memory_floor_seconds=5e-4, **more,
    )  # fmt: skip


def test_the_exponent_is_the_slope_of_the_logarithms():
    rows = [row(n, 1e-9 * n**2) for n in (512, 1024, 4096)] + [row(512, 1.0, "alone")]
    found = exponents(rows)
    assert set(found) == {"selective/triton"}
    assert found["selective/triton"] == pytest.approx({"forward": 2.0, "both": 2.0})


def test_the_distance_is_to_the_higher_floor():
    assert row(64, 4e-3).over_floor == pytest.approx(4.0)
    assert row(64, 4e-3)._replace(memory_floor_seconds=2e-3).over_floor == pytest.approx(2.0)
    assert Row("a", "b", 1, 1).over_floor is None


def test_the_table_holds_times_ratios_shares_and_what_was_left_out():
    rows = [
        row(1024, 4e-3, note="5.0% of pairs live"),
        Row("softmax", "flash", 1024, 64, refused="It is not there."),
        Row("softmax", "flash", 2048, 64, refused="It is not there."),
    ]
    text = table(rows, MACHINE, "cuda (H)")
    assert "| selective | triton | 1024 | 4 | 12 | 5 | 2.00 | 1.50 | 25.0% | 12.5% | 4.00 |" in text
    assert "200 GB/s and a product reaches 30 Tflop/s" in text
    assert text.count("It is not there.") == 1
    assert "softmax, flash, 1024 tokens" in text
    assert "selective: 5.0% of pairs live." in text
    assert "to the power" not in text
