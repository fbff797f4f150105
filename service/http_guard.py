"""Who may ask an HTTP server what: tokens, names, origins; few connections, and none open for nothing."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from siamtrt.errors import SiamtrtError
from siamtrt.service.faults import Faults

MOST_CONNECTIONS = 64  # at a time; beyond them the one that has been idle for longest is closed
IDLE_S = 10.0  # a connection without a whole request is closed after so long, however slowly it sends one
SWEEP_S = 1.0  # between two looks for such connections
LARGEST_BODY = 1 << 16  # bytes
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: asked of every client, in `Authorization: Bearer TOKEN`.
        names: the hosts a request may be addressed to; None takes any. Without a token it keeps the pages of other
            sites out, whose name may be made to resolve to this machine.
        open_paths: that need no token.
    """

    token: str | None = None
    names: tuple[str, ...] | None = LOCAL_NAMES
    open_paths: tuple[str, ...] = ("/health",)

    def knows(self, request: web.Request) -> bool:
        """Whether the client has the token, if one is needed."""
        if self.token is None:
            return True
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, f"Bearer {self.token}".encode())

    def refusal(self, request: web.Request) -> web.Response | None:
        """The answer to a request that may not be made; None to one that may."""
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if self.names is not None and _name(host) not in self.names:
            return refused(403, "not addressed to this service", host, " or ".join(self.names), "use that name")
        if origin is not None and _netloc(origin) != host.lower():
            return refused(403, "asked by a page of another site", origin, f"a page of {host}", "use a program")
        if request.path not in self.open_paths and not self.knows(request):
            return refused(401, "no access", "no token, or a wrong one", "Authorization: Bearer TOKEN",
                           "send the first line of the service's token_file")  # fmt: skip
        return None


def refused(status: int, what: str, received: str, expected: str, fix: str) -> web.Response:
    """An error's four parts as JSON."""
    parts = {"error": what, "received": received[:200], "expected": expected, "fix": fix}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return web.json_response(parts, status=status, headers=headers)


def error_response(status: int, error: SiamtrtError) -> web.Response:
    """An error of the project as JSON."""
    return refused(status, error.what, str(error.received), str(error.expected), error.fix)


def _name(host: str) -> str:
    """The host of a Host header, without its port, lower case; empty where it is none."""
    with suppress(ValueError):
        return urlsplit(f"//{host}").hostname or ""
    return ""


def _netloc(origin: str) -> str:
    """Host and port of an Origin header; empty where it is none, as "null" is."""
    with suppress(ValueError):
        return urlsplit(origin).netloc.lower()
    return ""


class Connections:
    """Those of a server: not too many, and none that is open for nothing.

    One is idle unless a handler is at work for it: while it sends a request, and while it reads the answer.

    Args:
        faults: told of those closed because there are too many ("http_connections"), because they never sent a
            whole request ("http_idle") or because they do not read their answers ("http_slow_client").
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._busy: set[web.RequestHandler] = set()
        self._served: set[web.RequestHandler] = set()
        self._idle_since: dict[web.RequestHandler, float] = {}

    @contextmanager
    def busy(self, request: web.Request) -> Iterator[None]:
        """While a request is handled."""
        self._busy.add(request.protocol)
        self._served.add(request.protocol)
        try:
            yield
        finally:
            self._busy.discard(request.protocol)
            self._idle_since.pop(request.protocol, None)  # anew from the next look

    def accept(self, server: web.Server) -> asyncio.Protocol:
        """The protocol of a new connection; where there are too many it takes the place of the longest idle one."""
        self._note(server)
        if len(server.connections) >= MOST_CONNECTIONS:
            self._faults("http_connections", f"more than {MOST_CONNECTIONS} at once")
            if not self._idle_since:
                return _Refused()
            self._drop(min(self._idle_since, key=self._idle_since.__getitem__))
        return server()

    async def sweep(self, server: web.Server) -> None:
        """Close, now and then, those that have been idle for long."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self._note(server)
            late = time.monotonic() - IDLE_S
            for connection in [one for one, since in self._idle_since.items() if since < late]:
                if connection not in self._served:
                    self._faults("http_idle", f"a connection without a whole request in {IDLE_S:g} s")
                elif connection.transport is not None and _unsent(connection.transport):
                    self._faults("http_slow_client", f"answers not read in {IDLE_S:g} s")
                self._drop(connection)

    def _note(self, server: web.Server) -> None:
        now, present = time.monotonic(), set(server.connections)
        self._busy &= present
        self._served &= present
        self._idle_since = {one: self._idle_since.get(one, now) for one in present - self._busy}

    def _drop(self, connection: web.RequestHandler) -> None:
        self._idle_since.pop(connection, None)
        if connection.transport is not None:
            connection.transport.abort()


def _unsent(transport: asyncio.BaseTransport) -> int:
    """Bytes that the other side has left no room for."""
    return transport.get_write_buffer_size() if isinstance(transport, asyncio.WriteTransport) else 0


class _Refused(asyncio.Protocol):
    """A connection that is closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


CONNECTIONS = web.AppKey("connections", Connections)


def guarded_app(access: Access, faults: Faults) -> web.Application:
    """An application that answers those who may ask, and every mistake as JSON; both are counted.

    Refused requests are "http_refused", a handler's own failure is "http_failed".
    """
    connections = Connections(faults)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        with connections.busy(request):
            refusal = access.refusal(request)
            if refusal is None:
                return await _answer(request, handler, faults)
            faults("http_refused", f"{refusal.status} {request.method} {request.path!r}")
            return refusal

    app = web.Application(middlewares=[guard], client_max_size=LARGEST_BODY)
    app[CONNECTIONS] = connections
    app.on_response_prepare.append(_harden)
    return app


async def _answer(request: web.Request, handler: Handler, faults: Faults) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        faults("http_refused", f"{error.status} {request.method} {request.path!r}")
        return refused(error.status, error.reason.lower(), f"{request.method} {request.path}",
                       "a request that docs/serve.md describes", "check method and path")  # fmt: skip
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception as error:  # one client's request; the others go on
        faults("http_failed", f"{request.method} {request.path!r}: {type(error).__name__}: {error}")
        return refused(500, "the service failed", type(error).__name__, "an answer", "see its log")


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "no-store")
