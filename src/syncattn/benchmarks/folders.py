"""The folder that a command writes: whether it can, and that one process at a time does."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from syncattn.training.writing import require_name

__all__ = ["BusyFolderError", "held", "holds_files", "require_output"]

_LOCK = ".lock"


class BusyFolderError(ValueError):
    """A folder that another process writes."""


@contextmanager
def held(folder: Path) -> Generator[None]:
    """Keeps other processes from writing a folder; the death of this one lets go of it too.

    Args:
        folder: The folder that `output` names; made if missing.

    Raises:
        BusyFolderError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyFolderError(
            f"`output` must be written by one process at a time; got {folder}, which is in use by "
            f"another process. Wait for its end, or choose another folder."
        ) from error
    except OSError:
        # Some file systems of clusters know no locks: what can be written there is worth a run.
        pass
    try:
        yield
    finally:
        # Removed while it is held: who comes after the release must not lose a lock of its own.
        with suppress(OSError):
            (folder / _LOCK).unlink()
        lock.release()


def holds_files(folder: Path) -> bool:
    """Tells whether there is anything in a folder; what a killed process held it by is nothing.

    Args:
        folder: The folder; may be missing.
    """
    return folder.exists() and any(path.name != _LOCK for path in folder.iterdir())


def require_output(folder: Path) -> None:
    """Refuses a folder that cannot be made or written, and leaves no trace of the trial.

    Args:
        folder: The folder that `output` names.

    Raises:
        ValueError: If it is a file, cannot be written, or has a name that is not UTF-8.
    """
    require_name(folder, "output")
    try:
        is_file = folder.exists() and not folder.is_dir()
        made = [path for path in (folder, *folder.parents) if not path.exists()]
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from error
    if is_file:
        raise ValueError(f"`output` must be a folder; got the file {folder}. Choose another name.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _unwritable(folder: Path, error: OSError | ValueError) -> ValueError:
    reason = error.strerror if isinstance(error, OSError) else error
    return ValueError(
        f"`output` must be a folder that can be written; got {str(folder)[:200]} ({reason}). "
        f"Choose another, or change its permissions."
    )
