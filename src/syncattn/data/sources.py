"""Where data is looked for: a path that is given, the cache, the official source, a sample."""

from __future__ import annotations

import gzip
import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from syncattn.data.download import DownloadError, RemoteFile, download, sha256_of

__all__ = ["DataIdentity", "Lookup", "MissingDataError", "find_file", "hash_parts", "read_bytes"]

Extent = Literal["whole", "part", "sample", "generated"]


class MissingDataError(RuntimeError):
    """No place holds the data of a task, and there is no sample of it."""


@dataclass(frozen=True)
class DataIdentity:
    """What the data of a run is, so that two results can be known to rest on the same.

    Attributes:
        name: A short name.
        sha256: Of everything that is used, split by split.
        extent: ``"whole"`` (the official set), ``"part"`` (a piece of it), ``"sample"`` (something
            else in its place) or ``"generated"``.
        source: Where it came from, in words.
        sizes: Numbers of bytes, tokens or examples in each split.
    """

    name: str
    sha256: str
    extent: Extent
    source: str
    sizes: dict[str, int] = field(default_factory=dict[str, int])

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values that JSON can hold; `whole` is False for a part or a sample."""
        return {
            "name": self.name, "sha256": self.sha256, "extent": self.extent,
            "whole": self.extent in {"whole", "generated"}, "source": self.source,
            "sizes": self.sizes,
        }  # fmt: skip


@dataclass(frozen=True)
class Lookup:
    """Where the data of tasks may be looked for, in this order.

    Attributes:
        folder: A path that the user gives; None for none.
        cache: Where downloads are kept.
        may_download: Whether official sources may be asked.
        may_sample: Whether a named sample may stand in.
        samples_only: Whether nothing but samples is wanted: every machine then has the same.
    """

    folder: Path | None = None
    cache: Path = field(default_factory=lambda: default_cache())
    may_download: bool = False
    may_sample: bool = True
    samples_only: bool = False

    def given(self, patterns: Iterable[str]) -> Path | None:
        """Returns the first file that one of the patterns names below the user's path.

        Args:
            patterns: Paths relative to the folder, with `*`; a path that is a file itself is taken
                when its name fits the last part of a pattern.

        Returns:
            The file; None without one.

        Raises:
            MissingDataError: If the path of the user does not exist.
        """
        if self.folder is None or self.samples_only:
            return None
        root = self.folder.expanduser()
        if not root.exists():
            raise MissingDataError(
                f"`data` must be a folder or a file that exists; got {root}. Check the spelling."
            )
        for pattern in patterns:
            if root.is_file() and root.match(pattern.rsplit("/", 1)[-1]):
                return root
            found = sorted(path for path in root.glob(pattern) if path.is_file())
            if found:
                return found[0]
        return None

    def official(self, remote: RemoteFile | None) -> Path | None:
        """Returns an official file from the cache, or downloads it if that is allowed.

        Args:
            remote: The file; None when there is no source with a published checksum.

        Returns:
            Its path; None when it is not there and may not be fetched.

        Raises:
            DownloadError: If it cannot be had, or the cache holds another file under its name and
                may not fetch the right one.
        """
        if remote is None or self.samples_only:
            return None
        if self.may_download:
            return download(remote, self.cache)
        path = self.cache / remote.name
        if not path.is_file():
            return None
        found = sha256_of(path)
        if found != remote.sha256:
            raise DownloadError(
                f"A file of the cache must have the sha256 of its source, {remote.sha256}; {path} "
                f"has {found}. Remove it, or allow the download."
            )
        return path

    def missing(self, what: str, hint: str) -> MissingDataError:
        """Returns the error for data that is nowhere.

        Args:
            what: The data, in words.
            hint: What to give.

        Returns:
            The error.
        """
        return MissingDataError(
            f"The data of the task must be found; {what} is neither in {self.folder or '--data'} "
            f"nor in the cache {self.cache}. {hint}"
        )


def default_cache() -> Path:
    """Returns `$SYNCATTN_CACHE`, or `syncattn` in the user's cache folder."""
    named = os.environ.get("SYNCATTN_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syncattn"


def find_file(
    lookup: Lookup, patterns: Iterable[str], remote: RemoteFile | None = None
) -> tuple[Path | None, bool]:
    """Returns a file of the user or of the official source.

    Args:
        lookup: Where to look.
        patterns: See `Lookup.given`.
        remote: See `Lookup.official`.

    Returns:
        The path, or None; and whether it is the user's.
    """
    given = lookup.given(patterns)
    if given is not None:
        return given, True
    return lookup.official(remote), False


def read_bytes(path: Path, member: str | None = None) -> bytes:
    """Returns the content of a plain file, a `.gz` file, or one member of a `.zip` file.

    Args:
        path: The file.
        member: End of the member's name in a zip file; its only file when None.

    Returns:
        The bytes.

    Raises:
        ValueError: If the file is damaged, or the member is not there.
    """
    try:
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes())
        if path.suffix != ".zip":
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n]
            fitting = [n for n in names if member is None or n.endswith(member)]
            if not fitting:
                raise ValueError(
                    f"The zip file must hold {member}; {path} holds {', '.join(names[:5])}. Give "
                    f"the right file."
                )
            return archive.read(fitting[0])
    # A zip file with a password is a RuntimeError.
    except (EOFError, zipfile.BadZipFile, zlib.error, OSError, RuntimeError) as error:
        raise ValueError(
            f"The file must be readable and whole; {path} is not: {error}. Copy it again."
        ) from error


def hash_parts(parts: Iterable[bytes]) -> str:
    """Returns the sha256 of byte strings, each preceded by its length.

    Args:
        parts: The strings, such as one per split.

    Returns:
        Lower-case hexadecimal; moving bytes from one part to the next changes it.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
