"""The operator of docs/guides/add_operator.md: its files work and obey the laws."""

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import syncattn
from syncattn import cli
from syncattn.benchmarks.arms import ARMS
from tests import conformance
from tests.test_docs import commands

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guides" / "add_operator.md"


def paste(folder):
    """Writes every block of the guide to the file its first line names, below a folder."""
    text = GUIDE.read_text(encoding="utf-8")
    names = []
    for block in re.findall(r"```python\n# (\S+\.py)\n(.*?)```", text, re.DOTALL):
        path = folder / block[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block[1], encoding="utf-8")
        names.append(block[0])
    return names


def test_every_block_is_a_file():
    text = GUIDE.read_text(encoding="utf-8")
    assert len(re.findall(r"```python\n", text)) == len(re.findall(r"```python\n# \S+\.py\n", text))


@pytest.fixture
def operator(tmp_path, monkeypatch):
    """Imports the pasted files as if they stood in the package, and forgets them afterwards."""
    paste(tmp_path)
    before = set(sys.modules)
    for floor in ("reference", "functional", "nn"):
        package = import_module(f"syncattn.{floor}")
        beside = str(tmp_path / "src" / "syncattn" / floor)
        monkeypatch.setattr(package, "__path__", [*package.__path__, beside])
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    for floor in ("reference", "functional", "nn"):
        vars(getattr(syncattn, floor)).pop("phase_agreement", None)


def test_the_files_work_and_obey_the_first_laws(operator):
    tests = {"__name__": "pasted"}
    exec((operator / "tests/reference/test_phase_agreement.py").read_text(), tests)
    for name in [name for name in tests if name.startswith("test_")]:
        tests[name]()
    laws = {"__name__": "pasted"}
    exec((operator / "tests/functional/test_phase_agreement.py").read_text(), laws)
    case = laws["TestPhaseAgreement"]()
    for backend, scene in laws["OPERATOR"].runs():
        case.test_value_is_that_of_the_definition(backend, scene, torch.device("cpu"))
    case.test_padding_changes_nothing("auto", "append", torch.nan, torch.device("cpu"))
    assert issubclass(laws["TestPhaseAgreement"], conformance.Conformance)
    module = import_module("syncattn.nn.phase_agreement").PhaseAgreement(8, 2)
    assert module(torch.randn(1, 5, 8), is_causal=True).shape == (1, 5, 8)


@pytest.mark.slow
def test_the_benchmark_takes_the_arm(operator, monkeypatch):
    monkeypatch.chdir(operator)
    short = {"check": [], "run": ["--workers", "1", "--no-compiled"]}
    given = [words[1:] for words in commands(GUIDE) if words[0] == "syncattn"]
    assert [words[1] for words in given] == ["check", "run"]
    try:
        for words in given:
            assert cli.main([*words, *short[words[1]]]) == 0
    finally:
        ARMS.pop("agreement", None)
    assert "agreement" in (operator / "runs" / "agreement" / "table.md").read_text("utf-8")


@pytest.mark.slow
def test_a_clone_with_the_files_passes_its_tests(tmp_path):
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder,
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    names = [name for name in paste(tmp_path) if name.startswith("tests/")]
    assert len(names) == 3
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
