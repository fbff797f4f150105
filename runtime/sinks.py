"""Where results go: an annotated video, a CSV of boxes, a window."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from siamtrt.boxes import BoxXywh
from siamtrt.errors import SiamtrtError
from siamtrt.files import staged_file
from siamtrt.runtime.state import Polygon

CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
GREEN, AMBER, RED, WHITE, BLACK = (80, 220, 80), (60, 190, 250), (60, 60, 230), (255, 255, 255), (0, 0, 0)
COLOURS = {"locked": GREEN, "uncertain": AMBER}  # of a box; all others are red
WINDOW = "siamtrt: q or Esc ends"
CSV_HEADER = ("frame", "x", "y", "w", "h", "score", "polygon", "status")


class Shown(NamedTuple):
    """What is known of a frame: box, confidence, whether and how it was tracked, frame rate, corners if rotated."""

    box_xywh: BoxXywh
    score: float = 1.0
    status: str = "locked"
    fps: float = 0.0
    polygon: Polygon | None = None


class Sink(Protocol):
    """Takes every frame with its result."""

    def write(self, index: int, frame: np.ndarray, shown: Shown) -> bool:
        """Take one frame; False asks the run to end."""
        ...


def annotate(frame: np.ndarray, shown: Shown) -> np.ndarray:
    """A copy of the frame with box, score or status, and frames a second drawn on it."""
    picture = frame.copy()
    colour = COLOURS.get(shown.status, RED)
    x, y, w, h = (round(value) for value in shown.box_xywh)
    unit = max(1, round(min(frame.shape[:2]) / 360))
    corners = shown.polygon or ((x, y), (x + w, y), (x + w, y + h), (x, y + h))
    cv2.polylines(picture, [np.rint(corners).astype(np.int32)], True, colour, 2 * unit, cv2.LINE_AA)
    label = f"{shown.score:.2f}" if shown.status == "locked" else shown.status
    _label(picture, label, (x, y - 5 * unit), unit, colour)
    _label(picture, f"{shown.fps:.0f} fps" if shown.fps else "init", (8 * unit, 20 * unit), unit, WHITE)
    return picture


def _label(picture: np.ndarray, text: str, origin_xy: tuple[int, int], unit: int, colour: tuple[int, int, int]) -> None:
    """Text with a dark rim, kept inside the picture."""
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * unit, unit)
    x = min(max(origin_xy[0], 0), max(picture.shape[1] - width, 0))
    y = min(max(origin_xy[1], height), picture.shape[0] - 1)
    for ink, thickness in ((BLACK, 3 * unit), (colour, unit)):
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5 * unit, ink, thickness, cv2.LINE_AA)


class VideoSink:
    """Annotated video; the frame size is that of the first frame."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None

    def write(self, index: int, frame: np.ndarray, shown: Shown) -> bool:
        """See `Sink.write`."""
        if self._writer is None:
            self._writer = self._open((frame.shape[1], frame.shape[0]))
        self._writer.write(annotate(frame, shown))
        return True

    def _open(self, frame_size: tuple[int, int]) -> cv2.VideoWriter:
        fourcc = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._path), fourcc, self._fps, frame_size)
        if not writer.isOpened():
            raise SiamtrtError(
                "cannot encode the video", received=f"{frame_size[0]}x{frame_size[1]} as {self._path.suffix}",
                expected="a codec this OpenCV has", fix="try another suffix, e.g. --save out.avi",
            )
        return writer

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


class BoxesSink:
    """CSV with a header and one line a frame: frame number from 0, box in pixels, score, corners, status.

    The corners are those of a rotated box, x and y of each between spaces, where there is one.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(CSV_HEADER)

    def write(self, index: int, frame: np.ndarray, shown: Shown) -> bool:
        """See `Sink.write`."""
        corners = " ".join(f"{value:.3f}" for point in shown.polygon or () for value in point)
        box = (f"{value:.3f}" for value in shown.box_xywh)
        self._writer.writerow([index, *box, f"{shown.score:.4f}", corners, shown.status])
        return True

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class WindowSink:
    """A window on the desktop; q or Esc ends the run."""

    def __init__(self) -> None:
        require_display()

    def write(self, index: int, frame: np.ndarray, shown: Shown) -> bool:
        """See `Sink.write`."""
        cv2.imshow(WINDOW, annotate(frame, shown))
        return (cv2.waitKey(1) & 0xFF) not in (ord("q"), 27)

    def close(self) -> None:
        """Remove the window."""
        cv2.destroyAllWindows()


def has_display() -> bool:
    """Whether a window can be opened here."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def require_display() -> None:
    """Raise where no window can be opened.

    Raises:
        SiamtrtError: no display.
    """
    if not has_display():
        raise SiamtrtError(
            "no display", received="neither DISPLAY nor WAYLAND_DISPLAY set", expected="a desktop session",
            fix="give the box with --init x,y,w,h and write the result with --save out.mp4",
        )


def draw_box_with_mouse(frame: np.ndarray) -> BoxXywh:
    """Let the user drag the target's box; Enter accepts.

    Raises:
        SiamtrtError: no display, or nothing selected.
    """
    require_display()
    x, y, w, h = cv2.selectROI(WINDOW, frame, showCrosshair=False)
    cv2.destroyWindow(WINDOW)
    if w == 0 or h == 0:
        raise SiamtrtError("no target selected", received="an empty box", expected="a box dragged around the target",
                           fix="drag, then press Enter; or give --init x,y,w,h")  # fmt: skip
    return float(x), float(y), float(w), float(h)


@contextmanager
def video_sink(path: Path, fps: float) -> Iterator[VideoSink]:
    """An annotated video that is whole or absent.

    Raises:
        SiamtrtError: a suffix without a codec, or a directory that does not exist.
    """
    if path.suffix.lower() not in CODECS:
        raise SiamtrtError("unknown video format", received=path.name, expected=" or ".join(CODECS),
                           fix="name the file with one of these suffixes")  # fmt: skip
    with staged_file(path) as staging, closing(VideoSink(staging, fps)) as sink:
        yield sink


@contextmanager
def boxes_sink(path: Path) -> Iterator[BoxesSink]:
    """A CSV of boxes that is whole or absent."""
    with staged_file(path) as staging, closing(BoxesSink(staging)) as sink:
        yield sink
