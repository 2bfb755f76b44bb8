"""Text files as bytes: found without surprises, read without hanging, refused when not text."""

from __future__ import annotations

import codecs
import gzip
import os
import stat
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple, cast

__all__ = ["NotTextError", "TextFile", "list_files", "read_text"]

_CHUNK = 1 << 20


class NotTextError(ValueError):
    """A file holds a NUL byte or bytes that are not UTF-8."""


class TextFile(NamedTuple):
    """The content of one text file.

    Attributes:
        content: Its bytes, valid UTF-8 without NUL, decompressed when the file was `.gz`.
        whole: False when a limit cut the content short.
    """

    content: bytes
    whole: bool


def read_text(path: Path, *, max_bytes: int | None = None) -> TextFile:
    """Reads a UTF-8 file as bytes; a name that ends in `.gz` is decompressed.

    Args:
        path: A regular file; never a pipe, a socket or a device, whose opening might wait for ever.
        max_bytes: Most bytes to read after decompression; the cut never splits a character.

    Returns:
        The content, and whether it is all there is.

    Raises:
        NotTextError: If the content has a NUL byte or is not UTF-8; names the first such offset.
        ValueError: If the file is missing, unreadable, not regular or not a whole gzip file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(
                f"`path` must be a regular file or a folder; got {_kind(path)}, {str(path)!r}. "
                "Write its content to a file first."
            )
        with _open(path) as stream:
            return _read_checked(stream, path, max_bytes)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"`path` must be a whole gzip file when its name ends in .gz; got {str(path)!r}, "
            f"which fails with {str(error)!r}. Copy the file again, or rename it if it is not "
            "compressed."
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def list_files(root: Path, *, skip: frozenset[str] = frozenset()) -> list[tuple[str, Path]]:
    """Lists the regular files below a folder, in the order of their relative POSIX paths.

    Hidden files and folders are skipped, and so are dangling links. Links are followed; each
    file and each folder is visited once, so loops end and no text is counted twice.

    Args:
        root: The folder.
        skip: Names of folders to pass over, wherever they are.

    Returns:
        Pairs of relative POSIX path and path.

    Raises:
        ValueError: If a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise unreadable(Path(cast("str", error.filename)), error) from error

    # A link to a folder above would otherwise walk the whole file system.
    above = root.resolve()
    folders = {str(folder) for folder in (above, *above.parents)}
    found: list[tuple[str, Path]] = []
    for folder, names, files in os.walk(root, followlinks=True, onerror=refuse):
        here = Path(folder)
        wanted = (n for n in sorted(names) if n[0] != "." and n not in skip)
        names[:] = [n for n in wanted if _is_new(here / n, folders)]
        found += [((here / n).relative_to(root).as_posix(), here / n) for n in files if n[0] != "."]
    found.sort()
    seen: set[str] = set()
    return [(name, path) for name, path in found if path.is_file() and _is_new(path, seen)]


def unreadable(path: Path, error: OSError) -> ValueError:
    """Returns the error for a path that the operating system will not give."""
    reason = error.strerror or type(error).__name__
    return ValueError(
        f"`path` must be a readable file or folder; got {str(path)!r}: {reason}. "
        "Check the spelling and the permissions."
    )


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _read_checked(stream: BufferedIOBase, path: Path, max_bytes: int | None) -> TextFile:
    decoder = codecs.getincrementaldecoder("utf-8")()
    content = bytearray()
    pending = 0
    while chunk := stream.read(
        min(_CHUNK, _CHUNK if max_bytes is None else max_bytes - len(content))
    ):
        text, nul, _ = chunk.partition(b"\0")
        try:
            decoder.decode(text)
        except UnicodeDecodeError as error:
            raise _not_text(path, len(content) - pending + error.start, "not UTF-8") from error
        if nul:
            raise _not_text(path, len(content) + len(text), "a NUL byte")
        content += chunk
        pending = len(decoder.getstate()[0])
    whole = not stream.read(1)
    if whole and pending:
        raise _not_text(path, len(content) - pending, "the start of an unfinished character")
    return TextFile(bytes(content[: len(content) - pending]), whole)


def _not_text(path: Path, offset: int, what: str) -> NotTextError:
    return NotTextError(
        f"`path` must hold UTF-8 text; got {str(path)!r}, whose byte {offset} is {what}. "
        "Convert it to UTF-8, or leave it out."
    )


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def _is_new(path: Path, seen: set[str]) -> bool:
    real = os.path.realpath(path)
    if real in seen:
        return False
    seen.add(real)
    return True
