"""Files are read without hanging, and refused when they are not text."""

import gzip
import os
import socket

import pytest

from syncattn.data.files import NotTextError, list_files, read_text


def test_plain_and_gzip_give_the_same_bytes(tmp_path):
    content = "phase θ\r\nend".encode()
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(content))
    assert read_text(tmp_path / "a.txt") == (content, True)
    assert read_text(tmp_path / "a.txt.gz") == (content, True)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_limit_never_splits_a_character(tmp_path, suffix):
    content = "aθb".encode()
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    assert read_text(path, max_bytes=1) == (b"a", False)
    assert read_text(path, max_bytes=2) == (b"a", False)
    assert read_text(path, max_bytes=3) == ("aθ".encode(), False)
    assert read_text(path, max_bytes=4) == (content, True)
    assert read_text(path, max_bytes=9) == (content, True)


@pytest.mark.parametrize(
    ("content", "offset", "what"),
    [
        (b"abc\0def", 3, "a NUL byte"),
        (b"abc\xff", 3, "not UTF-8"),
        (b"a\0\xff", 1, "a NUL byte"),
        (b"a\xff\0", 1, "not UTF-8"),
        (b"ab\xce", 2, "unfinished character"),
        (b"x" * ((1 << 20) - 1) + "θ".encode() + b"\xff", (1 << 20) + 1, "not UTF-8"),
        (b"x" * ((1 << 20) - 1) + b"\xce!", (1 << 20) - 1, "not UTF-8"),
        (b"x" * ((1 << 20) + 5) + b"\0", (1 << 20) + 5, "a NUL byte"),
    ],
)
@pytest.mark.parametrize("max_bytes", [None, 3 << 20])
def test_bytes_that_are_not_text_are_named(tmp_path, content, offset, what, max_bytes):
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(NotTextError, match=rf"a\.bin', whose byte {offset} is .*{what}"):
        read_text(path, max_bytes=max_bytes)


def test_an_unfinished_character_is_found_when_the_limit_is_the_size(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"ab\xce")
    with pytest.raises(NotTextError, match="byte 2"):
        read_text(path, max_bytes=3)


def test_gzip_that_is_not_or_is_cut_is_refused(tmp_path):
    whole = gzip.compress(bytes(range(32, 127)) * 50)
    damaged = bytearray(whole)
    damaged[20] ^= 255
    for content in (b"plain text", whole[:-20], bytes(damaged)):
        path = tmp_path / "a.gz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="whole gzip file"):
            read_text(path)


def test_pipes_sockets_devices_and_folders_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        kinds = {"pipe": "a named pipe", "socket": "a socket", "/dev/zero": "a device"}
        for name, kind in kinds.items():
            with pytest.raises(ValueError, match=f"regular file or a folder; got {kind}"):
                read_text(tmp_path / name)
    with pytest.raises(ValueError, match="got a folder"):
        read_text(tmp_path)


def test_missing_looping_and_forbidden_paths_are_refused(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ValueError, match="No such file"):
        read_text(tmp_path / "missing")
    with pytest.raises(ValueError, match="symbolic links"):
        read_text(tmp_path / "loop")
    with pytest.raises(ValueError, match="name too long"):
        read_text(tmp_path / ("x" * 300))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(ValueError, match=r"Permission denied\. Check the spelling"):
        read_text(tmp_path / "a.txt")


def test_listing_is_sorted_and_skips_hidden_and_named_folders(tmp_path):
    for name in ("b/z", "b.txt", "a/y", ".hidden", ".git/config", "skip/x", "a/skip/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    names = [name for name, _ in list_files(tmp_path, skip=frozenset({"skip"}))]
    assert names == ["a/y", "b.txt", "b/z"]
    assert "a/skip/x" in [name for name, _ in list_files(tmp_path)]


def test_links_are_followed_once_and_loops_end(tmp_path):
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "text").touch()
    (root / "a" / "up").symlink_to(root)
    (root / "above").symlink_to(tmp_path)
    (root / "system").symlink_to("/")
    (root / "again").symlink_to(root / "a" / "text")
    (root / "dangling").symlink_to(root / "nothing")
    (root / "self").symlink_to(root / "self")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "other").touch()
    (root / "linked").symlink_to(tmp_path / "outside")
    os.mkfifo(root / "pipe")
    assert [name for name, _ in list_files(root)] == ["a/text", "linked/other"]


def test_equal_files_that_share_their_storage_all_count(tmp_path):
    (tmp_path / "a").touch()
    os.link(tmp_path / "a", tmp_path / "b")
    assert [name for name, _ in list_files(tmp_path)] == ["a", "b"]


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(ValueError, match="Permission denied"):
        list_files(tmp_path)
