"""Boxes of every frame of a sequence: its ground truth, or where only the first is known, what the tracker finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from siamtrt.boxes import BoxXywh, check_box
from siamtrt.calibration.sampling import Candidates, candidates_of
from siamtrt.errors import BoxError, CalibrationError, FrameError, SourceError
from siamtrt.runtime.crop import check_frame
from siamtrt.runtime.sequences import Sequence
from siamtrt.runtime.state import TargetState, state_from_box
from siamtrt.runtime.track import tracked_frames
from siamtrt.runtime.tracker import Tracker, require_same_size

Label = Callable[[Sequence], np.ndarray]
ABSENT = (np.nan,) * 4


def labels_by_tracking(bundle: Path | str, threads: int | None = None, progress: bool = False) -> Label:
    """A label that tracks from the first box with the bundle's FP32 graphs, on ONNX Runtime.

    Boxes are the tracker's, (F, 4) xywh in pixels, NaN where its status is not "locked". A tracker that never says
    "lost" goes on with the background where it loses the target.

    Args:
        bundle: directory written by `siamtrt export`.
        threads: CPU threads of one run; see `open_session`.
        progress: show a bar on stderr.

    Raises, when it is called:
        CalibrationError: no output of the network is finite.
        BundleError: the bundle is incomplete or edited.
        SourceError, FrameError, BoxError: see `tracked_frames`.
    """

    def label(sequence: Sequence) -> np.ndarray:
        source, box = sequence.open(), sequence.truth_xywh[0].tolist()
        with Tracker.load(bundle, "onnxruntime", threads=threads) as tracker:
            tracked = tracked_frames(tracker, source, lambda frame: box)
            seen = tqdm(tracked, sequence.name, source.length, unit="frame", disable=None if progress else True)
            boxes, statuses = [], set()
            for item in seen:
                boxes.append(ABSENT if item.result and not item.result.ok else item.box_xywh)
                statuses.add(item.result.status if item.result else "given")
        if statuses == {"given", "invalid"}:
            raise CalibrationError(
                f"{sequence.name} cannot be labelled", received="FP32 outputs that are not finite in every frame",
                expected="finite values", fix="check the checkpoint's weights",
            )  # fmt: skip
        return np.array(boxes)

    return label


@dataclass(frozen=True)
class Labelled:
    """A sequence with (F, 4) boxes, the (width, height) of its frames, and what can be cut from it."""

    sequence: Sequence
    boxes_xywh: np.ndarray
    frame_size: tuple[int, int]
    candidates: Candidates

    def box(self, number: int) -> BoxXywh:
        """The target in a frame."""
        x, y, width, height = self.boxes_xywh[number].tolist()
        return x, y, width, height

    def state(self, number: int) -> TargetState:
        """What a tracker knows that has found the target in a frame exactly."""
        return state_from_box(self.box(number))

    def frames(self, count: int) -> Iterator[tuple[int, np.ndarray]]:
        """The first `count` frames with their numbers, from 0.

        Raises:
            SourceError: fewer frames, or one that is unusable or of another size than the first.
        """
        number = -1
        for number, frame in enumerate(islice(self.sequence.open(), count)):
            try:
                require_same_size(frame, self.frame_size)
            except FrameError as error:
                raise _unusable(self.sequence, number, error) from error
            yield number, frame
        if number + 1 < count:
            raise SourceError(
                f"{self.sequence.name} is shorter than its boxes", received=f"{number + 1} frames",
                expected=f"at least {count}", fix="check that the file is whole, or remove the boxes that are too many",
            )  # fmt: skip


def labelled_sequence(sequence: Sequence, label: Label | None) -> Labelled:
    """A sequence with its ground truth, or with the boxes that `label` gives where only the first is known.

    Raises:
        CalibrationError: only the first is known and there is no `label`, or what it gives are not (F, 4) boxes.
        SourceError: the first frame cannot be read.
    """
    boxes = _labels(sequence, label) if sequence.init_only else sequence.truth_xywh
    first = next(iter(sequence.open()))
    try:
        size = check_frame(first)
    except FrameError as error:
        raise _unusable(sequence, 0, error) from error
    visible = np.array([_is_target(box, size) for box in boxes.tolist()])
    return Labelled(sequence, boxes, size, candidates_of(boxes, visible))


def _labels(sequence: Sequence, label: Label | None) -> np.ndarray:
    if label is None:
        raise CalibrationError(
            "sequence without boxes", received=f"{sequence.name} with a box in its first frame alone",
            expected="a box in every frame", fix="label it first, or pass label=labels_by_tracking(bundle)",
        )  # fmt: skip
    boxes = np.asarray(label(sequence), np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise CalibrationError(
            f"unusable labels of {sequence.name}", received=f"an array of shape {boxes.shape}",
            expected="(F, 4), a box for each frame", fix="correct the label function",
        )  # fmt: skip
    return boxes


def _is_target(box_xywh: list[float], frame_size: tuple[int, int]) -> bool:
    try:
        check_box(box_xywh, frame_size)
    except BoxError:
        return False
    return True


def _unusable(sequence: Sequence, number: int, error: FrameError) -> SourceError:
    return SourceError(
        f"{error.what} in {sequence.name}, frame {number}", received=error.received, expected=error.expected,
        fix="remove the frame and its box, or convert the sequence to pictures of one size",
    )
