"""The examples around Transformers run and print what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def printed(name, tmp_path):
    command = [sys.executable, "-W", "ignore", ROOT / "examples" / f"{name}.py"]
    found = subprocess.run(
        command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=600
    )
    return found.stdout


@pytest.mark.slow
def test_the_harness_measures_a_model(tmp_path):
    assert printed("harness", tmp_path).splitlines()[-1] == "accuracy 1.00"


@pytest.mark.slow
def test_trainer_and_lora_learn(tmp_path):
    out = printed("trainer", tmp_path)
    assert float(re.search(r"mean loss ([\d.]+)", out)[1]) < 4.5
    assert re.search(r"^Oscillators.+", out, re.MULTILINE)
    assert float(re.search(r"with LoRA ([\d.]+)", out)[1]) < 3
