"""Open streams that one thread reads: cameras, URLs, GStreamer pipelines, video files, images and Python iterables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from siamtrt.errors import SourceError

DEFAULT_FPS = 30.0
LAST_CAMERA = 2**31 - 1  # OpenCV takes a C int
MINIMUM_FRAMES = 2  # one to initialise on, one to track
OPEN_TIMEOUT_S = 5.0  # of a URL
READ_TIMEOUT_S = 7.0  # of a URL; above a feed's patience, which has named the stall by then
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "rtp", "srt")
APPSINK = "appsink drop=true max-buffers=1 sync=false"  # the newest frame, and none that waits
_SECRETS = (
    (re.compile(r"(\w:/+)\S*@"), r"\1***@"),  # up to the last @: passwords hold any character
    (re.compile(r"""(?i)(?<![a-z])((?:user|usr|pass|pwd|pw|token|secret|auth|api|key|sig)[\w-]*)="""
                r"""("[^"]*"|'[^']*'|[^\s&]*)"""), r"\1=***"),
)  # fmt: skip


class EndOfSource(SourceError):  # noqa: N818 -- no mistake of the user's
    """A finite source is over, or a feed was closed."""


class StreamLostError(Exception):
    """A live stream that ended, or that can no longer be read."""


class CorruptFrameError(Exception):
    """A frame the decoder could not decode; the next one may be whole."""


class Stream(Protocol):
    """An open source of frames; one thread reads and closes it."""

    fps: float

    def read(self) -> np.ndarray | None:
        """The next frame, in an array of its own: (H, W, 3) uint8 BGR, or whatever else the device gave.

        Raises:
            EndOfSource: a finite source is over.
            CorruptFrameError: this frame alone.
            StreamLostError: a live stream is gone; so says any other exception.
        """

    def close(self) -> None:
        """Free the device."""


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
    if " ! " in text:
        pipeline = gstreamer_pipeline(text)
        return Origin(redacted(pipeline), lambda: open_pipeline(pipeline), live=True)
    if URL.match(text):
        require_scheme(text)
        return Origin(redacted(text), lambda: open_url(text), live=True)
    raise SourceError(
        "no such source", received=redacted(text),
        expected="a video file, a folder of images, a camera index, a URL or a GStreamer pipeline",
        fix="check the path",
    )


def redacted(text: str) -> str:
    """A text without the credentials of URLs, query strings and GStreamer properties in it."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class CvStream:
    """What OpenCV has opened.

    Args:
        lost: what to raise when there is no further frame.
    """

    def __init__(self, capture: cv2.VideoCapture, lost: Callable[[], Exception]) -> None:
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else DEFAULT_FPS
        self._capture, self._lost = capture, lost

    @property
    def length(self) -> int | None:
        """Number of frames, None where the container does not say."""
        length = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        return length if length > 0 else None

    def read(self) -> np.ndarray | None:
        ok, frame = self._capture.read()
        if not ok:
            raise self._lost()
        return frame

    def close(self) -> None:
        self._capture.release()


def open_camera(index: int) -> CvStream:
    """Open a camera by its index.

    Raises:
        SourceError: there is none, or another program has it.
    """
    capture = cv2.VideoCapture(index) if index <= LAST_CAMERA else None
    if capture is None or not capture.isOpened():
        raise SourceError(
            "camera does not open", received=f"index {index}", expected="a connected camera",
            fix="try another index (ls /dev/video*), or check that no other program uses it",
        )
    return CvStream(capture, lambda: StreamLostError("the camera gave no frame"))


def open_video(path: Path) -> CvStream:
    """Open a video file.

    Raises:
        SourceError: OpenCV cannot decode it.
    """
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise SourceError(
            "unreadable video", received=f"{path} ({path.stat().st_size} bytes)", expected="a video OpenCV can decode",
            fix="convert it, e.g. ffmpeg -i IN -c:v libx264 OUT.mp4, or pass a folder of images",
        )
    return CvStream(capture, lambda: end_of(str(path)))


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


def require_scheme(url: str) -> None:
    """Raise unless a URL is of a kind that cameras and servers speak.

    Raises:
        SourceError: it is not.
    """
    scheme = URL.match(url)
    if scheme is None or scheme[1].lower() not in SCHEMES:
        raise SourceError(
            "no stream of this kind is read", received=redacted(url), expected=", ".join(f"{s}://" for s in SCHEMES),
            fix="check the URL; a file is given by its path",
        )


def open_url(url: str) -> Stream:
    """Open a stream of the network with PyAV, or with OpenCV's FFmpeg where PyAV is not installed.

    Raises:
        SourceError: it does not answer, or holds no video.
    """
    if find_spec("av") is None:
        return _open_url_with_opencv(url)
    from siamtrt.runtime.av_stream import AvStream

    try:
        return AvStream(url, OPEN_TIMEOUT_S, READ_TIMEOUT_S)
    except (OSError, ValueError, StreamLostError) as error:
        raise stream_refused(url, str(error)) from None  # the library's own message holds the credentials


def _open_url_with_opencv(url: str) -> CvStream:
    timeouts = {cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: OPEN_TIMEOUT_S, cv2.CAP_PROP_READ_TIMEOUT_MSEC: READ_TIMEOUT_S}
    options = [number for key, seconds in timeouts.items() for number in (key, int(1e3 * seconds))]
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, options)
    if not capture.isOpened():
        raise stream_refused(url, "OpenCV's FFmpeg does not say why")
    return CvStream(capture, lambda: StreamLostError("the stream ended or timed out"))


def stream_refused(url: str, reason: str) -> SourceError:
    """The error of a stream that cannot be opened."""
    return SourceError(
        "stream does not open", received=redacted(f"{url} ({reason})"),
        expected=f"a video stream that answers within {OPEN_TIMEOUT_S:.0f} s",
        fix="check address, credentials and network; play the URL with another program",
    )


class ImageStream:
    """Images in their order; None for one that cannot be read."""

    fps = DEFAULT_FPS

    def __init__(self, images: Sequence[Path]) -> None:
        self._left = iter(images)

    def read(self) -> np.ndarray | None:
        path = next(self._left, None)
        if path is None:
            raise end_of("the folder")
        return read_image(path)

    def close(self) -> None:
        pass


class IterableStream:
    """Frames of a Python iterable, copied: a generator may fill one buffer again and again."""

    fps = DEFAULT_FPS

    def __init__(self, frames: Iterable[np.ndarray]) -> None:
        self._frames = iter(frames)

    def read(self) -> np.ndarray | None:
        try:
            frame = next(self._frames)
        except StopIteration:
            raise end_of("the iterable") from None
        return frame.copy() if isinstance(frame, np.ndarray) else frame

    def close(self) -> None:
        pass


def end_of(name: str) -> EndOfSource:
    """The error that ends a finite source."""
    return EndOfSource("the source is over", received=f"the end of {name}", expected="another frame",
                       fix="nothing to repair; loop=True starts again")  # fmt: skip


def too_short(name: str, count: int) -> SourceError:
    """The error of a source with nothing to track."""
    return SourceError(
        "nothing to track", received=f"{count} frame{'s' * (count != 1)} in {name}",
        expected=f"at least {MINIMUM_FRAMES} frames", fix="use a longer video, or check that the file is whole",
    )


def list_images(folder: Path) -> list[Path]:
    """The images of a folder, frame 10 after frame 9."""
    return sorted((p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key under which frame 10 follows frame 9."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def read_image(path: Path) -> np.ndarray | None:
    """An image as BGR, None where OpenCV cannot decode it."""
    try:
        return cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:  # a header that claims more than OpenCV's limit of 2**30 pixels
        return None
