from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from syncattn.benchmarks.environment import commit, device_description, environment

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is absent")


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    command = ("git", "-C", str(folder), *identity, *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout" / "src" / "syncattn"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("one = 1\n")
    git(tmp_path / "checkout", "init", "--quiet")
    return folder


def committed(package: Path) -> str:
    git(package, "add", ".")
    git(package, "commit", "--quiet", "--no-verify", "-m", "one")
    return git(package, "rev-parse", "HEAD")


@needs_git
def test_the_commit_of_the_checkout(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit(package) is None
    head = committed(package)
    assert commit(package) == head
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert commit(package) == head


@needs_git
def test_a_changed_file_is_told(package: Path) -> None:
    head = committed(package)
    (package / "new.py").write_text("untracked = True\n")
    assert commit(package) == head
    (package / "__init__.py").write_text("two = 2\n")
    assert commit(package) == f"{head}-dirty"


@needs_git
def test_somebody_elses_checkout_is_not_ours(package: Path) -> None:
    committed(package)
    installed = package.parents[1] / ".venv" / "site-packages" / "syncattn"
    installed.mkdir(parents=True)
    assert commit(installed) is None


@needs_git
def test_nothing_fails_without_git(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed(package)
    monkeypatch.setenv("PATH", "")
    assert commit(package) is None
    assert commit(package / "absent") is None


def test_the_environment_names_versions_and_device() -> None:
    found = environment("cpu")
    assert set(found) == {"versions", "device", "commit"}
    assert set(found["versions"]) == {"syncattn", "torch", "transformers", "python"}
    assert found["versions"]["torch"] == torch.__version__
    assert found["device"].startswith("cpu (")
    assert found["commit"] is None or len(found["commit"].removesuffix("-dirty")) in (40, 64)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "mps", "cuda:99", None])
def test_every_device_has_a_description(device: torch.device | str | None) -> None:
    kind = "" if device is None else str(device).split(":")[0]
    assert device_description(device).startswith(kind)
