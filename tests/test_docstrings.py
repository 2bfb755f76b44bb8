"""Examples in docstrings print what they say, and the pages of all docstrings build."""

import doctest
import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
WITH_EXAMPLES = [
    path for path in sorted(SOURCE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")
]


def module_name(path):
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=module_name)
def test_every_example_prints_what_it_says(path):
    module = importlib.import_module(module_name(path))
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert found.attempted, "the examples are in no docstring"
    assert found.failed == 0


@pytest.mark.slow
def test_the_pages_build_without_a_warning(tmp_path):
    for package in ("sphinx", "furo", "myst_parser"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed: make docs installs it")
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-d",
         str(tmp_path / "doctrees"), str(ROOT / "docs"), str(tmp_path / "html")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert build.returncode == 0, build.stderr
    index = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert "synchronization.svg" in index
    shelf = (tmp_path / "html" / "api" / "index.html").read_text(encoding="utf-8")
    assert "context_<wbr>parallel_<wbr>selective_<wbr>synchronization</a>" in shelf
    theory = (tmp_path / "html" / "theory" / "selective_synchronization.html").read_text("utf-8")
    assert "<math" in theory
    assert 'id="ss-7"' in theory
    # Nothing is asked of the network when a page is read.
    assert 'src="http' not in index + theory
