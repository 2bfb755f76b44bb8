"""All that needs a CUDA device: the Triton tests on it, then the kernels timed.

    python benchmarks/gpu_check.py [--only tests|times] [--output runs/gpu] [--seconds 540]

Quick tests first, then slow ones, for at most half of the time together if both parts run: what
fails is told even if time runs out, and does not keep the measurement from running. Where calls are
cut at ten minutes, `--only tests` and `--only times` in two of them see more. Lengths of 4,096 to
32,768 tokens, heads of 64 and then 128, bfloat16; kernels.json and kernels.md grow as it goes. The
package is found beside this file if it is not installed; tests need pytest and hypothesis. Exit
code 1 if a test failed or there is no device.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PATHS = (str(ROOT / "src"), str(ROOT), str(Path(__file__).parent))
TESTS = (
    "tests/kernels/test_triton_availability.py",
    "tests/kernels/test_pairwise_operator_triton.py",
    "tests/kernels/test_pairwise_launch_triton.py",
    "tests/kernels/test_selective_synchronization_triton.py",
    "tests/kernels/test_oscillator_attention_triton.py",
    "tests/kernels/test_frustrated_synchronization_triton.py",
    "tests/benchmarks/test_kernels_problem.py",
)
MOST_WORKERS = 16
LEAST_SECONDS = 20.0


def run(command: list[str], seconds: float) -> int:
    """Runs a command in the root of the repository and returns its exit code, 124 if too slow."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    path = os.pathsep.join(filter(None, (*PATHS, environment.get("PYTHONPATH"))))
    print("$ " + " ".join(command), flush=True)
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment | {"PYTHONPATH": path}, start_new_session=True
    )
    try:
        return process.wait(max(1.0, seconds))
    except subprocess.TimeoutExpired:
        print(f"stopped after {seconds:.0f} s", flush=True)
    try:
        process.send_signal(signal.SIGINT)
        process.wait(10.0)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Workers left behind would share the device with what is timed next.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()
    return 124


def pytest_runtest_logreport(report: Any) -> None:
    """Tells of a failure at once: time may run out before pytest sums up."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\n{report.nodeid}\n{report.longreprtext[-1500:]}", file=sys.stderr, flush=True)


def tests(seconds: float) -> int:
    """Runs the Triton tests on the device, slow ones last."""
    options = ["-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "gpu_check",
               "-q", "--tb=no", "--durations=5"]  # fmt: skip
    # Without the hook that checks shapes: it wraps kernels too, whose names are then not found.
    if importlib.util.find_spec("xdist"):
        options += ["-n", str(min(MOST_WORKERS, os.cpu_count() or 1))]
    started, failed = time.monotonic(), 0
    for marks in ("not slow and not network", "slow and not network"):
        left = seconds - (time.monotonic() - started)
        if left < LEAST_SECONDS:
            print(f"{left:.0f} s are left, too few for the tests: {marks}", flush=True)
            return failed or 124
        command = [sys.executable, "-m", "pytest", *options, "-m", marks, *TESTS]
        failed = run(command, left) or failed
    return failed


def measure(output: Path, head_dim: int, heads: int, seconds: float) -> int:
    """Times every operator and backend at one width of a head."""
    code = (
        "from pathlib import Path; "
        "from syncattn.benchmarks.kernels import KernelsConfig, run_kernels; "
        f"run_kernels(KernelsConfig(head_dim={head_dim}, heads={heads}, device='cuda', "
        f"seconds={seconds:.0f}, output=Path({str(output)!r})))"
    )
    table = ROOT / output / "kernels.md"
    # What an earlier run has left would be taken for what this one has measured.
    table.unlink(missing_ok=True)
    failed = run([sys.executable, "-c", code], seconds + 60)
    if table.exists():
        print(table.read_text(encoding="utf-8"), flush=True)
    return failed


def main() -> int:
    """Runs everything and returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--only", choices=("tests", "times"))
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("There must be a CUDA device; there is none. Nothing was run.", file=sys.stderr)
        return 1
    started = time.monotonic()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    failed = 0
    if options.only != "times":
        failed = tests(options.seconds / (1 if options.only == "tests" else 2))
    if options.only != "tests":
        for head_dim, heads, share in ((64, 16, 0.5), (128, 8, 1.0)):
            left = options.seconds - (time.monotonic() - started)
            folder = options.output / f"head{head_dim}"
            failed = measure(folder, head_dim, heads, share * left - 30) or failed
    print(f"tests and measurements took {time.monotonic() - started:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
