"""A server of files on this machine, which may break off, and knows ranges."""

import contextlib
import http.server
import socket
import struct
import threading


class Server(http.server.BaseHTTPRequestHandler):
    """Serves bytes by name.

    Attributes:
        files: What there is.
        breaks_after: Bytes after which an answer ends too early; None for whole answers.
        resets: Whether it ends with a reset of the connection.
        ranges: The range of every request.
    """

    files: dict[str, bytes]
    breaks_after: int | None = None
    resets = False
    ranges: list[str | None]

    def do_GET(self):
        content = self.files.get(self.path.removeprefix("/"))
        if content is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(content):
            self.send_error(416)
            return
        body = content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.breaks_after])
        if self.resets:
            self.wfile.flush()
            # Closed without lingering, a connection is reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class Quiet(http.server.ThreadingHTTPServer):
    """A server that does not tell when a client, or it itself, hangs up."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def serving(files: dict[str, bytes]):
    """Yields the handler and the address of a server of files by name."""
    handler = type("Handler", (Server,), {"files": files, "ranges": []})
    running = Quiet(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield handler, f"http://127.0.0.1:{running.server_port}/"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
