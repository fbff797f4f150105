"""`siamtrt serve`: a config made into a tracking loop with its source, outputs and controls."""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np

from siamtrt.boxes import BoxXywh
from siamtrt.default_tracker import default_bundle
from siamtrt.manifest import load_manifest
from siamtrt.runtime.live import open_feed
from siamtrt.runtime.tracker import Tracker
from siamtrt.runtime.watched import WatchedTracker
from siamtrt.service.commands import CommandError
from siamtrt.service.config import ServiceConfig, is_loopback, read_token
from siamtrt.service.faults import Faults
from siamtrt.service.http_api import make_app
from siamtrt.service.http_guard import LOCAL_NAMES, Access
from siamtrt.service.http_server import HttpServer
from siamtrt.service.jsonl import JsonlOutput
from siamtrt.service.logs import logging_to_stderr
from siamtrt.service.loop import TrackingLoop
from siamtrt.service.mavlink import MavlinkCamera
from siamtrt.service.metrics import Metrics
from siamtrt.service.mqtt import MqttOutput
from siamtrt.service.systemd import Systemd
from siamtrt.service.udp import UdpOutput
from siamtrt.service.view import View, add_view
from siamtrt.service.worker import Output, OutputListener

LOG = logging.getLogger("siamtrt.service")
WARM_FRAME, WARM_BOX = (240, 320, 3), (130.0, 90.0, 60.0, 60.0)


def serve_and_log(config: ServiceConfig) -> None:
    """`serve`, with its log on standard error."""
    faults = Faults()
    with logging_to_stderr(faults):
        serve(config, faults)


def serve(config: ServiceConfig, faults: Faults) -> None:
    """Track, tell and obey until SIGTERM, SIGINT, or the end of a finite source; then everything is flushed and closed.

    Raises:
        SiamtrtError: bundle, source, output or address that cannot be opened; a target that is not in the first frame;
            nothing is left behind.
    """
    with suppress(KeyboardInterrupt), ExitStack() as opened:  # a stop before it runs
        check_bundles(config)
        tracker = opened.enter_context(closing(open_tracker(config, config.bundle)))
        source = str(config.source)
        feed = opened.enter_context(
            closing(open_feed(source, loop=config.loop, realtime=config.realtime, on_fault=faults))
        )
        loop = TrackingLoop(tracker, feed, faults)
        opened.pop_all()
        opened.callback(_end, loop)
        target = _take_first(loop, config.target) if config.target else None
        told = _attach_outputs(loop, config, faults)
        places = [server.address for server in _start_servers(loop, config, faults)]
        LOG.info("%s tracks %s; listens on %s; results to %s", tracker.manifest.model, feed.name,
                 ", ".join(places) or "nothing", ", ".join(told) or "nowhere else")  # fmt: skip
        systemd = Systemd()
        loop.listen(systemd)
        with _stopped_by_signals(loop):
            opened.pop_all()  # the loop closes everything
            systemd.ready()
            loop.run(systemd.alive)
        if target:
            with suppress(CommandError):  # no frame ever came
                target.result()


def check_bundles(config: ServiceConfig) -> str:
    """Read the manifest of every bundle of a config; returns the name of the tracker it begins with.

    Raises:
        SiamtrtError: one is missing, or damaged.
    """
    for bundle in config.bundles.values():
        load_manifest(bundle)
    return load_manifest(config.bundle or default_bundle()).model


def open_tracker(config: ServiceConfig, bundle: str | None) -> Tracker:
    """Open a bundle, the default tracker's for None, and run it once: the first frame is not to wait for that.

    Raises:
        SiamtrtError: it does not open.
    """
    kind = WatchedTracker if config.watch else Tracker
    tracker = kind.load(bundle, config.backend, threads=config.threads)
    try:
        frame = np.zeros(WARM_FRAME, np.uint8)
        tracker.init(frame, WARM_BOX)
        tracker.update(frame)
    except BaseException:
        tracker.close()
        raise
    return tracker


def _end(loop: TrackingLoop) -> None:
    """Close all that belongs to a loop that never ran."""
    loop.stop()
    loop.run()


def _take_first(loop: TrackingLoop, target_xywh: Sequence[float]) -> Future[BoxXywh]:
    """Ask for the config's target, however late the first frame comes; the loop ends if it is refused."""
    taken = loop.track(target_xywh, patience_s=math.inf)
    taken.add_done_callback(lambda done: loop.stop() if done.exception() else None)
    return taken


def _attach_outputs(loop: TrackingLoop, config: ServiceConfig, faults: Faults) -> list[str]:
    """Make the outputs listen; returns their names."""
    outputs, names = config.outputs, []
    openers: list[Callable[[], Output]] = [
        *(partial(JsonlOutput, row) for row in outputs.jsonl), *(partial(UdpOutput, row) for row in outputs.udp),
        *(partial(MqttOutput, row) for row in outputs.mqtt),
    ]  # fmt: skip
    for opener in openers:
        output = opener()
        loop.listen(OutputListener(output, faults))
        names.append(output.name)
    if outputs.mavlink:
        loop.listen(MavlinkCamera(outputs.mavlink, loop, faults))
        names.append(f"mavlink {outputs.mavlink.url}")
    return names


def _start_servers(loop: TrackingLoop, config: ServiceConfig, faults: Faults) -> list[HttpServer]:
    """Listen on the addresses of the config; the servers end with the loop."""
    places: list[tuple[tuple[str, int] | Path, Access]] = []
    if config.http:
        token = read_token(config.http)
        names = (*LOCAL_NAMES, config.http.host) if is_loopback(config.http.host) else None
        places.append(((config.http.host, config.http.port), Access(token, names)))
    if config.unix:
        places.append((Path(config.unix), Access(None, None)))
    if not places:
        return []
    metrics = Metrics(loop, faults)
    loop.listen(metrics)
    openers = {name: partial(open_tracker, config, bundle) for name, bundle in config.bundles.items()}
    apps = [make_app(loop, faults, access, metrics, openers) for _, access in places]
    if config.view:
        loop.listen(view := View(loop, faults))
        add_view(apps[0], view)
    servers = [HttpServer(app, place, faults) for app, (place, _) in zip(apps, places, strict=True)]
    for server in servers:
        loop.listen(server)
        server.start()
    if config.view:
        LOG.info("the live page is %s/view/", servers[0].address)
    return servers


@contextmanager
def _stopped_by_signals(loop: TrackingLoop) -> Iterator[None]:
    """SIGTERM and SIGINT end the loop; only the main thread may ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(kind, lambda *_: loop.stop()) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
