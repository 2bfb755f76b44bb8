"""Downloads that go on where they stopped and are used only when their checksum is right."""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

__all__ = ["DownloadError", "RemoteFile", "download", "sha256_of"]

_CHUNK = 1 << 20
_TIMEOUT = 30.0
_BROKEN_OFF = (
    http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError,
)  # fmt: skip


class DownloadError(RuntimeError):
    """An official file could not be had: not reached, cut off, altered, or no room for it."""


class RemoteFile(NamedTuple):
    """A file of an official source.

    Attributes:
        url: Where it is.
        sha256: What it must be, lower-case hexadecimal.
        size: Its bytes, for the check of free space; None when unknown.
    """

    url: str
    sha256: str
    size: int | None = None

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


def download(remote: RemoteFile, folder: Path) -> Path:
    """Returns a file of an official source, fetched if the folder does not hold it yet.

    An interrupted download is kept beside the target as `.partial` and goes on from there where
    the server can; the name appears only once the checksum is right. Of several processes one
    fetches and the others wait.

    Args:
        remote: The file.
        folder: Where it is kept; made if missing.

    Returns:
        Its path.

    Raises:
        DownloadError: If the server cannot be reached, the disk is full, the download breaks off,
            or the checksum differs; a file with a wrong checksum is removed.
    """
    target = folder / remote.name
    if _is_whole(target, remote):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{remote.name}.lock"):
            if not _is_whole(target, remote):
                _fetch_whole(remote, folder, target)
    except _BROKEN_OFF as error:
        raise DownloadError(
            f"The download of {remote.url} must come to its end; it broke off: {error}. Run again "
            f"to go on from where it stopped, or give the file with --data."
        ) from error
    except OSError as error:
        raise _disk_error(folder, error) from error
    return target


def _is_whole(target: Path, remote: RemoteFile) -> bool:
    return target.is_file() and sha256_of(target) == remote.sha256


def _fetch_whole(remote: RemoteFile, folder: Path, target: Path) -> None:
    partial = folder / f"{remote.name}.partial"
    _require_room(remote, folder, partial)
    _fetch(remote.url, partial)
    found = sha256_of(partial)
    if found != remote.sha256:
        partial.unlink()
        raise DownloadError(
            f"The download of {remote.url} must have the sha256 {remote.sha256}; got {found}. It "
            f"was removed: run again, or give the right file with --data."
        )
    partial.replace(target)


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a file.

    Args:
        path: The file.

    Returns:
        Lower-case hexadecimal.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fetch(url: str, partial: Path) -> None:
    done = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer: Any = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        # 416: there is nothing after what we have.
        if error.code == 416 and done:
            return
        raise
    with answer, partial.open("ab" if answer.status == 206 else "wb") as stream:
        expected = answer.headers.get("Content-Length")
        received = 0
        while chunk := answer.read(_CHUNK):
            stream.write(chunk)
            received += len(chunk)
    if expected is not None and received < int(expected):
        raise http.client.IncompleteRead(b"", int(expected) - received)


def _require_room(remote: RemoteFile, folder: Path, partial: Path) -> None:
    if remote.size is None:
        return
    missing = remote.size - (partial.stat().st_size if partial.exists() else 0)
    if shutil.disk_usage(folder).free < missing:
        raise OSError(errno.ENOSPC, f"{missing:,} bytes are needed")


def _disk_error(folder: Path, error: OSError) -> DownloadError:
    return DownloadError(
        f"The folder of the downloads must take the file; {folder} does not: {error}. Free some "
        f"space, or choose another folder with --cache."
    )
