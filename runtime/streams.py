"""Open streams that one thread reads: a camera, a video file, images, a Python iterable."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from siamtrt.errors import SourceError

DEFAULT_FPS = 30.0
LAST_CAMERA = 2**31 - 1  # OpenCV takes a C int
MINIMUM_FRAMES = 2  # one to initialise on, one to track
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


class EndOfSource(SourceError):
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


class CvStream:
    """What OpenCV has opened.

    Args:
        lost: what to raise when there is no further frame.
    """

    def __init__(self, capture: cv2.VideoCapture, lost: Callable[[], Exception]) -> None:
        self.fps = plausible_fps(capture.get(cv2.CAP_PROP_FPS))
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


def open_camera(camera: int | str) -> CvStream:
    """Open a camera by its index, or by its device file, which unlike the index stays when it is plugged in again.

    Raises:
        SourceError: there is none, or another program has it.
    """
    capture = None if isinstance(camera, int) and camera > LAST_CAMERA else cv2.VideoCapture(camera)
    if capture is None or not capture.isOpened():
        raise SourceError(
            "camera does not open", received=f"index {camera}" if isinstance(camera, int) else camera,
            expected="a connected camera",
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


def plausible_fps(fps: float) -> float:
    """The rate a container or a driver names, or 30 where it names none that a camera has."""
    return fps if 0 < fps < 1000 else DEFAULT_FPS


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
