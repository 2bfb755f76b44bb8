"""What goes wrong with a disk, said in one sentence."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

__all__ = ["require_name", "writing"]


@contextmanager
def writing(directory: Path) -> Generator[None]:
    """Turns a failed write, full disk or missing rights, into a sentence.

    Args:
        directory: Folder of the run.

    Raises:
        OSError: If anything inside could not be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OSError(
            f"`directory` must take what a run writes; got {reason!r} below {str(directory)!r}. "
            f"Free space or change the rights, then go on with `resume`."
        ) from error


def require_name(directory: Path) -> None:
    """Refuses a folder whose name is no text: not everything that writes there could spell it.

    Args:
        directory: Folder of the run.

    Raises:
        ValueError: If the name is not UTF-8.
    """
    try:
        str(directory).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"`directory` must have a name in UTF-8; got {str(directory)!r}. Rename it."
        ) from error
