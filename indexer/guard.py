"""What stands before the HTTP doors: who may ask, how large a request may be, how many run at once."""

import asyncio
import hmac
import math
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import uvicorn
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.errors import UserError

MAX_BODY = 512 * 1024  # bytes: a batch of fifty sections
TOO_LARGE = f"the body is larger than {MAX_BODY:,} bytes"
GRACE = 30  # seconds that requests under way have to finish after a stop
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
OPEN = ("/health",)  # what needs no token

T = TypeVar("T")


class Busy(Exception):
    """The queue is full; `seconds` says when to come again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"busy: come again in {seconds} s")
        self.seconds = seconds


class Gate:
    """Runs work in a few threads, and refuses it once `limit` pieces wait or run."""

    def __init__(self, workers: int, limit: int) -> None:
        self.pending = 0
        self._workers, self._limit = workers, limit
        self._seconds = 0.05  # what a piece takes, on the average of the last ones
        self._pool = ThreadPoolExecutor(workers, "search")

    async def run(self, work: Callable[[], T]) -> T:
        """The result of the work. Raises Busy at once where the queue is full."""
        if self.pending >= self._limit:
            wait = self.pending * self._seconds / self._workers
            raise Busy(min(60, max(1, math.ceil(wait))))
        self.pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._timed, work)
        finally:
            self.pending -= 1

    def _timed(self, work: Callable[[], T]) -> T:
        begin = time.monotonic()
        try:
            return work()
        finally:
            self._seconds += 0.1 * (time.monotonic() - begin - self._seconds)

    def close(self) -> None:
        """Let the running pieces finish and end the threads."""
        self._pool.shutdown()


class Guard:
    """Refuses, before a request is read: foreign hosts, other sites' pages, a wrong token, a large body.

    A page of another site cannot reach the server under a name of its own (its Host is not one of
    `hosts`) nor from where it is (its Origin is not the server's). `answered` is told of every answer:
    the path of its route, its status and its seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str],
        token: str = "",
        answered: Callable[[str, int, float], None] = lambda path, status, seconds: None,
    ) -> None:
        self._app = TrustedHostMiddleware(app, allowed_hosts=list(hosts), www_redirect=False)
        self._token, self._answered = token, answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.monotonic(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            refusal = self._refusal(Request(scope))
            if refusal:
                await refusal(scope, receive, noted)
            else:
                await self._app(scope, _limited(receive), noted)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._answered(path, status, time.monotonic() - begin)

    def _refusal(self, request: Request) -> JSONResponse | None:
        origin = request.headers.get("origin")
        own = f"{request.url.scheme}://{request.headers.get('host', '')}"
        if origin is not None and origin.lower() != own.lower():
            return problem(403, "requests from other sites are refused")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            return problem(413, TOO_LARGE)
        if self._token and request.url.path not in OPEN:
            given = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
                advice = "send the header Authorization: Bearer TOKEN"
                return problem(401, advice, {"WWW-Authenticate": "Bearer"})
        return None


def _limited(receive: Receive) -> Receive:
    """The body, as far as MAX_BODY, for what comes without its length."""
    total = 0

    async def limited() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MAX_BODY:
            raise HTTPException(413, TOO_LARGE)
        return message

    return limited


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
        timeout_graceful_shutdown=GRACE,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[listening])
