import hashlib
import http.server
import threading
import types

import pytest

from syncattn.data import download as module
from syncattn.data.download import DownloadError, RemoteFile, download, sha256_of

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves one file, with ranges; may break off after some bytes."""

    breaks_after = None
    ranges: list[str | None]

    def do_GET(self):
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.breaks_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Server,), {"ranges": []})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield handler, f"http://127.0.0.1:{running.server_port}/set.bin"
    running.shutdown()
    running.server_close()
    thread.join()


def test_a_file_is_fetched_once(server, tmp_path):
    handler, url = server
    for _ in range(2):
        path = download(RemoteFile(url, DIGEST, len(CONTENT)), tmp_path / "cache")
        assert path.read_bytes() == CONTENT
    assert handler.ranges == [None]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    handler, url = server
    handler.breaks_after = 1_000
    with pytest.raises(DownloadError, match="broke off"):
        download(RemoteFile(url, DIGEST), tmp_path)
    handler.breaks_after = None
    assert download(RemoteFile(url, DIGEST), tmp_path).read_bytes() == CONTENT
    assert handler.ranges == [None, "bytes=1000-"]


def test_a_wrong_checksum_is_refused_and_removed(server, tmp_path):
    _, url = server
    with pytest.raises(DownloadError, match="must have the sha256 0000"):
        download(RemoteFile(url, "0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


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
