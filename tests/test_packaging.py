"""The package as somebody else gets it: built, installed into an empty environment, imported."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DATA = sorted(
    path.relative_to(ROOT / "src").as_posix()
    for path in (ROOT / "src").rglob("*")
    if path.is_file()
    and path.suffix not in {".py", ".pyc", ".so"}
    and "__pycache__" not in path.parts
)
VERSIONS = ("3.11", "3.12", "3.13")

pytestmark = pytest.mark.slow


def run(*command, **options):
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        timeout=3000,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs(tool):
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed; pip install {tool}")


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Wheel and source archive, built from a copy so that no build folder is left here."""
    needs("build")
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="session", params=VERSIONS)
def clean(request, built, tmp_path_factory):
    """The interpreter of an environment that holds the wheel and its core requirements alone."""
    python = shutil.which(f"python{request.param}")
    if (
        python is None
        or subprocess.run([python, "-V"], capture_output=True, check=False).returncode
    ):
        pytest.skip(f"Python {request.param} is not installed here")
    folder = tmp_path_factory.mktemp("clean") / "environment"
    run(python, "-m", "venv", folder)
    inside = folder / "bin" / "python"
    # Compiling all of torch would take longer than unpacking it.
    install = (inside, "-m", "pip", "install", "--quiet", "--no-compile",
               "-c", ROOT / "constraints.txt")  # fmt: skip
    run(*install, "torch")
    run(*install, built[0])
    return inside


def test_wheel_and_archive_hold_every_file(built):
    wheel, archive = built
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    with zipfile.ZipFile(wheel) as held:
        names = set(held.namelist())
    assert {"syncattn/py.typed", "syncattn/kernels/pairwise.c"} <= set(DATA)
    assert modules | set(DATA) <= names
    assert all(name.startswith("syncattn") for name in names)
    with tarfile.open(archive) as held:
        names = {name.split("/", 1)[1] for name in held.getnames() if "/" in name}
    assert {f"src/{name}" for name in modules | set(DATA)} <= names
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"} <= names
    # What the tests of the tree read is there too.
    assert {".github/workflows/checks.yml", ".pre-commit-config.yaml", ".coveragerc"} <= names


def test_the_metadata_is_sound(built):
    needs("twine")
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", *built)


def test_the_core_installs_and_imports_alone(clean):
    code = (
        "import json, sys, time, importlib.metadata as meta\n"
        "begin = time.perf_counter()\n"
        "import syncattn\n"
        "alone = time.perf_counter()\n"
        "import torch\n"
        "torch_too = time.perf_counter()\n"
        "syncattn.functional, syncattn.nn\n"
        "print(json.dumps({'alone': alone - begin, 'torch': torch_too - alone,\n"
        "  'operators': time.perf_counter() - torch_too,\n"
        "  'version': syncattn.__version__, 'file': syncattn.__file__,\n"
        "  'packages': sorted(d.name for d in meta.distributions())}))"
    )
    found = json.loads(run(clean, "-c", code).splitlines()[-1])
    seconds = {name: round(found[name], 2) for name in ("alone", "torch", "operators")}
    print(f"seconds of import syncattn, then torch, then operators and modules: {seconds}")
    assert found["version"] == PROJECT["version"] and "site-packages" in found["file"]
    assert not {"transformers", "numpy", "tyro"} & set(found["packages"])
    assert (Path(found["file"]).parent / "py.typed").exists()
    example = (
        "import torch, syncattn\n"
        "x = torch.randn(1, 4, 8)\n"
        "print(tuple(syncattn.SelectiveSynchronization(8, 2)(x, is_causal=True).shape))"
    )
    assert run(clean, "-c", example).splitlines()[-1] == "(1, 4, 8)"


def test_the_command_says_what_it_needs(clean):
    command = clean.parent / "syncattn"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'syncattn[all]'" in done.stderr


@pytest.mark.parametrize("extra", sorted(PROJECT["optional-dependencies"]))
def test_every_extra_resolves(built, extra):
    out = run(
        sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed",
        "-c", ROOT / "constraints.txt", f"{built[0]}[{extra}]",
        env=os.environ | {"PIP_NO_INPUT": "1"},
    )  # fmt: skip
    assert re.search(r"Would install .*syncattn", out)
