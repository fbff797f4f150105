"""The service over HTTP: health, metrics and results to read, control messages to post."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from aiohttp import web

from siamtrt.errors import SiamtrtError
from siamtrt.runtime.tracker import Tracker
from siamtrt.service.commands import CommandError
from siamtrt.service.control import ControlError, Message, Stop, Switch, Track, parse_message
from siamtrt.service.faults import Faults
from siamtrt.service.http_guard import Access, error_response, guarded_app, refused
from siamtrt.service.http_streams import MOST_STREAMS, Streams
from siamtrt.service.loop import Snapshot, TrackingLoop
from siamtrt.service.metrics import CONTENT_TYPE, Metrics

HEALTHY_S = 5.0  # without a frame for so long the service is not healthy
BODY_S = 5.0  # a control message that takes longer to arrive is given up
ANSWER_S = 5.0  # for the loop to carry out a command; later it is not carried out any more
SWITCH_S = 60.0  # for a bundle to open
Answer = TypeVar("Answer")
Openers = Mapping[str, Callable[[], Tracker]]
NO_BUNDLES: Openers = MappingProxyType({})


class UnknownBundleError(SiamtrtError):
    """A bundle that the config does not name."""


STATUSES: dict[type[SiamtrtError], int] = {ControlError: 400, UnknownBundleError: 404, CommandError: 503}
REFUSED = 422  # the message is fine, and what it asks for is not


def make_app(
    loop: TrackingLoop, faults: Faults, access: Access, metrics: Metrics, bundles: Openers = NO_BUNDLES
) -> web.Application:
    """The API of a tracking loop, which it listens to; for an `HttpServer`.

    Args:
        metrics: a listener of the loop.
        bundles: what control may switch to, by name.
    """
    app = guarded_app(access, faults)
    streams = Streams(faults)
    loop.listen(streams)
    app.on_shutdown.append(streams.stop)
    control = _Control(loop, faults, bundles)

    async def health(request: web.Request) -> web.Response:
        now = loop.snapshot()
        healthy = now.silent_s < HEALTHY_S
        shown = _described(now, faults) if access.knows(request) else {}
        return web.json_response({"healthy": healthy, **shown}, status=200 if healthy else 503)

    async def show_metrics(request: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def result(request: web.Request) -> web.Response:
        last = loop.snapshot().last
        return web.json_response(None if last is None else last.as_json())

    async def results(request: web.Request) -> web.StreamResponse:
        if streams.full:
            return refused(503, "too many readers", f"one more than {MOST_STREAMS}", "fewer", "close another one")
        return await streams.serve(request)

    app.router.add_get("/health", health)
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/result", result)
    app.router.add_get("/results", results)
    app.router.add_post("/control", control.answer)
    return app


def _described(now: Snapshot, faults: Faults) -> dict[str, Any]:
    return {
        "model": now.model, "backend": now.backend, "source": now.source, "silent_s": round(now.silent_s, 3),
        "uptime_s": round(now.uptime_s, 3), "updates": now.updates, "frames": now.feed_counts,
        "last": now.last and now.last.as_json(), "faults": faults.as_json(),
    }  # fmt: skip


class _Control:
    """Carries out control messages; each one refused is counted as "control_refused"."""

    def __init__(self, loop: TrackingLoop, faults: Faults, bundles: Openers) -> None:
        self._loop, self._faults, self._bundles = loop, faults, bundles

    async def answer(self, request: web.Request) -> web.Response:
        """The answer to a posted message."""
        response = await self._answer(request)
        if response.status >= 400:
            self._faults("control_refused", f"{response.status} {response.text}")
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return refused(415, "not JSON", request.content_type, "Content-Type: application/json", "set the header")
        try:
            body = await asyncio.wait_for(request.read(), BODY_S)
            return web.json_response(await self._carry_out(parse_message(body)))
        except SiamtrtError as error:
            return error_response(STATUSES.get(type(error), REFUSED), error)
        except web.HTTPException as error:
            return refused(error.status, "no usable body", error.reason, "at most 64 kB of JSON", "send less")
        except asyncio.TimeoutError:
            return refused(504, "took too long", "no answer in time", "a quicker client, or a loop with frames",
                           "see /health, and try again")  # fmt: skip

    async def _carry_out(self, message: Message) -> dict[str, Any]:
        if isinstance(message, Track):
            box = await _within(ANSWER_S, self._loop.track(message.box_xywh, message.unit))
            return {"box_xywh": [round(value, 3) for value in box]}
        if isinstance(message, Stop):
            await _within(ANSWER_S, self._loop.drop())
            return {}
        return await self._switch(message)

    async def _switch(self, message: Switch) -> dict[str, Any]:
        opener = self._bundles.get(message.bundle)
        if opener is None:
            raise UnknownBundleError(
                "no such bundle", received=repr(message.bundle),
                expected=" or ".join(sorted(self._bundles)) or "a config with bundles", fix="name it in the config",
            )
        switched = await _within(SWITCH_S, _in_thread(partial(self._loop.switch, opener)))
        await _within(ANSWER_S, switched)
        return {"bundle": message.bundle}


async def _within(seconds: float, future: Future[Answer]) -> Answer:
    return await asyncio.wait_for(asyncio.wrap_future(future), seconds)


def _in_thread(work: Callable[[], Answer]) -> Future[Answer]:
    """Work that may be slow, in a thread that does not keep the process from ending."""
    future: Future[Answer] = Future()
    future.set_running_or_notify_cancel()  # so that a client that waits no longer does not cancel it halfway

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name="siamtrt switch", daemon=True).start()
    return future
