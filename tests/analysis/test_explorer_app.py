import json
import re
import socket
import urllib.error
import urllib.request
from importlib import resources

import pytest

from tests.analysis.explored import TEXT, build, served

app = pytest.importorskip(
    "syncattn.analysis.explorer_app", reason="needs the extra: pip install 'syncattn[explore]'"
)


@pytest.fixture(scope="module")
def address():
    with served({"selective": build("selective"), "softmax": build("softmax")}) as address:
        yield address


def ask(url, data=None, **headers):
    """Returns status, headers and body."""
    if data is not None and not isinstance(data, bytes):
        data = json.dumps(data).encode()
    if data is not None:
        headers.setdefault("content-type", "application/json")
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def look(address, **settings):
    status, _, body = ask(f"{address}/api/look", settings)
    return status, json.loads(body)


def test_the_page_and_its_parts(address):
    status, headers, body = ask(f"{address}/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    page = body.decode()
    assert "<h1>syncattn explorer</h1>" in page
    for name in re.findall(r'(?:src|href)="/([^"]+)"', page):
        assert ask(f"{address}/{name}")[0] == 200


def test_nothing_on_the_page_names_another_place():
    folder = resources.files("syncattn.analysis") / "explorer_page"
    found = {item.name for item in folder.iterdir()}
    assert found == set(app.FILES)
    for name in found:
        assert not re.search(r"(?:https?:)?//\w", (folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", ["/", "/api/run", "/no-such-page"])
def test_a_browser_is_told_to_load_nothing_from_elsewhere(address, path):
    _, headers, _ = ask(address + path)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_what_there_is(address):
    described = json.loads(ask(f"{address}/api/run")[2])
    assert described["title"] == "a run"
    assert described["text"] == TEXT
    assert [model["name"] for model in described["models"]] == ["selective", "softmax"]


def test_two_tabs_keep_their_own_settings(address):
    status, first = look(address, text="one tab", off=[{"layer": 0}])
    assert status == 200
    _, second = look(address, text="another", model="softmax", query=2)
    _, again = look(address, text="one tab", off=[{"layer": 0}])
    assert again == first
    assert second["changed"] == []
    assert second["query"] == 2
    assert first["changed"] == ["layer 1 off"]


@pytest.mark.parametrize("text", ["🌀" * 9, "\x00\x1b", "\ud800", "a" * 100_000, "🌀" * 100_000])
def test_odd_texts_come_back_as_json(address, text):
    status, seen = look(address, text=text)
    assert status == 200
    assert len(seen["tokens"]) <= 40


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"text": ""}, 422, "`text` must hold"),
        ({"text": "a", "layer": 9}, 422, "`layer` must be at most"),
        ({"text": "a", "strength": "high"}, 422, "`strength`"),
        (b"{not json", 422, "Expecting"),
        (b"\xff\xff\xff", 422, "utf"),
        (b'{"text": "a", "strength": NaN}', 422, "`strength` must be finite"),
        (b"[" * 100_000, 400, "flat"),
        (b" " * 2_000_001, 413, "at most 2,000,000 bytes"),
    ],
)
def test_what_cannot_be_meant_gets_a_sentence(address, body, status, named):
    code, _, answer = ask(f"{address}/api/look", body)
    assert code == status
    assert named in json.loads(answer)["error"]


def test_other_sites_are_turned_away(address):
    assert ask(f"{address}/", host="evil.example")[0] == 400
    assert ask(f"{address}/api/look", b"{}", **{"content-type": "text/plain"})[0] == 415
    assert "access-control-allow-origin" not in ask(f"{address}/api/run")[1]


def test_a_browser_that_goes_away_leaves_no_traceback(address, capfd):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"POST /api/look HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: 1000\r\n\r\n{{".encode()
        )
    assert ask(f"{address}/api/run")[0] == 200
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("path", ["/../cli.py", "/%2e%2e/cli.py", "/explorer_page", "/docs"])
def test_no_path_reaches_a_file(address, path):
    assert ask(address + path)[0] == 404


def test_only_this_machine_is_listened_to():
    with app.listening_socket(0) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_a_port_in_use_or_impossible_is_refused():
    with app.listening_socket(0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(ValueError, match=f"`port` must be a free port .* got {port}"):
            app.listening_socket(port)
    with pytest.raises(ValueError, match="`port` must be a free port"):
        app.listening_socket(70_000)
