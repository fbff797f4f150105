"""A TraX server: evaluators that start trackers as processes, VOT's toolkit above all, run ours.

The protocol is in Cehovin Zajc, "TraX: The visual Tracking eXchange protocol and library", 2017; `vot-trax` speaks it.
Boxes and polygons are pixels, from 0 at the frame's upper left corner, and travel as text with four decimals.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import select
import shlex
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
from trax import Image, ImageChannel, Polygon, Rectangle, Region, Server, TraxException, TraxStatus

from siamtrt.boxes import BoxXywh
from siamtrt.errors import BoxError, FrameError, SiamtrtError
from siamtrt.manifest import load_manifest
from siamtrt.runtime.layout_vot import box_of_region
from siamtrt.runtime.state import Polygon as Corners
from siamtrt.runtime.tracker import Tracker

TOOLKIT_NAME = re.compile(r"[A-Za-z0-9_-]+")  # of a tracker in VOT's toolkit
PATIENCE_SECONDS = 2.0  # for a request of a client that has gone; one takes milliseconds to read
THE_END = "the end of the connection"
Answer = tuple[Any, dict[str, float]]  # a region and its properties


def ini_entry(name: str, bundle: Path | None) -> str:
    """The entry of `trackers.ini` with which VOT's toolkit starts a bundle's tracker, the default one's without.

    Raises:
        BundleError: no such bundle.
        SiamtrtError: a name that the toolkit does not take.
    """
    if not TOOLKIT_NAME.fullmatch(name):
        raise SiamtrtError(
            "no name for a tracker in VOT's toolkit", received=repr(name), expected="letters, digits, - and _",
            fix="choose another, e.g. --print-ini siamtrt",
        )
    if bundle:
        load_manifest(bundle)
    command = [sys.executable, "-m", "siamtrt.cli", "trax", *([str(bundle.resolve())] if bundle else [])]
    text = shlex.join(command).replace("%", "%%")  # % begins a substitution in .ini files
    return f"[{name}]\nprotocol = trax\ncommand = {text}\n"


def serve(tracker: Tracker) -> None:
    """Answer one TraX client, however often it starts on a target, until it quits.

    The client is at the port of this machine that TRAX_SOCKET names, or else at stdin and stdout. For a process of its
    own: in the second case, what anything else prints to stdout goes to stderr from here on.

    Raises:
        SiamtrtError: there is no client, it has gone without quitting, or it sent what cannot be answered, such as an
            unreadable image or a box outside it. A client that is there has been told.
    """
    reading = _connect()
    try:
        server = Server(
            [Region.RECTANGLE, Region.POLYGON], [Image.PATH, Image.MEMORY, Image.BUFFER],
            tracker_name=tracker.manifest.model,
        )
        for request in _requests(server, reading):
            server.status([_answer(tracker, request)])
    except TraxException as error:  # at the connection's end, its text is of whatever was in memory
        raise _broken(THE_END if _has_gone(reading, 0) else error) from error
    except SiamtrtError as error:
        with suppress(TraxException):  # nobody there any more
            server.quit(str(error))
        raise


def _connect() -> int:
    """Connect and tell TraX the descriptors to use. Returns the one that requests come from.

    TraX's own connecting tries a port where nobody listens for ever.
    """
    port = os.environ.pop("TRAX_SOCKET", None)
    if port is None:
        reading, writing = 0, os.dup(1)
        os.dup2(2, 1)
    else:
        try:
            with socket.create_connection(("127.0.0.1", int(port))) as link:
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # TraX writes in pieces; else 40 ms a frame
                reading = writing = link.detach()
        except (OSError, ValueError, OverflowError) as error:
            raise SiamtrtError(
                "no TraX client to talk to", received=f"TRAX_SOCKET={port} ({error})",
                expected="the port of a client on this machine", fix="let the evaluator start this command",
            ) from error
    os.environ.update(TRAX_IN=str(reading), TRAX_OUT=str(writing))
    return reading


def _requests(server: Server, reading: int) -> Iterator[Any]:
    """Every request up to the client's quit."""
    watch = _Watch(reading)
    while True:
        watch.waiting_since = monotonic()
        try:
            request = server.wait()
        finally:
            watch.waiting_since = math.inf
        if request.type == TraxStatus.QUIT:
            return
        yield request


class _Watch:
    """Ends the process where TraX waits for a client that has gone.

    It notices by itself, but not where the client went within an argument: then it reads the end for ever.
    """

    def __init__(self, reading: int) -> None:
        self.waiting_since = math.inf  # on `monotonic`'s clock; infinite while a request is answered
        threading.Thread(target=self._run, args=(reading,), daemon=True).start()

    def _run(self, reading: int) -> None:
        _has_gone(reading, None)
        while monotonic() - self.waiting_since < PATIENCE_SECONDS:  # what it had sent before is still answered
            sleep(PATIENCE_SECONDS / 10)
        print(f"siamtrt: {_broken(THE_END)}", file=sys.stderr, flush=True)
        os._exit(2)  # as for other errors of a user; no thread can end another


def _has_gone(reading: int, timeout_ms: int | None) -> bool:
    """Whether the client has closed its side by now, within a time, or, without one, whenever that is."""
    other_side = select.poll()
    other_side.register(reading, select.POLLRDHUP)
    return bool(other_side.poll(timeout_ms))


def _broken(reason: object) -> SiamtrtError:
    return SiamtrtError(
        "the TraX session broke off", received=reason, expected="whole requests in ASCII, the last one a quit",
        fix="let an evaluator start this command, and see what it says",
    )


def _answer(tracker: Tracker, request: Any) -> Answer:
    """The target's region and confidence after one request; of a start, the box that the tracker was given."""
    frame = _frame_of(request.image)
    if request.type == TraxStatus.INITIALIZE:
        box = _box_of(request.objects)
        tracker.init(frame, box)
        return _region(box), {"confidence": tracker.state.score}
    result = tracker.update(frame)
    return _region(result.box_xywh, result.polygon), {"confidence": result.score}


def _region(box_xywh: BoxXywh, polygon: Corners | None = None) -> Any:
    return Polygon.create([(float(x), float(y)) for x, y in polygon]) if polygon else Rectangle.create(*box_xywh)


def _box_of(objects: list[tuple[Any, Mapping[str, str]]]) -> BoxXywh:
    """The one target's upright box, of a polygon the one that `siamtrt eval` gives, too.

    The package turns masks into the polygons of their bounding boxes before it sends them to us.
    """
    regions = [region for region, _ in objects]
    if len(regions) != 1 or not isinstance(regions[0], (Rectangle, Polygon)):
        kinds = ", ".join(region.type for region in regions)
        raise BoxError(
            "no target that can be tracked", received=kinds, expected="one rectangle or polygon",
            fix="run a single-object experiment, on frames with the target",
        )
    (region,) = regions
    values = region.bounds() if isinstance(region, Rectangle) else itertools.chain.from_iterable(region)
    return box_of_region(tuple(values))


def _frame_of(images: Mapping[str, Any]) -> np.ndarray:
    """(H, W, 3) uint8 BGR of what the client sent: a path, pixels, or an encoded image.

    Raises:
        FrameError: none of it can be read.
    """
    image = images[ImageChannel.COLOR]
    what = "pixels"
    try:
        if image.type() == Image.MEMORY:
            return _from_memory(image.array())
        if image.type() == Image.PATH:
            what = image.path()
            frame = cv2.imread(what, cv2.IMREAD_COLOR)
        else:
            data = np.frombuffer(image.buffer(), np.uint8)
            what = f"{data.size} bytes"
            frame = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except (UnicodeDecodeError, cv2.error) as error:
        raise _unreadable(what, str(error)) from error
    if frame is None:
        raise _unreadable(what, "not an image")
    return frame


def _from_memory(pixels: np.ndarray) -> np.ndarray:
    """BGR of (H, W, 3) uint8 RGB, or of (H, W, 1) uint8 or uint16 grey, of which the higher byte counts."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_GRAY2BGR)


def _unreadable(what: str, reason: str) -> FrameError:
    return FrameError(
        "unreadable frame", received=f"{what} ({reason})", expected="an image that OpenCV reads",
        fix="check the evaluator's dataset",
    )
