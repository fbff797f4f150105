"""Our trackers for the experiments of the got10k toolkit. Importing this needs the package `got10k`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from got10k.trackers import Tracker as ToolkitTracker

from siamtrt.runtime.tracker import Tracker

if TYPE_CHECKING:
    from PIL.Image import Image


class Got10kTracker(ToolkitTracker):
    """A tracker as got10k's experiments call it: `init(image, box)`, then `update(image)`.

    Its experiments give a tracker the first box as it stands in the dataset's files, and compare its boxes with the
    others as they stand. Where a dataset counts pixels from 1, as OTB does, boxes go in and come out so, and nothing is
    subtracted: `siamtrt eval` does the same.

    Args:
        tracker: open; closed by whoever opened it.
        name: of the folder of results; the tracker's model without one.

    Example:
        with Tracker.load("out/default") as tracker:
            ours = Got10kTracker(tracker)
            experiment = ExperimentOTB("data/OTB", version=2015)
            experiment.run(ours)
            experiment.report([ours.name])
    """

    def __init__(self, tracker: Tracker, name: str | None = None) -> None:
        super().__init__(name or tracker.manifest.model, is_deterministic=True)  # one run of a sequence is enough
        self._tracker = tracker

    def init(self, image: Image, box: Sequence[float]) -> None:
        """Take the target from an image; the box is x, y, width and height in pixels.

        Raises:
            FrameError, BoxError: see `siamtrt.Tracker.init`.
        """
        self._tracker.init(_frame_of(image), box)

    def update(self, image: Image) -> np.ndarray:
        """(4,) box of the target in the next image: x, y, width and height in pixels.

        Raises:
            FrameError: see `siamtrt.Tracker.update`.
        """
        return np.array(self._tracker.update(_frame_of(image)).box_xywh)


def _frame_of(image: Image) -> np.ndarray:
    """(H, W, 3) uint8 BGR; experiments on VOT pass images as their files have them, grey ones too."""
    return cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR)
