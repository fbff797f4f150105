"""Where frames come from: a video file, a folder of images, a camera."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from siamtrt.errors import SourceError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
DEFAULT_FPS = 30.0
LAST_CAMERA = 2**31 - 1  # OpenCV takes a C int
MINIMUM_FRAMES = 2  # one to initialise on, one to track


@dataclass
class FrameSource:
    """Frames in order, with what is known of them in advance.

    Attributes:
        name: for messages.
        frames: iterator of (H, W, 3) uint8 BGR frames.
        length: number of frames, None for a camera or where the container does not say.
        fps: frames a second at which they were recorded.
        live: frames arrive in real time and without end.
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


def too_short(name: str, count: int) -> SourceError:
    """The error of a source with nothing to track."""
    return SourceError(
        "nothing to track", received=f"{count} frame{'s' * (count != 1)} in {name}",
        expected=f"at least {MINIMUM_FRAMES} frames", fix="use a longer video, or check that the file is whole",
    )


def open_source(source: str | Path) -> FrameSource:
    """Open a camera index, a video file or a folder of images.

    Raises:
        SourceError: missing, unreadable or empty.
    """
    text = str(source)
    if text.isdecimal():
        return _open_camera(int(text))
    path = Path(source)
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise SourceError(
            "no such source", received=text, expected="a video file, a folder of images or a camera index",
            fix="check the path",
        )
    return _open_video(path)


def _open_camera(index: int) -> FrameSource:
    capture = cv2.VideoCapture(index) if index <= LAST_CAMERA else None
    if capture is None or not capture.isOpened():
        raise SourceError(
            "camera does not open", received=f"index {index}", expected="a connected camera",
            fix="try another index (ls /dev/video*), or check that no other program uses it",
        )
    return FrameSource(f"camera {index}", _read(capture), None, _fps(capture), live=True)


def _open_video(path: Path) -> FrameSource:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise SourceError(
            "unreadable video", received=f"{path} ({path.stat().st_size} bytes)", expected="a video OpenCV can decode",
            fix="convert it, e.g. ffmpeg -i IN -c:v libx264 OUT.mp4, or pass a folder of images",
        )
    length = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return FrameSource(str(path), _read(capture), length if length > 0 else None, _fps(capture))


def _open_folder(path: Path) -> FrameSource:
    return open_images(str(path), list_images(path))


def list_images(folder: Path) -> list[Path]:
    """The images of a folder, frame 10 after frame 9."""
    return sorted((p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=_natural)


def open_images(name: str, images: Sequence[Path]) -> FrameSource:
    """Open images in their order; `name` is for messages.

    Raises:
        SourceError: fewer than `MINIMUM_FRAMES`.
    """
    if len(images) < MINIMUM_FRAMES:
        raise too_short(name, len(images))
    return FrameSource(name, _read_images(images), len(images))


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key under which frame 10 follows frame 9."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def _fps(capture: cv2.VideoCapture) -> float:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps < 1000 else DEFAULT_FPS


def _read(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    try:
        while True:
            ok, frame = capture.read()
            if not ok:
                return
            yield frame
    finally:
        capture.release()


def _read_images(images: Sequence[Path]) -> Iterator[np.ndarray]:
    for path in images:
        frame = _read_image(path)
        if frame is None:
            raise SourceError(
                "unreadable image", received=str(path), expected="a picture OpenCV can decode",
                fix="remove or replace it",
            )
        yield frame


def _read_image(path: Path) -> np.ndarray | None:
    try:
        return cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:  # a header that claims more than OpenCV's limit of 2**30 pixels
        return None
