"""The live page of a tracking loop: picture, box, score, response map, latency, and a new target by mouse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aiohttp import WSCloseCode, WSMsgType, web

from siamtrt.service.faults import Faults
from siamtrt.service.loop import TrackingLoop
from siamtrt.service.updates import Listener, Update
from siamtrt.service.view_messages import History, jpeg_of, message
from siamtrt.service.worker import Worker

PERIOD_S = 1 / 15  # between pictures
MOST_VIEWERS = 4
SILENT_S = 1.0  # without a picture, viewers are told the rest
UNREAD_S = 10.0  # a viewer that takes so long to read an answer is sent away
UNASKED_S = 30.0  # as is one that asks for nothing for so long: a page that nobody sees closes its connection
CLOSE_S = 0.1  # for a viewer's last word when the service ends
LARGEST_QUESTION = 64  # bytes
PARTS = ("view.css", "view.js", "view_draw.js", "view_drag.js")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
}  # fmt: skip


class _Sight(NamedTuple):
    """What a picture is made of."""

    update: Update
    frame: np.ndarray
    response: np.ndarray | None


class View(Listener):
    """Shows a loop to the pages that look; it costs the loop next to nothing while none does.

    Args:
        loop: what is shown; `view` has to be among its listeners.
        faults: shown too, and told of pictures that fail.
    """

    name = "view"

    def __init__(self, loop: TrackingLoop, faults: Faults) -> None:
        self._loop, self._faults = loop, faults
        self._history = History()
        self._waiting: set[asyncio.Future[bytes]] = set()  # changed in the server's thread alone
        self._server: asyncio.AbstractEventLoop | None = None
        self._viewers: set[web.WebSocketResponse] = set()
        self._busy = False
        self._due_s = 0.0
        self._worker: Worker[_Sight] = Worker(self.name, self._show, faults)

    def take(self, update: Update, frame: np.ndarray) -> None:
        """See `Listener`: a picture is due `1 / PERIOD_S` times a second at most, and only if a page waits for it."""
        self._history.add(update)
        now = time.monotonic()
        if self._busy or not self._waiting or now < self._due_s:
            return
        self._due_s = max(self._due_s, now - PERIOD_S) + PERIOD_S
        sight = _Sight(update, frame, self._loop.response())
        self._busy = True
        self._worker.put(sight)

    def close(self) -> None:
        """See `Listener`."""
        self._worker.close()

    def ended(self, timeout_s: float) -> bool:
        """See `Listener`."""
        return self._worker.ended(timeout_s)

    def _show(self, sight: _Sight) -> None:
        """In the worker's thread: make the picture once, for every page that waits."""
        try:
            whole = self._message(sight.update, sight.response, jpeg_of(sight.frame))
        finally:
            self._busy = False
        assert self._server is not None
        with suppress(RuntimeError):  # the server has ended
            self._server.call_soon_threadsafe(self._hand_out, whole)

    def _message(self, update: Update | None, response: np.ndarray | None = None, jpeg: bytes = b"") -> bytes:
        return message(self._loop.snapshot(), update, self._history.rows(), self._faults, response, jpeg)

    def _hand_out(self, whole: bytes) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(whole)
        self._waiting.clear()

    async def _next(self) -> bytes:
        """The message of the next picture; after `SILENT_S` without one, that of everything else."""
        self._server = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = self._server.create_future()
        self._waiting.add(future)
        try:
            return await asyncio.wait_for(future, SILENT_S)
        except asyncio.TimeoutError:
            return self._message(self._loop.snapshot().last)
        finally:
            self._waiting.discard(future)

    async def attend(self, request: web.Request) -> web.WebSocketResponse:
        """A page's connection: it asks with "next", and gets one message for it."""
        viewer = web.WebSocketResponse(
            timeout=CLOSE_S, receive_timeout=UNASKED_S, max_msg_size=LARGEST_QUESTION, compress=False
        )
        await viewer.prepare(request)
        if len(self._viewers) >= MOST_VIEWERS:
            await viewer.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too many viewers")
            return viewer
        self._viewers.add(viewer)
        try:
            with suppress(asyncio.TimeoutError, ConnectionError):
                while (question := await viewer.receive()).type is WSMsgType.TEXT and question.data == "next":
                    await asyncio.wait_for(viewer.send_bytes(await self._next()), UNREAD_S)
            if not viewer.closed and request.transport:
                request.transport.abort()  # it does not read: a polite end would wait in the same queue
        finally:
            self._viewers.discard(viewer)
        return viewer

    async def dismiss(self) -> None:
        """Close every page's connection."""
        ends = [viewer.close(code=WSCloseCode.GOING_AWAY, message=b"the service has ended") for viewer in self._viewers]
        await asyncio.gather(*ends)


def add_view(app: web.Application, view: View) -> None:
    """Serve a view's page at `/view/`; it posts what the user wants to `/control`."""
    app.router.add_get("/view/", _answer_with("view.html"))
    for name in PARTS:
        app.router.add_get(f"/view/{name}", _answer_with(name))
    app.router.add_get("/view/socket", view.attend)
    for short in ("/", "/view"):
        app.router.add_get(short, _lead_to_page)

    async def leave(_: web.Application) -> None:
        await view.dismiss()

    app.on_shutdown.append(leave)


async def _lead_to_page(_: web.Request) -> web.Response:
    raise web.HTTPFound("/view/")


def _answer_with(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    file = Path(__file__).with_name(name)
    data = file.read_bytes()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=data, content_type=TYPES[file.suffix], charset="utf-8", headers=HEADERS)

    return answer
