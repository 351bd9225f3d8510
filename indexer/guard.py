"""What stands before the page and the HTTP doors: who may ask, how large, how many at once."""

import asyncio
import hmac
import math
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import uvicorn
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.errors import UserError

MAX_BODY = 512 * 1024  # bytes: a batch of fifty sections
WORKERS, QUEUE = 2, 128  # searches at a time, and those that may wait or run
CONNECTIONS = 1024  # to the HTTP doors at a time
PAGES = 256  # pages open at a time
GRACE = 30  # seconds that requests under way have to finish after a stop
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
OPEN = ("/health",)  # what needs no token
SAFE_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# The page's own scripts and nothing else: no inline script, no other host, no frame around it. Streamlit
# writes its styles inline, and the page's icon is a data address.
PAGE_HEADERS = SAFE_HEADERS | {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
}

T = TypeVar("T")


class Busy(UserError):
    """The queue is full; `seconds` says when to come again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"busy: too many searches wait at present; come again in {seconds} s")
        self.seconds = seconds


class Gate:
    """Runs work in a few threads, and refuses it once `limit` pieces wait or run."""

    def __init__(self, workers: int = WORKERS, limit: int = QUEUE) -> None:
        self.pending = 0
        self._workers, self._limit = workers, limit
        self._seconds = 0.05  # what a piece takes, on the average of the last ones
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(workers, "search")

    async def run(self, work: Callable[[], T]) -> T:
        """The result of the work. Raises Busy at once where the queue is full."""
        return await asyncio.wrap_future(self._submit(work))

    def wait(self, work: Callable[[], T]) -> T:
        """The same for a caller that is no coroutine."""
        return self._submit(work).result()

    def _submit(self, work: Callable[[], T]) -> "Future[T]":
        with self._lock:
            if self.pending >= self._limit:
                raise Busy(min(60, max(1, math.ceil(self.pending * self._seconds / self._workers))))
            self.pending += 1
        piece = self._pool.submit(self._timed, work)
        piece.add_done_callback(self._done)
        return piece

    def _timed(self, work: Callable[[], T]) -> T:
        begin = time.monotonic()
        try:
            return work()
        finally:
            self._seconds += 0.1 * (time.monotonic() - begin - self._seconds)

    def _done(self, _: "Future[T]") -> None:
        with self._lock:
            self.pending -= 1

    def close(self) -> None:
        """Let the running pieces finish and end the threads."""
        self._pool.shutdown()


class Guard:
    """Refuses, before a request is read: foreign hosts, other sites' pages, a wrong token, a large body.

    A page of another site cannot reach the server under a name of its own (its Host is not one of
    `hosts`) nor from where it is (its Origin is not the server's); websockets are held to the same, and
    at most `sockets` of them are open at a time. `answered` is told of every answer to a request: the
    path of its route, its status and its seconds. Every answer carries `headers`.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str],
        token: str = "",
        answered: Callable[[str, int, float], None] = lambda path, status, seconds: None,
        *,
        max_body: int = MAX_BODY,
        sockets: int = 0,
        headers: Mapping[str, str] = SAFE_HEADERS,
    ) -> None:
        self._app = TrustedHostMiddleware(app, allowed_hosts=list(hosts), www_redirect=False)
        self._token, self._answered = token, answered
        self._max_body, self._sockets, self._open = max_body, sockets, 0
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin, status = time.monotonic(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        try:
            refusal = self._refusal(HTTPConnection(scope))
            if refusal:
                await refusal(scope, receive, noted)
            else:
                await self._app(scope, _limited(receive, self._max_body), noted)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._answered(path, status, time.monotonic() - begin)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(HTTPConnection(scope))
        if self._open >= self._sockets:
            refusal = problem(503, "busy: too many pages are open; come again later", {"Retry-After": "10"})
        if refusal:
            await refusal(scope, receive, send)  # instead of the websocket, as ASGI's extension has it
            return
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1

    def _refusal(self, request: HTTPConnection) -> JSONResponse | None:
        origin = request.headers.get("origin")
        scheme = {"ws": "http", "wss": "https"}.get(request.scope["scheme"], request.scope["scheme"])
        own = f"{scheme}://{request.headers.get('host', '')}"
        if origin is not None and origin.lower() != own.lower():
            return problem(403, "requests from other sites are refused")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 18 or int(length) > self._max_body:
            return problem(413, too_large(self._max_body))
        if self._token and request.scope["path"] not in OPEN:
            given = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
                advice = "send the header Authorization: Bearer TOKEN"
                return problem(401, advice, {"WWW-Authenticate": "Bearer"})
        return None


def page_guard(names: Sequence[str], megabytes: int) -> Middleware:
    """The Guard of the page: under which names it may be asked, how large an upload may be."""
    most = (megabytes + 1) * 1024 * 1024  # what surrounds the file in its form included
    hosts = [*LOOPBACK, *names]
    return Middleware(Guard, hosts=hosts, max_body=most, sockets=PAGES, headers=PAGE_HEADERS)


def _limited(receive: Receive, most: int) -> Receive:
    """The body, as far as `most` bytes, for what comes without its length."""
    total = 0

    async def limited() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > most:
            raise HTTPException(413, too_large(most))
        return message

    return limited


def too_large(most: int) -> str:
    """Why a body is refused."""
    return f"the body is larger than {most:,} bytes"


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal: one line under `detail`."""
    return JSONResponse({"detail": detail}, status, headers)


def open_to_others(host: str, token: str) -> None:
    """Raise UserError for an address that other machines can reach, where no token keeps them out."""
    if host not in LOOPBACK and not token:
        raise UserError(
            f"host {host} can be reached from other machines; set CITEMARK_TOKEN to a secret that its "
            "clients send, or leave --host at 127.0.0.1"
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError where the address cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise UserError(f"{host}:{port} cannot be listened on ({reason}); choose another --port") from None


def run(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until SIGTERM or an interrupt; requests under way are finished first."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn stops by it, and raises it once more at the end
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[listening])
