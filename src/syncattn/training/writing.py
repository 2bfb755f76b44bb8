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


def require_name(directory: Path, name: str = "directory") -> None:
    """Refuses a folder whose name is no text: not everything that writes there could spell it.

    A plain C locale without Python's UTF-8 mode reads every letter beyond ASCII that way.

    Args:
        directory: Folder of the run.
        name: The argument, for the sentence.

    Raises:
        ValueError: If the name is not UTF-8.
    """
    try:
        str(directory).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"`{name}` must have a name in UTF-8; got {str(directory)!r}. Rename it, or set "
            f"PYTHONUTF8=1 where the locale is C."
        ) from error
