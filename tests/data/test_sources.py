import gzip
import hashlib
import zipfile

import pytest

from syncattn.data.download import DownloadError, RemoteFile
from syncattn.data.sources import (
    DataIdentity,
    Lookup,
    MissingDataError,
    default_cache,
    find_file,
    hash_parts,
    read_bytes,
)
from tests.data.serving import serving

REMOTE = RemoteFile("http://127.0.0.1:9/set.zip", hashlib.sha256(b"cached").hexdigest())


def test_order_is_given_then_cache_then_nothing(tmp_path):
    cache, folder = tmp_path / "cache", tmp_path / "mine"
    cache.mkdir(), folder.mkdir()
    lookup = Lookup(folder=folder, cache=cache)
    assert find_file(lookup, ["set.zip"], REMOTE) == (None, False)
    (cache / "set.zip").write_bytes(b"cached")
    assert find_file(lookup, ["set.zip"], REMOTE) == (cache / "set.zip", False)
    (folder / "set.zip").write_bytes(b"given")
    assert find_file(lookup, ["set.zip"], REMOTE) == (folder / "set.zip", True)


def test_another_file_in_the_cache_is_neither_taken_nor_replaced_unasked(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"must have the sha256 of its source.*Remove it"):
        Lookup(cache=tmp_path).official(REMOTE)
    assert (tmp_path / "set.zip").read_bytes() == b"something else"
    with serving({"set.zip": b"cached"}) as (_, address):
        remote = REMOTE._replace(url=f"{address}set.zip")
        path = Lookup(cache=tmp_path, may_download=True).official(remote)
    assert path is not None and path.read_bytes() == b"cached"


def test_samples_only_looks_nowhere(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"cached")
    lookup = Lookup(folder=tmp_path, cache=tmp_path, samples_only=True)
    assert find_file(lookup, ["set.zip"], REMOTE) == (None, False)


def test_a_file_may_be_given_by_itself(tmp_path):
    (tmp_path / "enwik8.gz").write_bytes(b"x")
    lookup = Lookup(folder=tmp_path / "enwik8.gz")
    assert lookup.given(["enwik8/enwik8*"]) == tmp_path / "enwik8.gz"
    assert lookup.given(["other/*.txt"]) is None


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match="`data` must be a folder"):
        Lookup(folder=tmp_path / "nowhere").given(["*"])


def test_cache_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SYNCATTN_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("SYNCATTN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "syncattn"


def test_contents_are_read_whatever_they_are_packed_in(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"text")
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"text"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("__MACOSX/wiki.train", "no")
        archive.writestr("folder/wiki.train", "text")
    assert {read_bytes(tmp_path / n, "wiki.train") for n in ("a.txt", "a.gz", "a.zip")} == {b"text"}


@pytest.mark.parametrize("name", ["a.gz", "a.zip"])
def test_a_damaged_file_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"not packed")
    with pytest.raises(ValueError, match="must be readable and whole"):
        read_bytes(tmp_path / name)


@pytest.mark.parametrize("name", ["a.gz", "a.zip"])
def test_a_file_damaged_in_the_middle_is_refused(tmp_path, name):
    path = tmp_path / name
    text = bytes(hashlib.sha256(bytes([n])).digest()[0] for n in range(256)) * 20
    if name == "a.gz":
        path.write_bytes(gzip.compress(text))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("text", text)
    content = bytearray(path.read_bytes())
    # Deflate has no third kind of block: the kind is in bits 1 and 2 of the stream's first byte.
    content[10 if name == "a.gz" else 34] |= 0b110
    path.write_bytes(content)
    with pytest.raises(ValueError, match="must be readable and whole"):
        read_bytes(path)


def test_a_zip_without_the_member_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("other", "text")
    with pytest.raises(ValueError, match=r"must hold wiki\.train"):
        read_bytes(tmp_path / "a.zip", "wiki.train")


def test_hash_knows_where_parts_end():
    assert hash_parts([b"ab", b"c"]) != hash_parts([b"a", b"bc"])


@pytest.mark.parametrize(
    ("extent", "whole"), [("whole", True), ("part", False), ("sample", False), ("generated", True)]
)
def test_identity_tells_whether_it_is_whole(extent, whole):
    values = DataIdentity("set", "0", extent, "here", {"train": 1}).as_dict()
    assert values["whole"] is whole
    assert values["extent"] == extent


def test_missing_data_says_what_to_give(tmp_path):
    error = Lookup(folder=tmp_path, cache=tmp_path).missing("the set", "Give set.zip.")
    assert "Give set.zip." in str(error)
    assert str(tmp_path) in str(error)
