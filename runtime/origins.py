"""What the text of a SOURCE means: a file, a folder, a camera, a URL or a GStreamer pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

from siamtrt.errors import SourceError
from siamtrt.runtime.streams import (
    MINIMUM_FRAMES,
    CvStream,
    ImageStream,
    Stream,
    StreamLostError,
    list_images,
    open_camera,
    open_video,
    too_short,
)
from siamtrt.runtime.urls import is_url, open_url, redacted, require_scheme

APPSINK = "appsink drop=true max-buffers=1 sync=false"  # the newest frame, and none that waits


@dataclass(frozen=True)
class Origin:
    """Where a source's frames come from, to be opened as often as needed.

    Attributes:
        name: for messages, without credentials.
        open: opens it; raises SourceError.
        live: a device or a network that gives frames in its own time, and comes back after it was lost.
        own_pace: `open` gives frames when they arise, so that playing in real time need not slow them down.
    """

    name: str
    open: Callable[[], Stream]
    live: bool = False
    own_pace: bool = False


def origin_of(source: str | Path) -> Origin:
    """What a SOURCE text means; nothing is opened yet.

    Raises:
        SourceError: no such file, or a pipeline or URL that cannot be opened here.
    """
    text, path = str(source), Path(source)
    if text.isdecimal():
        return Origin(f"camera {int(text)}", lambda: open_camera(int(text)), live=True)
    if path.is_dir():
        images = list_images(path)
        if len(images) < MINIMUM_FRAMES:
            raise too_short(text, len(images))
        return Origin(text, lambda: ImageStream(images))
    if path.is_file():
        return Origin(text, lambda: open_video(path))
    if path.is_char_device():
        return Origin(text, lambda: open_camera(text), live=True)
    if " ! " in text:
        pipeline = gstreamer_pipeline(text)
        return Origin(redacted(pipeline), lambda: open_pipeline(pipeline), live=True)
    if is_url(text):
        require_scheme(text)
        return Origin(redacted(text), lambda: open_url(text), live=True)
    raise SourceError(
        "no such source", received=redacted(text),
        expected="a video file, a folder of images, a camera index, a URL or a GStreamer pipeline",
        fix="check the path",
    )


def open_pipeline(pipeline: str) -> CvStream:
    """Open a GStreamer pipeline that ends in an appsink.

    Raises:
        SourceError: GStreamer does not start it.
    """
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise SourceError(
            "GStreamer pipeline does not start", received=redacted(pipeline), expected="a pipeline that gives frames",
            fix="try it with gst-launch-1.0, fakesink in place of appsink; see docs/jetson.md",
        )
    return CvStream(capture, lambda: StreamLostError("the pipeline gave no frame"))


def gstreamer_pipeline(text: str) -> str:
    """A pipeline that ends in an appsink, which is added where it has none.

    Raises:
        SourceError: OpenCV has no GStreamer, or the pipeline ends in another sink.
    """
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise SourceError(
            "this OpenCV has no GStreamer", received=redacted(text), expected="an OpenCV built with GStreamer",
            fix="pip's opencv-python has none; docs/jetson.md says how to use JetPack's or to build one",
        )
    last = (text.rpartition("!")[2].split() or [""])[0]
    if last == "appsink":
        return text
    if last.endswith("sink"):
        raise SourceError(
            "the pipeline's frames go elsewhere", received=redacted(text), expected="a pipeline that ends in appsink",
            fix=f"replace {last}, and what follows it, with: {APPSINK}",
        )
    return f"{text} ! {APPSINK}"
