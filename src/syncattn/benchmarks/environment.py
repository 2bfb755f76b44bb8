"""Where a run took place: versions, device, and the commit of the code. Never fails."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from syncattn.kernels import fused

__all__ = ["commit", "device_description", "environment"]

_PACKAGE = Path(__file__).resolve().parents[1]


def environment(device: torch.device | str | None = None) -> dict[str, Any]:
    """Returns the part of a record that describes the machine and the code.

    Args:
        device: Where the run takes place; the accelerator if there is one when None.

    Returns:
        `versions` (a package that is absent has the version "absent"), `device` and `commit`, named
        as in `Record`.
    """
    packages = ("syncattn", "torch", "transformers")
    versions = {package: _version(package) for package in packages}
    return {
        "versions": versions | {"python": platform.python_version()},
        "device": device_description(device),
        "commit": commit(),
    }


def device_description(device: torch.device | str | None = None) -> str:
    """Returns a device in words, such as "cpu (x86_64, 8 cores, 4 threads)".

    Args:
        device: The device; the accelerator if there is one when None.

    Returns:
        Its type, with what is known of it.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = str(device).partition(":")[0]
    if kind == "cpu":
        cores, threads = os.cpu_count(), torch.get_num_threads()
        compiled = ", compiled passes" if fused() else ""
        return f"cpu ({platform.machine()}, {cores} cores, {threads} threads{compiled})"
    if kind == "cuda":
        try:
            return f"cuda ({torch.cuda.get_device_name(device)})"
        except (AssertionError, RuntimeError, ValueError):
            return "cuda (name unknown)"
    return kind


def commit(package: Path = _PACKAGE) -> str | None:
    """Returns the git commit of the checkout that a package is run from.

    Args:
        package: Folder of the package.

    Returns:
        The full hash, with "-dirty" after it when a tracked file was changed; None when the package
        is not the `src/` folder of a checkout, nothing was committed yet, or git is absent.
    """
    top = _git(package, "rev-parse", "--show-toplevel")
    # A virtual environment may lie inside the checkout of something else.
    if top is None or Path(top).resolve() / "src" / package.name != package:
        return None
    head = _git(package, "rev-parse", "--verify", "--quiet", "HEAD")
    if not head:
        return None
    changed = _git(Path(top), "status", "--porcelain", "--untracked-files=no")
    return f"{head}-dirty" if changed else head


def _git(folder: Path, *arguments: str) -> str | None:
    # A variable such as GIT_DIR would answer for another checkout.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ("git", "--no-optional-locks", "-C", str(folder), *arguments)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=clean,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
