"""Where frames come from: a video file, a folder of images, a camera, a stream of the network, a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamtrt.errors import SourceError
from siamtrt.runtime.live import Feed, LiveFeed, OnFault, ignore
from siamtrt.runtime.origins import origin_of
from siamtrt.runtime.streams import (
    DEFAULT_FPS,
    MINIMUM_FRAMES,
    EndOfSource,
    Stream,
    list_images,
    open_video,
    read_image,
    too_short,
)

__all__ = ["FrameSource", "list_images", "open_images", "open_source", "too_short"]

WAIT_S = 1.0  # for a frame of a live source, between looks at whether it is over


@dataclass
class FrameSource:
    """Frames in order, with what is known of them in advance.

    Attributes:
        name: for messages.
        frames: iterator of (H, W, 3) uint8 BGR frames.
        length: number of frames, None for a live source or where the container does not say.
        fps: frames a second at which they were recorded.
        live: frames arrive in real time and without end; those not taken in time are dropped.
    """

    name: str
    frames: Iterator[np.ndarray]
    length: int | None
    fps: float = DEFAULT_FPS
    live: bool = False

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames.

        Raises:
            SourceError: there is no frame, or only one.
        """
        count = 0
        for count, frame in enumerate(self.frames, start=1):  # noqa: B007
            yield frame
        if count < MINIMUM_FRAMES:
            raise too_short(self.name, count)


def open_source(source: str | Path, on_fault: OnFault = ignore) -> FrameSource:
    """Open a video file, a folder of images, a camera index, a URL or a GStreamer pipeline.

    The last three are live: each frame is the newest there is, and a stream that is lost is opened again, for ever.

    Args:
        on_fault: told what happens to a live source, see `LiveFeed`.

    Raises:
        SourceError: missing, unreadable or empty, or it does not answer.
    """
    origin = origin_of(source)
    if origin.live:
        feed = LiveFeed(origin, on_fault)
        return FrameSource(feed.name, _newest_frames(feed), None, feed.fps, live=True)
    path = Path(source)
    if path.is_dir():
        return open_images(str(path), list_images(path))
    stream = open_video(path)
    return FrameSource(str(path), _read(stream), stream.length, stream.fps)


def open_images(name: str, images: Sequence[Path]) -> FrameSource:
    """Open images in their order; `name` is for messages.

    Raises:
        SourceError: fewer than two.
    """
    if len(images) < MINIMUM_FRAMES:
        raise too_short(name, len(images))
    return FrameSource(name, _read_images(images), len(images))


def _newest_frames(feed: Feed) -> Iterator[np.ndarray]:
    with closing(feed), suppress(EndOfSource):
        while True:
            captured = feed.newest(WAIT_S)
            if captured is not None:
                yield captured.frame


def _read(stream: Stream) -> Iterator[np.ndarray]:
    with closing(stream), suppress(EndOfSource):
        while True:
            frame = stream.read()
            if frame is not None:
                yield frame


def _read_images(images: Sequence[Path]) -> Iterator[np.ndarray]:
    for path in images:
        frame = read_image(path)
        if frame is None:
            raise SourceError(
                "unreadable image", received=str(path), expected="a picture OpenCV can decode",
                fix="remove or replace it",
            )
        yield frame
