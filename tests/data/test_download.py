import hashlib
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from syncattn.data import download as module
from syncattn.data.download import DownloadError, RemoteFile, download, sha256_of
from tests.data.serving import serving

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serving({"set.bin": CONTENT}) as (handler, address):
        yield handler, f"{address}set.bin"


def test_a_file_is_fetched_once(server, tmp_path):
    handler, url = server
    for _ in range(2):
        path = download(RemoteFile(url, DIGEST, len(CONTENT)), tmp_path / "cache")
        assert path.read_bytes() == CONTENT
    assert handler.ranges == [None]


def test_of_two_at_once_one_fetches_and_the_other_waits(server, tmp_path):
    handler, url = server
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: download(RemoteFile(url, DIGEST), tmp_path), range(4)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert handler.ranges == [None]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    handler, url = server
    handler.breaks_after = 1_000
    with pytest.raises(DownloadError, match="broke off"):
        download(RemoteFile(url, DIGEST), tmp_path)
    handler.breaks_after = None
    assert download(RemoteFile(url, DIGEST), tmp_path).read_bytes() == CONTENT
    assert handler.ranges == [None, "bytes=1000-"]


def test_a_connection_that_is_reset_is_no_fault_of_the_disk(server, tmp_path):
    handler, url = server
    handler.breaks_after, handler.resets = 1_000, True
    with pytest.raises(DownloadError, match=r"broke off.*Run again to go on"):
        download(RemoteFile(url, DIGEST), tmp_path)
    assert not (tmp_path / "set.bin").exists()
    handler.breaks_after, handler.resets = None, False
    assert download(RemoteFile(url, DIGEST), tmp_path).read_bytes() == CONTENT


def test_a_server_that_does_not_have_it(server, tmp_path):
    _, url = server
    with pytest.raises(DownloadError, match="broke off: HTTP Error 404"):
        download(RemoteFile(url.replace("set", "other"), DIGEST), tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device of Linux")
def test_a_disk_that_fills_up_on_the_way_is_told(server, tmp_path):
    _, url = server
    (tmp_path / "set.bin.partial").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"No space left on device\. Free some space"):
        download(RemoteFile(url, DIGEST), tmp_path)
    assert not (tmp_path / "set.bin").exists()


def test_a_wrong_checksum_is_refused_and_removed(server, tmp_path):
    _, url = server
    with pytest.raises(DownloadError, match="must have the sha256 0000"):
        download(RemoteFile(url, "0" * 64), tmp_path)
    assert not list(tmp_path.glob("set*"))


def test_a_complete_partial_file_is_taken(server, tmp_path):
    _, url = server
    (tmp_path / "set.bin.partial").write_bytes(CONTENT)
    assert download(RemoteFile(url, DIGEST), tmp_path).read_bytes() == CONTENT


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(DownloadError, match="--data"):
        download(RemoteFile("http://127.0.0.1:9/set.bin", DIGEST), tmp_path)


def test_a_disk_without_room_is_noticed_before(server, tmp_path, monkeypatch):
    handler, url = server
    usage = types.SimpleNamespace(free=10)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match="Free some space"):
        download(RemoteFile(url, DIGEST, len(CONTENT)), tmp_path)
    assert handler.ranges == []


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    assert sha256_of(tmp_path / "a") == DIGEST
