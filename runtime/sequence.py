"""One sequence: its frames, and what is known of where its target is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from siamtrt.errors import SourceError
from siamtrt.runtime.sources import FrameSource, open_images, open_source


@dataclass(frozen=True)
class Sequence:
    """One sequence: (F, 4) xywh pixels, NaN rows where the target is absent; (1, 4) where only the first is known.

    Attributes:
        frames: a video, or a folder of images.
        images: those of the folder that belong to the sequence, in order; empty where all do.
        layout: the dataset's whose folders it was found in, of `siamtrt.runtime.layouts`; empty where unknown.
        regions: VOT's truth, the numbers of each line, none where the target is absent; empty where boxes are it.
        tags: VOT's attributes by name, (F,) whether it holds in a frame.
    """

    name: str
    frames: Path
    truth_xywh: np.ndarray
    images: tuple[Path, ...] = field(default=(), kw_only=True)
    layout: str = field(default="", kw_only=True)
    regions: tuple[tuple[float, ...], ...] = field(default=(), kw_only=True)
    tags: Mapping[str, np.ndarray] = field(default_factory=dict, kw_only=True)

    @property
    def init_only(self) -> bool:
        """Whether the first box is all that is known."""
        return len(self.truth_xywh) == 1

    @property
    def frame_size(self) -> tuple[int, int]:
        """Width and height in pixels, of the first frame.

        Raises:
            SourceError: it cannot be read.
        """
        height, width = next(iter(self.open())).shape[:2]
        return width, height

    def open(self) -> FrameSource:
        """The frames, from the first.

        Raises:
            SourceError: they cannot be opened; while reading, that they end before the ground truth or go on after it.
                Which of them a shorter ground truth means cannot be known, unless `layouts` knows the sequence.
        """
        path = self.frames.absolute()  # a relative folder 0001 would be a camera
        source = open_images(str(path), self.images) if self.images else open_source(path)
        return source if self.init_only else dataclasses.replace(source, frames=self._checked(source.frames))

    def _checked(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        lines, count = len(self.truth_xywh), 0
        for count, frame in enumerate(frames, start=1):
            if count > lines:
                raise mismatch(self, f"more than {lines} frames")
            yield frame
        if count < lines:
            raise mismatch(self, f"{count} frames")


def mismatch(sequence: Sequence, received: str) -> SourceError:
    """The error of frames and lines that are not as many."""
    lines = len(sequence.truth_xywh)
    return SourceError(
        f"frames and ground truth of {sequence.name} differ", received=f"{received} in {sequence.frames}",
        expected=f"{lines}, one for each line of the ground truth",
        fix="remove the frames that have no line, or add their lines; nan,nan,nan,nan where the target is absent",
    )  # fmt: skip
