"""All that needs a CUDA device in one call: the Triton tests on it, then the kernels timed.

    python benchmarks/gpu_check.py [--output runs/gpu] [--seconds 540]

The tests run first, for at most half of the time: a failure is reported and does not keep the
measurement from running. Lengths of 4,096 to 32,768 tokens, heads of 64 and then 128, bfloat16. The
package is found beside this file if it is not installed; tests need pytest and jaxtyping, with
beartype the shapes are checked too. Exit code 1 if a test failed or there is no device.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = str(ROOT / "src")
TESTS = (
    "tests/kernels/test_pairwise_operator_triton.py",
    "tests/kernels/test_pairwise_launch_triton.py",
    "tests/kernels/test_selective_synchronization_triton.py",
    "tests/kernels/test_oscillator_attention_triton.py",
    "tests/kernels/test_frustrated_synchronization_triton.py",
)


def run(command: list[str], seconds: float) -> int:
    """Runs a command in the root of the repository and returns its exit code, 124 if too slow."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    path = os.pathsep.join(filter(None, (SOURCE, str(ROOT), environment.get("PYTHONPATH"))))
    print("$ " + " ".join(command), flush=True)
    try:
        return subprocess.run(
            command, cwd=ROOT, env=environment | {"PYTHONPATH": path}, timeout=max(1.0, seconds),
            check=False,
        ).returncode  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"stopped after {seconds:.0f} s", flush=True)
        return 124


def tests(seconds: float) -> int:
    """Runs the Triton tests on the device, slow ones included."""
    options = [
        "-o",
        "addopts=",
        "-p",
        "no:cacheprovider",
        "-q",
        "--durations=5",
        "-m",
        "not network",
    ]
    if importlib.util.find_spec("beartype") and importlib.util.find_spec("jaxtyping"):
        options.append("--jaxtyping-packages=syncattn,beartype.beartype")
    if importlib.util.find_spec("xdist"):
        options += ["-n", "8"]
    return run([sys.executable, "-m", "pytest", *options, *TESTS], seconds)


def measure(output: Path, head_dim: int, heads: int, seconds: float) -> int:
    """Times every operator and backend at one width of a head."""
    code = (
        "from pathlib import Path; "
        "from syncattn.benchmarks.kernels import KernelsConfig, run_kernels; "
        f"run_kernels(KernelsConfig(head_dim={head_dim}, heads={heads}, device='cuda', "
        f"seconds={seconds:.0f}, output=Path({str(output)!r}))); "
        f"print(Path({str(output)!r}, 'kernels.md').read_text())"
    )
    return run([sys.executable, "-c", code], seconds + 60)


def main() -> int:
    """Runs everything and returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--skip-tests", action="store_true")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("There must be a CUDA device; there is none. Nothing was run.", file=sys.stderr)
        return 1
    started = time.monotonic()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    failed = 0 if options.skip_tests else tests(options.seconds / 2)
    for head_dim, heads, share in ((64, 16, 0.5), (128, 8, 1.0)):
        left = options.seconds - (time.monotonic() - started)
        code = measure(options.output / f"head{head_dim}", head_dim, heads, share * left - 30)
        failed = failed or code
    print(f"tests and measurements took {time.monotonic() - started:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
