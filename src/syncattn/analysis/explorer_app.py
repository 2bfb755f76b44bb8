"""The explorer's page and its two questions over HTTP, on this machine alone."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncattn import _validation as check
from syncattn.analysis.explorer import Explorer, Settings

__all__ = ["HOST", "listening_socket", "make_app", "make_server"]

HOST = "127.0.0.1"
MOST_BYTES = 2_000_000
"""Of a request: 100,000 characters fit even where JSON spells each with twelve bytes."""
FILES = {
    "index.html": "text/html; charset=utf-8",
    "explorer.css": "text/css; charset=utf-8",
    "explorer.js": "text/javascript; charset=utf-8",
    "controls.js": "text/javascript; charset=utf-8",
    "drawing.js": "text/javascript; charset=utf-8",
    "player.js": "text/javascript; charset=utf-8",
}
"""The page, by name and type; nothing else is ever sent."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def make_app(explorer: Explorer, *, title: str, text: str, model: str | None = None) -> Starlette:
    """Returns the application; all that a tab has set comes with its requests, nothing is kept.

    Args:
        explorer: What answers.
        title: Name of the run.
        text: The text shown at first.
        model: The model shown at first; the first one when None.
    """
    start = {"title": title, "text": text, "model": model, "models": explorer.describe()}

    def described(_: Request) -> Response:
        return JSONResponse(start)

    async def look(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            # A page of another site can send no other type without asking first.
            return _refused(415, "The request must be JSON; got another type. Use the page.")
        try:
            body = await _body(request)
        except ClientDisconnect:
            return _refused(400, "The request must be whole; got its beginning. Send it again.")
        if body is None:
            return _refused(
                413, f"The request must have at most {MOST_BYTES:,} bytes; got more. Cut the text."
            )
        try:
            settings = Settings.read(json.loads(body))
            return JSONResponse(await run_in_threadpool(explorer.look, settings))
        except RecursionError:
            return _refused(400, "The request must be flat JSON; got a deep one. Use the page.")
        except (ValueError, TypeError) as error:
            return _refused(422, str(error))

    routes = [Route("/api/run", described), Route("/api/look", look, methods=["POST"])]
    routes += [Route(f"/{name}", _file(name, kind)) for name, kind in FILES.items()]
    routes += [Route("/", _file("index.html", FILES["index.html"]))]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(_Guarded),
            # Another name that points here would be a page of another site.
            Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]),
        ],
    )


def listening_socket(port: int) -> socket.socket:
    """Returns a socket that listens on this machine alone.

    Args:
        port: Which port; any free one when 0.

    Returns:
        The socket; its name tells the port.

    Raises:
        ValueError: If the port is in use, out of range or not allowed.
        TypeError: If it is not an integer.
    """
    check.require_integer(port, "port", minimum=0)
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
        found.listen(64)
    except (OSError, OverflowError) as error:
        found.close()
        raise ValueError(
            f"`port` must be a free port of this machine, at most 65535; got {port} "
            f"({getattr(error, 'strerror', None) or error}). Choose another, or 0 for any."
        ) from error
    return found


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Returns a quiet server; its `run` takes the sockets.

    Args:
        app: The application.
    """
    return uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", access_log=False, ws="none", lifespan="off",
            timeout_graceful_shutdown=2, server_header=False,
        )
    )  # fmt: skip


class _Guarded:
    """Adds to every answer what keeps a browser from loading or sending anything elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *more]
            await send(message)

        await self._app(scope, receive, guarded)


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    # Read once: an answer needs no disk, and a path in a request reaches no file.
    data = (resources.files("syncattn.analysis") / "explorer_page" / name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(data, headers={"content-type": kind})

    return answer


async def _body(request: Request) -> bytes | None:
    """Returns what was sent, None when it is too much to read."""
    parts: list[bytes] = []
    total = 0
    async for part in request.stream():
        total += len(part)
        if total > MOST_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


def _refused(status: int, sentence: str) -> Response:
    answer: Mapping[str, str] = {"error": sentence}
    return JSONResponse(answer, status_code=status)
