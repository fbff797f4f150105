"""Results to HTTP clients as they come: lines of JSON, to each as fast as it reads, or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

import numpy as np
from aiohttp import web

from siamtrt.service.faults import Faults
from siamtrt.service.updates import Listener, Update

MOST_STREAMS = 16
MOST_LINES = 256  # that may wait for a client, 8 s at 30 frames a second, besides what the sockets hold
LOOK_S = 1.0  # how often a client without results is looked after


class Streams(Listener):
    """A listener that passes results on to clients; one too slow for them is dropped ("http_slow_client")."""

    name = "http streams"

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._clients: tuple[_Client, ...] = ()  # replaced, never changed: the loop's thread reads it
        self._stopped = False

    @property
    def full(self) -> bool:
        """Whether there are as many as there may be."""
        return len(self._clients) >= MOST_STREAMS

    def take(self, update: Update, frame: np.ndarray) -> None:
        """See `Listener`."""
        if clients := self._clients:
            line = update.encoded() + b"\n"
            for client in clients:
                with suppress(RuntimeError):  # the server has ended
                    client.loop.call_soon_threadsafe(client.offer, line)

    async def stop(self, app: web.Application) -> None:
        """End every stream; for the application's `on_shutdown`."""
        self._stopped = True
        for client in self._clients:
            client.wake()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Stream to a client until it goes, or the server stops."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        client = _Client(request, self._faults)
        self._clients = (*self._clients, client)
        try:
            await response.prepare(request)
            while client.connected and not self._stopped:
                for line in await client.lines():
                    await response.write(line)
            await response.write_eof()
        finally:
            self._clients = tuple(other for other in self._clients if other is not client)
        return response


class _Client:
    """One that reads, and the lines that wait for it; all in the server's thread."""

    def __init__(self, request: web.Request, faults: Faults) -> None:
        self.loop = asyncio.get_running_loop()
        self._request, self._faults = request, faults
        self._lines: deque[bytes] = deque()
        self._changed = asyncio.Event()

    @property
    def connected(self) -> bool:
        transport = self._request.transport
        return transport is not None and not transport.is_closing()

    def offer(self, line: bytes) -> None:
        """A line more; a client with too many is cut off."""
        if len(self._lines) < MOST_LINES:
            self._lines.append(line)
            self.wake()
        elif self.connected:
            self._faults("http_slow_client", f"{self._request.remote}: {MOST_LINES} results wait")
            assert self._request.transport is not None
            self._request.transport.abort()

    def wake(self) -> None:
        """Let `lines` return."""
        self._changed.set()

    async def lines(self) -> list[bytes]:
        """Those that wait; waits for one, but not for long."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), LOOK_S)
        self._changed.clear()
        lines = [*self._lines]
        self._lines.clear()
        return lines
